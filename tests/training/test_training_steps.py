"""The classic recipe's steps equal the reference; both recipes' learning rates are as said."""

import os

import pytest
import torch
from devices import DEVICE
from reference import fill, image, labels, load_json

from unet import UNet
from utils.runtime.precision import MixedPrecision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.recipes import RECIPES
from utils.training.optimization.schedule import first_plan
from utils.training.state import validation_steps
from utils.training.step import TrainStep


@pytest.fixture
def all_threads():
    """For the one test of full width; the others run on one (conftest.py)."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count())
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures('all_threads')
# The second step is the first one that has a momentum; all four take 10 s of two quiet cores.
@pytest.mark.slow
@pytest.mark.parametrize(('n_classes', 'steps'), [(1, 4), (2, 4)])
def test_classic_steps_in_float64_equal_the_reference(record_property, n_classes, steps):
    device, recipe = torch.device(DEVICE), RECIPES['classic']
    model = fill(UNet(3, n_classes)).double().to(device).train()
    optimizer = recipe.optimizer(model, recipe.learning_rate)
    precision, guard = MixedPrecision(device, amp=False), StepGuard(model)
    reference = load_json('training_steps.json')[f'n_classes={n_classes}']
    for k, expected in enumerate(reference[:steps]):
        images = image(f'train{k}', (2, 3, 48, 64)).double().to(device)
        masks = labels(f'target{k}', (2, 48, 64), 2).to(device)
        step = TrainStep(model, optimizer, precision, guard)
        loss, norm = step([(images, masks)], 2)
        off = abs(loss.item() - expected['loss'])
        record_property('found', f'loss of step {k + 1} within {off:.0e}')
        assert off < 1e-6
        assert norm.item() == pytest.approx(expected['grad_norm_before_clipping'], rel=1e-4)


def test_classic_lowers_the_rate_after_six_validations_without_progress():
    model = UNet(1, 2, base_channels=2)
    optimizer = RECIPES['classic'].optimizer(model, 1e-5)
    schedule = RECIPES['classic'].schedule(optimizer, first_plan(100))
    schedule.after_validation(0.5)
    for _ in range(5):
        schedule.after_validation(0.4)
        schedule.after_step()
        schedule.after_validation(None)  # nothing scored: nothing learned about progress
    assert optimizer.param_groups[0]['lr'] == 1e-5
    schedule.after_validation(0.4)
    assert optimizer.param_groups[0]['lr'] == pytest.approx(1e-6)


def test_fast_rises_over_a_twentieth_of_the_steps_and_falls_to_zero():
    assert [first_plan(40).factor(step) for step in (0, 1, 2, 21, 39, 40)] == pytest.approx(
        [0.5, 1.0, 1.0, 0.5, 1 / 38, 0.0]
    )
    assert first_plan(1).factor(0) == 1.0


def test_fast_schedule_moves_the_rate_each_step():
    optimizer = RECIPES['fast'].optimizer(UNet(1, 2, base_channels=2), 1e-3)
    schedule = RECIPES['fast'].schedule(optimizer, first_plan(40))
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.after_step()
    assert rates[0] == pytest.approx(5e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert optimizer.param_groups[0]['lr'] == 0


@pytest.mark.parametrize('recipe', ['fast', 'classic'])
def test_a_schedule_goes_on_from_its_state(recipe):
    def make():
        optimizer = RECIPES[recipe].optimizer(UNet(1, 2, base_channels=2), 1e-3)
        return optimizer, RECIPES[recipe].schedule(optimizer, first_plan(20))

    (whole, whole_schedule), (first, first_schedule), (second, second_schedule) = (
        make() for _ in range(3)
    )
    for _ in range(14):
        whole.step()
        whole_schedule.after_step()
        whole_schedule.after_validation(0.3)
    for optimizer, schedule in ((first, first_schedule), (second, second_schedule)):
        if optimizer is second:
            second.load_state_dict(first.state_dict())
            schedule.load_state_dict(first_schedule.state_dict())
        for _ in range(7):
            optimizer.step()
            schedule.after_step()
            schedule.after_validation(0.3)
    assert second.param_groups[0]['lr'] == whole.param_groups[0]['lr'] != 1e-3


def test_validations_are_spaced_evenly_and_end_with_the_epoch():
    assert validation_steps(20, 5) == {4, 8, 12, 16, 20}
    assert validation_steps(20, 1) == {20}
    assert validation_steps(3, 5) == {1, 2, 3}
    assert validation_steps(1, 5) == {1}
