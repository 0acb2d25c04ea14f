"""--epochs auto: the plan of its steps, until a plateau of the validation Dice and after it."""

import pytest

from utils.training.optimization.schedule import first_plan, has_stalled, open_plan


@pytest.mark.parametrize(
    ('scores', 'stalled'),
    [
        ([], False), ([0.9, 0.9], False),
        ([0.5, 0.8, 0.8], True), ([0.5, 0.8, 0.82], False), ([0.8, 0.8, 0.7], True),
        # Thirds of two: errors of 0.2 and 0.2, then 0.19 and 0.18, 7.5 % less; or 0.19 and 0.2.
        # Of four, five and eight validations a third is one, two and three.
        ([0, 0, 0.5, 0.6], False), ([0, 0.6, 0.5, 0.6, 0.5], True),
        ([0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], True),
        ([0, 0, 0.8, 0.8, 0.81, 0.82], False), ([0, 0, 0.8, 0.8, 0.81, 0.8], True),
        ([1.0, 1.0, 1.0], True),
        # One lucky validation is no plateau, and no reason to go on for long.
        ([0.1, 0.2, 0.9, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8], False),
    ],
)  # fmt: skip
def test_validation_has_stalled_where_the_mean_error_of_the_last_third_hardly_falls(
    scores, stalled
):
    assert has_stalled(scores) is stalled


def test_the_rate_rises_stays_and_decays_where_validation_has_stalled():
    plan = open_plan(300)
    assert [plan.factor(step) for step in (0, 14, 15, 200, 10**6)] == pytest.approx(
        [1 / 15, 1, 1, 1, 1]
    )
    for step in range(40, 200, 40):
        plan = plan.validated(step, 0.5, 40)
        assert plan.steps is None  # not before 200 steps
    plan = plan.validated(200, 0.5, 40)
    assert (plan.falls, plan.steps, plan.scores) == (200, 320, ())  # a half more, whole epochs
    assert [plan.factor(step) for step in (199, 200, 260, 319, 320)] == pytest.approx(
        [1, 1, 0.5, 1 / 120, 0]
    )
    assert plan.validated(240, 0.1, 40) == plan


def test_a_run_that_learns_for_ever_decays_after_a_hundred_times_the_shortest():
    plan, step = open_plan(30), 0
    while plan.steps is None:
        step += 100
        plan = plan.validated(step, 1 - 0.5 ** (step / 100), 100)
    assert (plan.falls, plan.steps) == (2000, 3000)
    plan, step = open_plan(30), 0
    while plan.steps is None:  # an epoch of 10,000 steps: ten validations at least
        step += 10_000
        plan = plan.validated(step, 1 - 0.5 ** (step / 10_000), 10_000)
    assert (plan.falls, plan.steps) == (100_000, 150_000)


def test_no_steps_at_half_size_return():
    plan = first_plan(100).reopened(100, 300)
    assert (plan.fewest, plan.start, plan.falls) == (100, 100, 300)
    assert first_plan(1000).reopened(900, 300).fewest == 300


def test_a_dice_of_nothing_counts_as_zero():
    plan = open_plan(3)
    for step in range(1, 4):
        assert plan.scores == (0.0,) * (step - 1)
        plan = plan.validated(step, None, 1)
    assert plan.steps == 5
