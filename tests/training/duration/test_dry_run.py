"""train.py --dry-run: what it measures, what it says, and that nothing is left."""

import re
import signal
from pathlib import Path

import numpy as np
import pytest
from drawing import data_set
from PIL import Image
from running import run_train

import train
from utils.inference.checkpoint import load_checkpoint
from utils.training.duration import dry_run
from utils.training.duration.dry_run import Cost, describe_losses, in_bytes, in_time
from utils.training.step import StepRunner


def files(folder):
    """All files but the remembered scan, which --check leaves as well."""
    return sorted(str(p) for p in Path(folder).rglob('*') if p.suffix != '.scan' and p.is_file())


@pytest.fixture
def losses(monkeypatch):
    """The steps that are trained: images' height and learning rate of each."""
    seen, step = [], StepRunner.run_step

    def noting(runner, batches):
        height = runner.on_device(batches[0])[0].shape[2]
        seen.append((height, runner.state.learning_rate / 2e-3))
        return step(runner, batches)

    monkeypatch.setattr(StepRunner, 'run_step', noting)
    return seen


@pytest.mark.parametrize('options', [['-e', '3'], ['-e', 'auto'], ['--cache', 'disk']])
def test_it_trains_twenty_steps_tells_what_the_run_takes_and_leaves_no_file(
    folder, monkeypatch, capsys, losses, options
):
    (folder / 'tmp').mkdir()
    monkeypatch.setenv('TMPDIR', str(folder / 'tmp'))
    monkeypatch.setattr('tempfile.tempdir', None)
    data_set(folder, 9, size=(70, 64))  # 8 to train on: 4 steps an epoch
    before = files(folder)
    assert run_train('--dry-run', *options) == 0
    assert files(folder) == before
    assert not Path('checkpoints').exists()
    # Five steps at half the resolution, and a rate that has its peak and decays.
    assert [height for height, _ in losses] == [32] * 5 + [64] * 15
    assert [rate for _, rate in losses] == pytest.approx([1] + [k / 19 for k in range(19, 0, -1)])
    output = capsys.readouterr().out
    assert 'dry run: 20 steps, of which nothing is kept' in output
    assert re.search(r'loss: \d\.\d+ in steps 6 to 10, \d\.\d+ in steps 16 to 20: it falls', output)
    assert re.search(r'memory: [\d.]+ (MiB|GiB)', output)
    assert re.search(r'an epoch: 4 steps in [\d.]+ s, the first one in [\d.]+ s, and ', output)
    length = {'3': '3 epochs, 12', 'auto': 'at least 100 epochs, 400'}.get(
        options[1], '5 epochs, 20'
    )
    assert f'the run: {length} steps, about ' in output


@pytest.mark.slow
def test_an_earlier_run_stays_as_it_is(folder):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    before = {name: Path(name).read_bytes() for name in files('checkpoints')}
    assert run_train('--dry-run', '-e', '2') == 0
    assert {name: Path(name).read_bytes() for name in files('checkpoints')} == before


@pytest.mark.slow
def test_the_networks_own_options_are_measured(folder, capsys):
    data_set(folder, 4, values=(0, 1, 2))
    assert run_train('-e', '1', '--bilinear', '--output', 'a') == 0
    capsys.readouterr()
    assert run_train('--dry-run', '--load', 'a/best.pth', '-v', '0', '--recipe', 'classic') == 0
    output = capsys.readouterr().out
    assert 'n_classes=3, bilinear=True, base_channels=4' in output
    assert 'and 0.0 s for validation' in output
    assert load_checkpoint('a/best.pth').model['bilinear']


@pytest.mark.slow
def test_noise_is_said_not_to_be_learned(folder, monkeypatch, capsys):
    data_set(folder, 4)
    monkeypatch.setattr(StepRunner, 'run_step', rising(StepRunner.run_step))
    assert run_train('--dry-run') == 0
    assert 'it does not fall. Do the masks belong to the images' in capsys.readouterr().out


def rising(step):
    """Return a run_step whose loss grows with each step."""

    def stepped(runner, batches):
        loss, images = step(runner, batches)
        return loss * 0 + runner.state.step, images

    return stepped


def test_losses_are_compared_by_means_of_five():
    losses = [9.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0] + [9.0] * 5 + [2.9] * 5
    assert (
        describe_losses(losses) == 'loss: 3.000 in steps 6 to 10, 2.900 in steps 16 to 20: it falls'
    )
    losses[-1] = 3.5
    assert 'it does not fall' in describe_losses(losses)
    for value in (float('nan'), float('inf')):
        assert 'it does not fall' in describe_losses([value] * 20)
        assert 'it does not fall' in describe_losses([1.0] * 15 + [value] * 5)


def test_the_run_takes_what_its_parts_take():
    cost = Cost(step=1.0, coarse_step=0.25, first_wait=0.5, wait=0.125, first_validation=4,
                validation=3)  # fmt: skip
    assert cost.epoch(40) == 45
    assert cost.epoch(40, first=True) == 60
    # 200 steps of 1.125 s, 25 of them coarse, 40 of them with 0.375 s more, five validations.
    assert cost.steps(200, 40, 25, 1) == pytest.approx(225 - 25 * 0.75 + 40 * 0.375 + 5 * 3 + 1)
    assert cost.steps(20, 40, 0, 5) == pytest.approx(20 * 1.5 + 2.5 * 3 + 1)


@pytest.mark.parametrize(
    ('seconds', 'words'),
    [(0.04, '0.0 s'), (9.94, '9.9 s'), (10.2, '10 s'), (59.6, '1 min 0 s'), (200, '3 min 20 s'),
     (7500, '2 h 5 min')],
)  # fmt: skip
def test_times_in_words(seconds, words):
    assert in_time(seconds) == words


def test_bytes_in_words():
    assert in_bytes(812 * 2**20) == '812 MiB'
    assert in_bytes(5 * 2**30 + 2**27) == '5.1 GiB'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--check'], '--dry-run measures a new run, and --check trains nothing'),
        (['--resume'], '--dry-run measures a new run, and --resume continues a run'),
        (['--resume', 'auto'], '--dry-run measures a new run, and --resume continues a run'),
    ],
)
def test_what_it_excludes_is_refused(folder, capsys, options, message):
    with pytest.raises(SystemExit) as end:
        train.main(['--dry-run', *options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_signal_ends_it_without_a_file(folder, monkeypatch, capsys):
    data_set(folder, 9)
    step, before = StepRunner.run_step, files(folder)

    def signalling(runner, batches):
        if runner.state.step == 6:
            signal.raise_signal(signal.SIGTERM)
        return step(runner, batches)

    monkeypatch.setattr(StepRunner, 'run_step', signalling)
    assert run_train('--dry-run') == 143
    assert 'dry run: 20 steps' not in capsys.readouterr().out
    assert files(folder) == before


@pytest.mark.slow
def test_workers_and_a_problem_of_the_data(folder, capsys):
    data_set(folder, 9)
    assert run_train('--dry-run', '--workers', '1') == 0
    assert 'dry run: 20 steps' in capsys.readouterr().out
    Image.fromarray(np.zeros((8, 8), np.uint8)).save('masks/disc03.png')
    assert run_train('--dry-run') == 2
    assert 'disc03' in capsys.readouterr().err
    assert not Path('checkpoints').exists()
    assert dry_run.STEPS == 20
