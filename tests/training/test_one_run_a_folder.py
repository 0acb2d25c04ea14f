"""Two runs never write into one folder, and a run continues with its own files only."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from drawing import data_set
from running import run_train

from utils.runtime import locks
from utils.runtime.errors import UserError
from utils.runtime.locks import LOCK, FolderLock, check_unlocked

HOLD = """
import sys, time
from pathlib import Path
from utils.runtime.locks import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print('held', flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(folder):
    """Return a folder that another process holds, and that process."""
    (folder / 'checkpoints').mkdir()
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, folder / 'checkpoints'],
        stdout=subprocess.PIPE, cwd=Path(locks.__file__).parents[2],
    )  # fmt: skip
    assert holder.stdout.readline() == b'held\n'
    yield folder / 'checkpoints', holder
    holder.kill()
    holder.wait()
    holder.stdout.close()


def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(held, capsys):
    checkpoints, holder = held
    data_set(checkpoints.parent, 4)
    (checkpoints / 'best.pth').write_bytes(b'of the first run')
    assert run_train('-e', '1') == 2
    error = capsys.readouterr().err
    assert f'another run is writing into checkpoints (process {holder.pid}' in error
    assert f'on {socket.gethostname()}, since 20' in error
    assert '--output' in error
    assert {path.name for path in checkpoints.iterdir()} == {'best.pth', LOCK}
    assert run_train('-e', '1', '--output', 'other') == 0


def test_the_lock_ends_with_its_process_and_is_removed_at_the_end_of_a_run(held):
    checkpoints, holder = held
    with pytest.raises(UserError):
        check_unlocked(checkpoints)
    holder.kill()
    holder.wait()
    check_unlocked(checkpoints)
    lock = FolderLock(checkpoints)
    with pytest.raises(UserError, match=f'process {os.getpid()} '):
        FolderLock(checkpoints)
    lock.release()
    assert list(checkpoints.iterdir()) == []


@pytest.mark.slow
def test_another_runs_last_file_is_not_mixed_with_this_runs(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    assert run_train('-e', '1', '--output', 'other') == 0
    shutil.copy('other/last.pth', 'checkpoints/last.pth')
    rows = Path('checkpoints/metrics.csv').read_text()
    assert run_train('--resume', 'checkpoints', '-e', '2') == 2
    assert (
        'last.pth is of another run than the other files in checkpoints' in capsys.readouterr().err
    )
    assert Path('checkpoints/metrics.csv').read_text() == rows
    assert run_train('--resume', 'other', '-e', '2') == 0
    uid = json.loads(Path('other/args.json').read_text())['run']
    assert run_train('--resume', 'other', '-e', '3') == 0
    assert json.loads(Path('other/args.json').read_text())['run'] == uid
