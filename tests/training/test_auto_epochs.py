"""--epochs auto: its learning rate, its end, its resume, and what it cannot be combined with."""

import json
from pathlib import Path

import pytest
import torch
from drawing import data_set
from running import rows, run_train, same_weights

import train
from utils.inference.checkpoint import load_checkpoint
from utils.training.duration import steps as duration
from utils.training.optimization.schedule import first_plan
from utils.training.recorder import Recorder
from utils.training.validation import Validator


@pytest.fixture
def short(folder, monkeypatch):
    """A data set of 2 steps an epoch, and runs of at least 9 steps, 6 of them before the decay."""
    data_set(folder, 6)
    monkeypatch.setitem(duration.ENOUGH_STEPS, 'fast', 9)
    monkeypatch.setattr('utils.training.recorder.write_samples', lambda *_: None)  # 0.1 s each
    return ['-e', 'auto', '-v', '34']


def let_dice_be(monkeypatch, *scores):
    """Replace the Dice of each validation by the next of these, the last of them for ever."""
    left, score = list(scores), Validator._score

    def scored(validator, *arguments):
        monkeypatch.setattr(
            'utils.training.validation.summarize',
            lambda *_: FIGURES | {'dice_dataset': left.pop(0) if len(left) > 1 else left[0]},
        )
        return score(validator, *arguments)

    monkeypatch.setattr(Validator, '_score', scored)


RATIOS = {
    f'{r}_{of}': 0.5
    for r in ('dice', 'iou', 'precision', 'recall')
    for of in ('dataset', 'per_image')
}
FIGURES = RATIOS | {'dice_reference': 0.5, 'all_classes': RATIOS, 'classes': []}


@pytest.mark.slow
def test_it_ends_after_the_decay_and_says_so(short, rates, monkeypatch, capsys):
    let_dice_be(monkeypatch, 0.2, 0.4, 0.6)  # still rising after three validations and 6 steps
    assert run_train(*short) == 0
    assert rates == pytest.approx([1] * 8 + [1, 3 / 4, 2 / 4, 1 / 4])
    output = capsys.readouterr().out
    assert 'epochs auto (2 steps each)' in output
    words = 'Validation has stalled: the learning rate now decays to 0, until epoch 6, step 12'
    assert output.count(words) == 1
    assert [int(row['step']) for row in rows()] == list(range(2, 13, 2))
    settings = json.loads(Path('checkpoints/args.json').read_text())
    assert (settings['epochs'], settings['total_steps']) == ('auto', 12)
    assert [path.name for path in Path('checkpoints').glob('checkpoint*')] == [
        'checkpoint_epoch6.pth'
    ]


@pytest.mark.slow
def test_auto_changes_the_weights_and_the_length(short):
    assert run_train(*short, '--output', 'a') == 0
    steps = load_checkpoint('a/last.pth').training['step']
    assert run_train('-e', str(steps // 2), '-v', '34', '--output', 'b') == 0
    assert load_checkpoint('b/last.pth').training['step'] == steps >= 9
    assert not same_weights('a/last.pth', 'b/last.pth')


@pytest.mark.slow
def test_keep_is_obeyed(short, monkeypatch):
    let_dice_be(monkeypatch, 0.2, 0.6)
    assert run_train(*short, '--keep', '3') == 0
    assert len(list(Path('checkpoints').glob('checkpoint*'))) == 3


@pytest.mark.slow
@pytest.mark.parametrize(  # plateau, decay, before its last step
    'moment', [*(pytest.param(m, marks=pytest.mark.slow) for m in ((2, 1), (3, 0))), (4, 1)]
)
def test_it_is_resumed_bit_for_bit(short, rates, monkeypatch, moment):
    scores = [0.2, 0.6]
    with monkeypatch.context() as patch:
        let_dice_be(patch, *scores)
        assert run_train(*short, '--output', 'whole') == 0
    expected = rates.copy()
    rates.clear()
    save_last = Recorder.save_last

    def interrupted(recorder):
        save_last(recorder)
        if (recorder.state.epoch, recorder.state.step_in_epoch) == moment:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        let_dice_be(patch, *scores)
        patch.setattr(Recorder, 'saving_due', lambda _: 1)
        patch.setattr(Recorder, 'save_last', interrupted)
        assert run_train(*short, '--output', 'broken') == 130
    assert len(rates) == 2 * moment[0] + moment[1]
    let_dice_be(monkeypatch, 0.6)
    assert train.main(['--resume', 'broken']) == 0
    assert rates == expected
    assert same_weights('whole/last.pth', 'broken/last.pth')
    whole, broken = (load_checkpoint(f'{run}/last.pth').training for run in ('whole', 'broken'))
    assert whole['plan'] == broken['plan']
    assert len(rows('whole/metrics.csv')) == len(rows('broken/metrics.csv'))


@pytest.mark.slow
def test_a_finished_run_has_nothing_left_and_takes_a_number(short, rates, capsys):
    assert run_train(*short) == 0
    epochs = len(rates) // 2
    for options in (['--resume'], ['--resume', '-e', 'auto']):
        assert train.main(options) == 2
        assert f'has done {epochs} of {epochs} epochs. Ask for more' in capsys.readouterr().err
    assert train.main(['--resume', 'auto']) == 0
    rates.clear()
    assert train.main(['--resume', '-e', str(epochs + 2)]) == 0
    assert f'note: the run now has {epochs + 2} epochs: the learning rate, ' in (
        capsys.readouterr().out
    )
    assert len(rates) == 4
    assert rates[0] == pytest.approx(first_plan(2 * epochs + 4).factor(2 * epochs))
    assert rates[-1] == pytest.approx(rates[0] / 3)


@pytest.mark.slow
def test_an_interrupted_one_decays_to_the_end_of_a_number(short, rates, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        let_dice_be(patch, 0.1, 0.3, 0.5, 0.7)
        patch.setattr(Recorder, 'end_epoch', after_epoch(4, Recorder.end_epoch))
        assert run_train(*short) == 130
    rates.clear()
    assert train.main(['--resume', '-e', '6']) == 0
    assert (
        'note: the run now has 6 epochs: the learning rate, 0.002 so far, decays to 0 at step 12'
        in (capsys.readouterr().out)
    )
    assert rates == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])


def after_epoch(count, end_epoch):
    """Return an end_epoch that is interrupted after so many."""

    def interrupted(recorder):
        end_epoch(recorder)
        if recorder.state.epoch == count:
            raise KeyboardInterrupt

    return interrupted


@pytest.mark.slow
def test_a_run_of_a_number_goes_on_until_a_plateau(short, rates, monkeypatch, capsys):
    assert run_train('-e', '2', '-v', '34') == 0
    rates.clear()
    let_dice_be(monkeypatch, 0.6)
    assert train.main(['--resume', '-e', 'auto']) == 0
    words = 'the run now trains until a plateau: the learning rate, 0.000667 so far, rises to 0.002'
    output = capsys.readouterr().out
    assert f'{words} in 1 step, then stays until validation stalls' in output
    # Its own 6 steps and 3 validations; the decay may end with an epoch: 3 steps and one more.
    assert rates == pytest.approx([1] * 6 + [1, 3 / 4, 2 / 4, 1 / 4])
    assert load_checkpoint('checkpoints/last.pth').training['epoch'] == 7


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--recipe', 'classic'], 'recipe classic keeps to its own schedule. Give a number'),
        (['--recipe', 'paper'], 'recipe paper keeps to its own schedule. Give a number'),
        (['--early-stop', '3'], 'leave --early-stop out'),
    ],
)
def test_what_it_excludes_is_refused(folder, capsys, options, message):
    with pytest.raises(SystemExit) as end:
        run_train('-e', 'auto', *options)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_it_needs_a_validation_set(folder, capsys):
    data_set(folder, 4)
    assert run_train('-v', '0', '-e', 'auto') == 2
    error = capsys.readouterr().err
    assert '--epochs auto ends a run when validation Dice no longer rises, and there is no' in error
    assert 'Give a number of epochs (-e 5), or ask for a set with --validation (-v)' in error
    assert not Path('checkpoints').exists()


def test_a_resumed_run_without_a_validation_set_is_not_told_to_ask_for_one(folder, capsys):
    data_set(folder, 4)
    assert run_train('-v', '0', '-e', '1') == 0
    assert run_train('--resume', '-e', 'auto') == 2
    error = capsys.readouterr().err
    assert 'Give a number of epochs (-e 5).' in error
    assert '--validation' not in error


@pytest.mark.slow
def test_a_run_with_early_stop_may_go_on_with_it(short, monkeypatch):
    let_dice_be(monkeypatch, 0.5)
    assert run_train(*short, '-e', '1', '--early-stop', '1') == 0
    assert run_train('--resume', '-e', 'auto') == 0
    assert json.loads(Path('checkpoints/args.json').read_text())['early_stop'] is None


def test_a_classic_run_cannot_go_on_with_it(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1', '--recipe', 'classic') == 0
    with pytest.raises(SystemExit):
        train.main(['--resume', '-e', 'auto'])
    assert 'recipe classic keeps to its own schedule' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('scores', [2], 'training.plan.scores is a list, expected a list of numbers from 0 to 1'),
        ('falls', -1, 'training.plan.falls is -1'),
        (None, None, 'has no entry training.plan'),
    ],
)
def test_a_damaged_plan_is_one_message(short, monkeypatch, capsys, key, value, message):
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, 'end_epoch', after_epoch(1, Recorder.end_epoch))
        assert run_train(*short) == 130
    content = torch.load('checkpoints/last.pth', weights_only=True)
    if key:
        content['training']['plan'][key] = value
    else:
        del content['training']['plan']
    torch.save(content, 'checkpoints/last.pth')
    assert train.main(['--resume']) == 2
    assert message in capsys.readouterr().err
