"""train.py in two processes: one set of files, agreed stops, exact resume, no process left."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from devices import skip_on_card
from drawing import data_set
from launching import run_together
from running import SMALL, learned, rows, same_weights

import evaluate
import train
from utils.data.splits import split_ids
from utils.inference.checkpoint import load_checkpoint
from utils.training import builder
from utils.training import step as step_module
from utils.training.optimization.muon import Muon
from utils.training.optimization.parallel import Replica
from utils.training.recorder import Recorder
from utils.training.step import TrainStep

OPTIONS = ['--images', 'imgs', '--masks', 'masks', *SMALL]


def together(folder, *options):
    return run_together(lambda rank: train.main([*OPTIONS, *options]), folder)


def said(folder):
    return [(folder / f'err{rank}').read_text() for rank in (0, 1)]


def in_step(count, action):
    """Let `action(rank)` happen within the n-th step; for a forked process only."""
    step, calls = TrainStep.__call__, []

    def work(rank, options):
        def acting(*arguments):
            calls.append(1)
            if len(calls) == count:
                action(rank)
            return step(*arguments)

        TrainStep.__call__ = acting
        return train.main([*OPTIONS, *options])

    return work


@pytest.mark.slow
def test_a_run_of_two_processes_writes_one_set_of_files_that_one_process_reproduces(folder):
    data_set(folder, 10)  # 7 to train on: the last step has one image for process 0 alone
    options = ['-e', '2', '-v', '30', '-b', '1', '--keep', '1', '--tensorboard']
    assert together(folder, *options) == [0, 0]
    names = {path.name for path in (folder / 'checkpoints').iterdir()}
    assert names == {
        'checkpoint_epoch2.pth', 'best.pth', 'last.pth', 'metrics.csv', 'args.json', 'samples.png',
        'tensorboard',
    }  # fmt: skip
    assert len(list(Path('checkpoints/tensorboard').iterdir())) == 1
    assert [row['step'] for row in rows()] == ['4', '8']
    out = (folder / 'out0').read_text()
    assert 'batch size 1 x 2 processes' in out
    assert '7/7' in (folder / 'err0').read_text()  # the bar counts the images of all
    assert (folder / 'out1').read_text() + (folder / 'err1').read_text() == ''
    for sub in ('imgs', 'masks'):
        (folder / 'validation' / sub).mkdir(parents=True)
        for position in split_ids([f'disc{i:02}' for i in range(10)], 30, 'group', 0)[1]:
            name = f'{sub}/disc{position:02}.png'
            Path(name).rename(folder / 'validation' / name)
    data = ['--images', 'validation/imgs', '--masks', 'validation/masks', '--device', 'cpu']
    assert evaluate.main(['-m', 'checkpoints/best.pth', *data, '--csv', 's.csv']) == 0
    best = load_checkpoint('checkpoints/best.pth').metrics
    assert len(rows('s.csv')) == 3 * 2
    for row, name in ((1, 'dice_per_image'),):
        dice = [float(r['dice']) for r in rows('s.csv')[row::2]]
        assert sum(dice) / 3 == pytest.approx(best[name], abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize('recipe', ['fast', pytest.param('classic', marks=pytest.mark.slow)])
def test_a_signal_to_one_process_stops_all_and_the_resumed_run_is_the_unbroken_one(
    folder, capsys, recipe
):
    data_set(folder, 11)  # 10 to train on: steps of 4, 4 and 2 images, or of 2
    options = ['-e', '2', '--recipe', recipe, '--augment', 'full']
    assert together(folder, *options, '--output', 'whole') == [0, 0]
    # Signals ride on the next step's totals, so all stop one step later.
    step = in_step(1, lambda rank: rank == 1 and os.kill(os.getpid(), signal.SIGTERM))
    stopped = run_together(lambda rank: step(rank, [*options, '--output', 'broken']), folder)
    assert stopped == [143, 143]
    assert (
        'stopped by SIGTERM at step 2; continue with torchrun --nproc-per-node=2 train.py --re'
        in (folder / 'out0').read_text()
    )
    assert said(folder)[1] == ''
    assert load_checkpoint('broken/last.pth').training['step'] == 2
    assert train.main(['--resume', 'broken/last.pth']) == 2
    assert (
        'the run to resume had 2 processes, now there are 1. Continue with "torchrun --nproc'
        in (capsys.readouterr().err)
    )
    resume = ['--resume', 'broken/last.pth']
    assert run_together(lambda rank: train.main(resume), folder) == [0, 0]
    assert same_weights('whole/last.pth', 'broken/last.pth')
    assert learned('whole') == learned('broken')


def weights_of_each(folder, options, before=lambda rank: None):
    """Train in two processes; the weights that each ended with."""

    def work(rank):
        before(rank)
        end_epoch = Recorder.end_epoch

        def ending(run):
            end_epoch(run)
            torch.save((run.state.model.state_dict(), run.guard.bad_steps()), f'rank{rank}.pt')

        Recorder.end_epoch = ending
        return train.main([*OPTIONS, *options])

    assert run_together(work, folder) == [0, 0]
    return [torch.load(folder / f'rank{rank}.pt') for rank in (0, 1)]


def equal(one, other):
    return all(torch.equal(one[k], other[k]) for k in one if 'num_batches' not in k)


@pytest.mark.slow
@pytest.mark.parametrize('place', ['the forward pass', 'the update'])
def test_memory_that_runs_out_in_one_process_ends_all_with_one_message(folder, place):
    data_set(folder, 9)

    def work(rank):
        owner, name = (builder, 'segmentation_loss') if 'forward' in place else (Muon, 'step')
        usual, calls = getattr(owner, name), []

        def failing(*arguments, **options):
            calls.append(1)
            if rank == 1 and len(calls) == 2:
                raise torch.OutOfMemoryError('CUDA out of memory.')
            return usual(*arguments, **options)

        setattr(owner, name, failing)
        return train.main([*OPTIONS, '-e', '1'])

    started = time.monotonic()
    assert run_together(work, folder) == [1, 2]
    assert time.monotonic() - started < 60
    assert re.search(
        r'error: out of memory with batch size 2, images of 48 x 32, fp32: CUDA .*'
        r'Try a smaller --batch-size',
        said(folder)[1],
    )
    assert 'error' not in said(folder)[0]


@pytest.mark.slow
def test_a_step_that_is_not_finite_in_one_process_is_skipped_by_all(folder):
    data_set(folder, 9)

    def poison(rank):
        to_device, calls = step_module.to_device, []

        def poisoned(batch, device):
            images, masks = to_device(batch, device)
            calls.append(1)
            return images * (float('nan') if rank == 1 and len(calls) == 1 else 1), masks

        step_module.to_device = poisoned

    (one, bad), (other, bad_too) = weights_of_each(folder, ['-e', '1', '-b', '2'], poison)
    assert bad == bad_too == (1, 0)
    assert equal(one, other)
    assert all(torch.isfinite(tensor).all() for tensor in one.values())


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_said_once(folder):
    data_set(folder, 9)

    def work(rank):
        loss = builder.segmentation_loss
        builder.segmentation_loss = lambda *a, **o: loss(*a, **o) * float('nan')
        return train.main([*OPTIONS, '-e', '1', '-b', '2'])

    codes = run_together(work, folder)
    assert 3 in codes
    assert set(codes) <= {1, 3}
    assert ''.join(said(folder)).count('error: ') == 1
    assert 'not finite in 2 steps in a row' in ''.join(said(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('killed', 'backward'),
    [(1, True), *(pytest.param(rank, False, marks=pytest.mark.slow) for rank in (0, 1))],
)
def test_when_a_process_is_killed_the_other_ends_and_the_files_are_whole(folder, killed, backward):
    data_set(folder, 9)

    def kill(rank):
        if rank == killed:
            os.kill(os.getpid(), signal.SIGKILL)

    def kill_within(rank):  # while the other waits for gradients, not for numbers
        if rank == killed:
            Replica.backward = lambda *_: kill(rank)

    step = in_step(3, kill_within if backward else kill)
    options = ['-e', '1', '-b', '1', '--save-minutes', '0']
    started = time.monotonic()
    codes = run_together(lambda rank: step(rank, options), folder)
    assert time.monotonic() - started < 60
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 1
    assert load_checkpoint('checkpoints/last.pth').training['step'] == 2
    assert said(folder)[1 - killed].count('error: another of the 2 processes has ended') == 1
    assert 'Traceback' not in said(folder)[1 - killed]


def torchrun(folder, *options):
    skip_on_card('two processes need two cards')
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2',
               '--standalone', str(ROOT / 'train.py'), *OPTIONS, *options]  # fmt: skip
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path, run):
    while run.poll() is None and not path.exists():
        time.sleep(0.01)


@pytest.mark.slow
def test_torchrun_trains_and_its_sigterm_saves_once(folder):
    data_set(folder, 9)
    run = torchrun(folder, '-e', '2', '--output', 'whole')
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert out.count('images to train on') == 1
    run = torchrun(folder, '-e', '500', '--save-minutes', '0')
    wait_for(folder / 'checkpoints/last.pth', run)
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert run.returncode != 0
    assert out.count('stopped by SIGTERM') == 1
    step = int(re.search(r'at step (\d+)', out)[1])
    assert load_checkpoint('checkpoints/last.pth').training['step'] == step
    assert not list((folder / 'checkpoints').glob('.*'))


@pytest.mark.slow
def test_torchrun_ends_when_a_process_is_killed(folder):
    data_set(folder, 9)
    run = torchrun(folder, '-e', '500', '--save-minutes', '0')
    wait_for(folder / 'checkpoints/last.pth', run)
    children = subprocess.run(
        ['pgrep', '-P', str(run.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode == 1
    load_checkpoint('checkpoints/last.pth')
