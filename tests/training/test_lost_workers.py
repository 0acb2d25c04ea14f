"""A data worker that fails in any way ends the run with advice; none leaves it waiting."""

import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from multiprocessing import get_start_method
from pathlib import Path

import pytest
from drawing import data_set
from running import run_train

import train
from utils.data import dataloader


class Unsendable:
    def __reduce__(self):
        raise RuntimeError('unable to allocate shared memory(shm): No space left on device')


@pytest.mark.skipif(get_start_method() != 'fork', reason='the worker would not be patched')
def test_a_batch_that_finds_no_shared_memory_does_not_hang_the_run(folder, capsys, monkeypatch):
    data_set(folder, 6)
    monkeypatch.setattr(dataloader, 'pad_micro_batches', lambda *_, **__: [Unsendable()])
    with ending_after(60):
        assert run_train('-e', '1', '--workers', '1') == 2
    assert '--shm-size=8g' in capsys.readouterr().err


SMALL = """
mount -t tmpfs -o size=1M tmpfs /dev/shm || exit 77
exec timeout -s KILL 60 "$@"
"""


@pytest.mark.slow
def test_a_run_in_a_container_of_little_shared_memory_ends_with_advice(folder):
    data_set(folder, 8, size=(900, 800))
    options = '--images imgs --masks masks -s 1 -e 1 --base-channels 2 --workers 2 --cache none'
    train_py = Path(train.__file__)
    command = ['unshare', '-m', 'sh', '-c', SMALL, 'sh', sys.executable, train_py, *options.split()]
    if shutil.which('unshare') is None:
        pytest.skip('needs unshare')
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode in (1, 77):
        pytest.skip('needs root on Linux to mount a small /dev/shm')
    assert done.returncode == 2, done.stderr
    assert '--shm-size=8g' in done.stderr


@contextmanager
def ending_after(seconds):
    """Raise TimeoutError in the block after so many seconds."""

    def end(*_):
        raise TimeoutError(f'still running after {seconds} seconds')

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
