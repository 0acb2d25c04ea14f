"""A training can be stopped anywhere, and the resumed run ends with the unbroken one's weights."""

import gc
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from devices import training_on_device
from drawing import data_set
from running import learned, same_weights

import train
from utils.inference.checkpoint import load_checkpoint
from utils.training.recorder import Recorder
from utils.training.step import TrainStep

OPTIONS = [
    '--images', 'imgs', '--masks', 'masks', '--base-channels', '4', '-s', '1',
    '--wandb', 'disabled', *training_on_device(),
]  # fmt: skip


@pytest.fixture
def stop_after(monkeypatch):
    """Let a signal come during the n-th optimizer step."""
    step = TrainStep.__call__
    gc.collect()  # or Python may be finalizing an earlier test's workers when the signal comes

    def arrange(count, number):
        calls = []

        def signalling(*arguments):
            calls.append(1)
            if len(calls) == count:
                signal.raise_signal(number)
            return step(*arguments)

        monkeypatch.setattr(TrainStep, '__call__', signalling)

    return arrange


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'code', 'recipe', 'workers', 'step'),
    [
        ('SIGINT', 130, 'fast', '0', 2),
        ('SIGTERM', 143, 'fast', '2', 5),
        pytest.param('SIGUSR1', 0, 'classic', '1', 11, marks=pytest.mark.slow),
        ('SIGINT', 130, 'classic', '0', 3),
    ],
)
def test_a_signal_ends_the_step_saves_and_the_resumed_run_is_the_unbroken_one(
    tmp_path, monkeypatch, capsys, stop_after, name, code, recipe, workers, step
):
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path, 9)
    options = [*OPTIONS, '-e', '2', '--recipe', recipe, '--workers', workers, '--augment', 'full']
    assert train.main([*options, '--output', 'whole']) == 0
    handlers = [signal.getsignal(getattr(signal, n)) for n in ('SIGINT', 'SIGTERM', 'SIGUSR1')]
    stop_after(step, getattr(signal, name))
    assert train.main([*options, '--output', 'broken']) == code
    assert handlers == [
        signal.getsignal(getattr(signal, n)) for n in ('SIGINT', 'SIGTERM', 'SIGUSR1')
    ]
    assert f'stopped by {name} at step {step}; continue with python train.py --resume' in (
        capsys.readouterr().out
    )
    assert load_checkpoint('broken/last.pth').training['step'] == step
    assert train.main(['--resume', 'broken/last.pth']) == 0
    assert same_weights('whole/last.pth', 'broken/last.pth')
    assert learned('whole') == learned('broken')


@pytest.mark.slow
def test_a_second_signal_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path, 9)
    gc.collect()  # or Python may be finalizing an earlier test's workers when the signal comes
    # In the background of a script, shells let programs ignore it from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    step, calls = TrainStep.__call__, []

    def signalling(*arguments):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)  # to this thread: two that are sent to a process
            signal.raise_signal(signal.SIGINT)  # may arrive as one
        return step(*arguments)

    monkeypatch.setattr(TrainStep, '__call__', signalling)
    try:
        assert train.main([*OPTIONS, '-e', '1']) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert not Path('checkpoints/last.pth').exists()


@pytest.mark.slow
def test_last_is_written_within_an_epoch_as_often_as_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path, 9)
    saved = []
    save_last = Recorder.save_last
    monkeypatch.setattr(Recorder, 'save_last', lambda r: saved.append(r.state.step) or save_last(r))
    assert train.main([*OPTIONS, '-e', '1', '--save-minutes', '0']) == 0
    assert saved == [1, 2, 3, 4]
    saved.clear()
    assert train.main([*OPTIONS, '-e', '1']) == 0
    assert saved == [4]


def start(folder, *options):
    command = [sys.executable, str(ROOT / 'train.py'), *options]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for_progress(run, last, chance):
    """Until a last.pth is newer than before the start, and a random while longer."""
    before = last.stat().st_mtime_ns if last.exists() else 0
    while run.poll() is None and (not last.exists() or last.stat().st_mtime_ns == before):
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.4))


@pytest.mark.slow
@pytest.mark.parametrize('workers', ['0', '1', '2'])
def test_killed_again_and_again_it_ends_with_the_weights_of_the_unbroken_run(tmp_path, workers):
    data_set(tmp_path, 9)
    options = [*OPTIONS, '-e', '6', '--save-minutes', '0.001', '--workers', workers]
    assert start(tmp_path, *options, '--output', 'whole').wait() == 0
    chance, last, kills = random.Random(0), tmp_path / 'broken/last.pth', 0
    while not last.exists() or load_checkpoint(last).training['epoch'] < 6:
        how = ['--resume', 'broken/last.pth'] if last.exists() else [*options, '--output', 'broken']
        run = start(tmp_path, *how)
        wait_for_progress(run, last, chance)
        run.kill()
        kills += run.wait() != 0
        for path in (tmp_path / 'broken').glob('[!.]*.pth'):
            load_checkpoint(path)
    assert kills >= 3
    assert same_weights(tmp_path / 'whole/last.pth', last)
    assert learned(tmp_path / 'whole') == learned(tmp_path / 'broken')


@pytest.mark.slow
def test_a_worker_ends_with_a_training_that_is_killed_before_the_worker_has_begun():
    # torch's own check compares with the parent that a worker sees when it begins.
    program = """
import time
from utils.data import dataloader
from utils.runtime import signals

def late(worker):
    print('begun', flush=True)
    time.sleep(1)
    signals.prepare_worker(worker)

dataloader.prepare_worker = late
loader = dataloader.make_dataloader(range(9), [[0]], 1, dataloader.torch.device('cpu'), list)
next(iter(loader))
time.sleep(60)
"""
    run = subprocess.Popen(
        [sys.executable, '-c', program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == 'begun\n'
    run.kill()
    # The worker holds the pipe's other end: reading ends when it does.
    assert run.communicate(timeout=30) == ('', None)


@pytest.mark.slow
def test_a_training_that_crashes_beside_its_workers_ends(tmp_path):
    data_set(tmp_path, 4)
    program = """
import sys
import train
from utils.training.step import StepRunner
StepRunner.run_step = lambda *_: 1 / 0
train.main(sys.argv[1:])
"""
    run = subprocess.run(
        [sys.executable, '-c', program, *OPTIONS, '--workers', '1'],
        cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(ROOT)},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert run.returncode == 1
    assert 'ZeroDivisionError' in run.stderr
