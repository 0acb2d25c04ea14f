"""A run that is resumed with another number of epochs: its learning rate, its steps, its note."""

import pytest
import torch
from drawing import data_set
from running import run_train, same_weights

import train
from utils.inference.checkpoint import load_checkpoint
from utils.training.optimization.schedule import first_plan
from utils.training.recorder import Recorder
from utils.training.step import StepRunner


def interrupt(patch, epoch, step):
    """Stop the run, as by a kill, right after last.pth is written in this epoch and step."""
    save_last = Recorder.save_last

    def interrupted(recorder):
        save_last(recorder)
        if (recorder.state.epoch, recorder.state.step_in_epoch) == (epoch, step):
            raise KeyboardInterrupt

    patch.setattr(Recorder, 'saving_due', lambda _: 1)
    patch.setattr(Recorder, 'save_last', interrupted)


def test_an_interrupted_run_rises_to_the_rate_of_a_run_of_the_new_length_and_decays():
    plan = first_plan(100).changed(50, 150)  # the 50th step, number 49, had 51 / 95
    before, peak = 51 / 95, 100 / 142  # the latter of first_plan(150) at step 50
    assert [plan.factor(step) for step in (50, 54, 55, 102, 149, 150)] == pytest.approx(
        [before + (peak - before) / 5, peak, peak, peak * 48 / 95, peak / 95, 0]
    )


def test_a_finished_run_rises_to_the_rate_of_a_run_of_the_new_length_and_decays_again():
    plan = first_plan(100).changed(100, 140)  # a rise of 5 % of 40 steps
    end, peak = 1 / 95, 40 / 133  # the latter of first_plan(140) at step 100
    assert [plan.factor(step) for step in (100, 101, 102, 121, 139, 140)] == pytest.approx(
        [(end + peak) / 2, peak, peak, peak / 2, peak / 38, 0]
    )


def test_a_run_interrupted_in_its_warm_up_rises_on_to_the_peak():
    plan = first_plan(100).changed(2, 200)
    assert [plan.factor(step) for step in (2, 3, 4, 5, 102)] == pytest.approx(
        [0.6, 0.8, 1, 1, 98 / 195]
    )


def test_a_plan_for_fewer_epochs_ends_at_zero_without_a_jump():
    plan = first_plan(100).changed(50, 60)
    assert [plan.factor(step) for step in (50, 55, 59, 60)] == pytest.approx(
        [51 / 95, 51 / 95 / 2, 51 / 95 / 10, 0]
    )


@pytest.mark.parametrize('done', [1, 3, 40, 99, 100])
@pytest.mark.parametrize('steps', [101, 120, 1000])
def test_each_further_plan_falls_from_no_higher_than_the_rate_before_or_of_a_whole_run(done, steps):
    plan = first_plan(100)
    for step, total in [(done, steps), (steps - 1, steps + 7), (steps + 7, 2 * steps)]:
        before, whole = plan.factor(step - 1), first_plan(total).factor(step)
        plan = plan.changed(step, total)
        assert plan.changed(step, total) == plan
        factors = [plan.factor(k) for k in range(step, total)]
        top = max(factors)
        assert top <= max(before, whole) + 1e-9 or step < 5  # 5: the run's first rise
        falling = factors[factors.index(top) :]
        assert falling == sorted(falling, reverse=True)
        assert factors.index(top) <= max(0.05 * (total - step), 5) + 1
        assert plan.factor(total) == 0


@pytest.mark.slow
def test_a_finished_run_goes_on_from_its_last_rate_and_says_so(folder, rates, capsys):
    data_set(folder, 6)  # 5 to train on: 5 steps an epoch
    assert run_train('-e', '2', '-b', '1') == 0
    assert rates == pytest.approx([1, *(left / 9 for left in range(9, 0, -1))])
    capsys.readouterr()
    for epochs, expected, words in [
        (
            4, [10 / 19, *(10 / 19 * left / 9 for left in range(9, 0, -1))],
            '0.000222 so far, rises to 0.00105 in 1 step, then decays to 0 at step 20',
        ),
        (
            6, [10 / 28, *(10 / 28 * left / 9 for left in range(9, 0, -1))],
            '0.000117 so far, rises to 0.000714 in 1 step, then decays to 0 at step 30',
        ),
    ]:  # fmt: skip
        rates.clear()
        assert train.main(['--resume', '-e', str(epochs)]) == 0
        assert rates == pytest.approx(expected)
        note = f'note: the run now has {epochs} epochs: the learning rate, {words}'
        assert capsys.readouterr().out.count(note) == 1
    assert load_checkpoint('checkpoints/last.pth').training['epoch'] == 6


@pytest.mark.slow
def test_a_run_killed_after_it_was_extended_ends_as_the_unbroken_one(folder, rates, monkeypatch):
    data_set(folder, 9)  # 8 to train on: 4 steps an epoch
    for output in ('whole', 'broken'):
        assert run_train('-e', '2', '--output', output) == 0
    rates.clear()
    assert train.main(['--resume', 'whole', '-e', '4']) == 0
    expected = rates.copy()
    rates.clear()
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=3, step=1)
        assert train.main(['--resume', 'broken', '-e', '4']) == 130
    assert len(rates) == 5
    assert train.main(['--resume', 'broken']) == 0
    assert rates == expected
    assert same_weights('whole/last.pth', 'broken/last.pth')


@pytest.mark.slow
def test_the_note_comes_once(folder, monkeypatch, capsys):
    data_set(folder, 9)
    assert run_train('-e', '1') == 0
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=1, step=2)
        assert train.main(['--resume', '-e', '2']) == 130
    assert 'note: the run now has 2 epochs' in capsys.readouterr().out
    assert train.main(['--resume']) == 0
    assert 'note: the run now has' not in capsys.readouterr().out


@pytest.mark.slow
def test_a_last_file_of_an_earlier_version_has_the_plan_of_its_epochs(folder, rates):
    data_set(folder, 6)
    assert run_train('-e', '2', '-b', '1') == 0
    content = torch.load('checkpoints/last.pth', weights_only=True)
    del content['training']['plan']
    torch.save(content, 'checkpoints/last.pth')
    rates.clear()
    assert train.main(['--resume', '-e', '3']) == 0
    assert rates == pytest.approx([5 / 14, *(5 / 14 * left / 4 for left in (4, 3, 2, 1))])


@pytest.mark.slow
def test_more_epochs_bring_no_further_steps_at_half_size(folder, monkeypatch):
    data_set(folder, 9, size=(70, 64))  # 8 to train on: 4 steps an epoch, 16 in all
    shapes, on_device = [], StepRunner.on_device

    def noting(runner, batch):
        images, masks = on_device(runner, batch)
        shapes.append(tuple(images.shape[2:]))
        return images, masks

    monkeypatch.setattr(StepRunner, 'on_device', noting)
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=0, step=1)
        assert run_train('-e', '4') == 130
    for position, epochs in [((1, 1), '8'), ((2, 0), '16')]:  # an eighth: 4 steps, 8 steps
        with monkeypatch.context() as patch:
            interrupt(patch, *position)
            assert train.main(['--resume', '-e', epochs]) == 130
    assert shapes == [(32, 35)] * 2 + [(64, 70)] * 6


@pytest.mark.slow
def test_classic_keeps_its_rate_and_its_plateaus(folder, rates, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1', '--recipe', 'classic') == 0
    assert train.main(['--resume', '-e', '2']) == 0
    assert rates == pytest.approx([1e-5 / 2e-3] * 6)
    note = 'note: the run now has 2 epochs: the learning rate goes on as before'
    assert note in capsys.readouterr().out
