"""A training killed at random moments and resumed ends as the unbroken run, and leaves no trace.

    python tests/training/test_kills.py 7 SEED   # kills with each number of workers and cache

prints what it found; dev/LOG.md has the result of 105 kills. The test is a sample of that.
"""

import os
import random
import signal
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

if __name__ == '__main__':
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import pytest
import torch
from devices import skip_on_card
from drawing import data_set
from running import SMALL, learned, same_weights

import train
import utils.training.builder  # before the processes are forked
import utils.training.recorder
from utils.inference.checkpoint import load_checkpoint
from utils.runtime.files import PARTS

EPOCHS = 3
OPTIONS = ['--images', 'imgs', '--masks', 'masks', *SMALL, '-e', str(EPOCHS),
           '--save-minutes', '0.0001', '--augment', 'full']  # fmt: skip
WORKERS, CACHES = ('0', '1', '2'), ('none', 'ram', 'disk', 'device', 'auto')


def start(*options):
    """Start train.py in a forked process, with a session of its own; return its id."""
    skip_on_card('a forked process cannot use the card of its parent')
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for stream in (1, 2):
            os.dup2(os.open('log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        code = train.main(list(options))
    finally:
        os._exit(code)


def session(leader):
    """Return the living processes of a session."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, _, _, owner = stat.read_text().rpartition(')')[2].split()[:4]
        except (OSError, ValueError):  # it has ended
            continue
        if owner == str(leader) and state != 'Z':
            found.append(stat.parent.name)
    return found


def temporary_files():
    """Return what looks like a temporary file in any folder of the test."""
    inside = list(Path(os.environ['TMPDIR']).iterdir())
    return inside + [path for path in Path().rglob('*') if PARTS.fullmatch(path.name)]


def wait_for_writing(process, earliest):
    """Wait until a training writes a file, but not before a moment; or until it has ended."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, process, ended) is None:
        if time.monotonic() > earliest and temporary_files():
            return
        time.sleep(0.001)


def finished(last):
    return last.exists() and load_checkpoint(last).training['epoch'] == EPOCHS


def kill_and_resume(workers, cache, kills, chance):
    """Kill a training `kills` times, resume it to its end, compare it; return the parts found.

    It is killed at a random moment of the time that the unbroken run took, every second time while
    it writes a file.
    """
    options = [*OPTIONS, '--workers', workers, '--cache', cache]
    begun = time.monotonic()
    assert os.waitpid(start(*options, '--output', 'whole'), 0)[1] == 0, Path('log.txt').read_text()
    seconds, last, left = time.monotonic() - begun, Path('broken/last.pth'), 0
    while kills:
        how = ['--resume', 'broken'] if last.exists() else [*options, '--output', 'broken']
        process = start(*how)
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, seconds / 2))
        else:
            wait_for_writing(process, time.monotonic() + chance.uniform(0, seconds / 2))
            time.sleep(chance.uniform(0, 0.02))
        os.kill(process, signal.SIGKILL)
        kills -= os.WIFSIGNALED(os.waitpid(process, 0)[1])
        ended = time.monotonic() + 30
        while session(process):
            assert time.monotonic() < ended, f'orphans: {session(process)}'
            time.sleep(0.05)
        left += len(temporary_files())
        if finished(last):
            compare_and_remove()
    while not finished(last):
        how = ['--resume', 'broken'] if last.exists() else [*options, '--output', 'broken']
        assert os.waitpid(start(*how), 0)[1] == 0, Path('log.txt').read_text()
    compare_and_remove()
    for path in temporary_files():
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    again = start(*options, '--output', 'broken')
    assert os.waitpid(again, 0)[1] == 0, Path('log.txt').read_text()
    assert temporary_files() == []
    return left


def compare_and_remove():
    """Compare the resumed run with the unbroken one, and remove its last.pth for a new one."""
    assert same_weights('whole/last.pth', 'broken/last.pth')
    assert learned('whole') == learned('broken')
    assert 'Traceback' not in Path('log.txt').read_text()
    Path('broken/last.pth').unlink()


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='looks for orphans in /proc')
@pytest.mark.parametrize(('workers', 'cache'), [('0', 'disk'), ('1', 'none'), ('2', 'ram')])
def test_a_run_killed_three_times_ends_as_the_unbroken_one(folder, monkeypatch, workers, cache):
    (folder / 'tmp').mkdir()
    monkeypatch.setenv('TMPDIR', str(folder / 'tmp'))
    data_set(folder, 9)
    kill_and_resume(workers, cache, 3, random.Random(0))


if __name__ == '__main__':
    torch.set_num_threads(1)
    utils.training.recorder.draw_curves = lambda *_: None  # 0.2 s an epoch, as in conftest.py
    chance, count = random.Random(int(sys.argv[2])), int(sys.argv[1])
    for workers, cache in product(sys.argv[3:] or WORKERS, CACHES):
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)
            os.environ |= {'XDG_CACHE_HOME': f'{place}/user-cache', 'TMPDIR': f'{place}/tmp'}
            Path('tmp').mkdir()
            data_set(Path(place), 9)
            parts = kill_and_resume(workers, cache, count, chance)
            print(f'{count} kills, {workers} workers, --cache {cache}: equal; {parts} parts left')
            os.chdir('/')
