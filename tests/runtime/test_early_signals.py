"""Signals before and around the training: none is swallowed, none leaves processes behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drawing import data_set

from utils.runtime import cli

ROOT = Path(__file__).resolve().parents[2]
TRAIN = '--images imgs --masks masks -s 1 --base-channels 2 --device cpu --wandb disabled'.split()

# An import of compiled code that swallows KeyboardInterrupt, as some do, while Ctrl-C comes.
SWALLOWS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'utils.training.builder':
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000): pass
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Finder())
"""
# SIGUSR1 in the middle of the imports, as schedulers send it shortly before the time is over.
EARLY = SWALLOWS.replace('SIGINT', 'SIGUSR1')


def run(folder, code, *options):
    (folder / 'sitecustomize.py').write_text(code)
    environment = os.environ | {'PYTHONPATH': str(folder)}
    return subprocess.run(
        [sys.executable, ROOT / 'train.py', *TRAIN, *options],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_during_imports_ends_the_program_at_once_and_without_a_traceback(folder):
    data_set(folder, 4)
    done = run(folder, SWALLOWS, '-e', '1')
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ''
    assert not (folder / 'checkpoints').exists()


@pytest.mark.parametrize('handler', [signal.SIG_IGN, signal.default_int_handler])
def test_ctrl_c_stays_ignored_in_jobs_that_ignore_it(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with cli._plain_interrupts():
            inside = signal.getsignal(signal.SIGINT)
        after = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert after is handler
    assert inside == (signal.SIG_IGN if handler == signal.SIG_IGN else signal.SIG_DFL)


@pytest.mark.slow
def test_sigusr1_during_imports_saves_after_a_step_and_reports_success(folder):
    data_set(folder, 8)
    done = run(folder, EARLY, '-e', '5', '-b', '1')
    assert done.returncode == 0, done.stderr
    assert 'stopped by SIGUSR1 at step 1' in done.stdout
    assert (folder / 'checkpoints/last.pth').exists()


@pytest.mark.slow
def test_when_torchrun_is_killed_its_processes_save_and_end(folder):
    data_set(folder, 40, size=(96, 64))
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2']
    command = [*torchrun, str(ROOT / 'train.py'), *TRAIN, '-e', '500', '-b', '1', '--workers', '0']
    with (folder / 'log').open('w') as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    assert until(lambda: (folder / 'checkpoints/checkpoint_epoch1.pth').exists(), 90)
    ranks = children(started.pid)
    assert len(ranks) == 2
    started.kill()
    started.wait()
    saved = (folder / 'checkpoints/last.pth').stat().st_mtime_ns
    assert until(lambda: not any(map(running, ranks)), 60)
    assert (folder / 'checkpoints/last.pth').stat().st_mtime_ns >= saved


def children(pid):
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        fields = stat.read_text().rpartition(')')[2].split()
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def until(condition, seconds):
    """Wait for a condition; return whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
