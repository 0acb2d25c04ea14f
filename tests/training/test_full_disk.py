"""A full disk or a read-only data set costs no file that is there already."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from drawing import data_set
from launching import in_own_process
from running import SMALL, run_train, same_weights

LAST = Path('checkpoints/last.pth')


@pytest.mark.slow
@in_own_process
def test_a_last_file_that_cannot_be_written_leaves_the_one_before(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    before = LAST.read_bytes()
    # The system lets files grow to this size only: enough for the smaller checkpoint_epoch2.pth.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 1, resource.RLIM_INFINITY))
    assert run_train('--resume', '-e', '2') == 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: checkpoints/last.pth: File too large')
    assert LAST.read_bytes() == before
    assert not list(Path('checkpoints').glob('.unet-*'))
    assert run_train('--resume', '-e', '2') == 0
    assert run_train('-e', '1', '--output', 'whole') == 0
    assert run_train('--resume', 'whole/last.pth', '-e', '2') == 0
    assert same_weights('whole/last.pth', LAST)


def in_namespace(script, *arguments):
    """Run a shell script in a mount namespace of its own; skip the test if that is impossible."""
    if shutil.which('unshare') is None or not hasattr(os, 'geteuid') or os.geteuid():
        pytest.skip('needs root on Linux, to mount file systems')
    command = ['unshare', '-m', 'sh', '-c', script, 'sh', sys.executable, str(ROOT / 'train.py')]
    options = ['--images', 'imgs', '--masks', 'masks', *SMALL, *arguments]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    if done.returncode == 77 or 'unshare failed' in done.stderr:
        pytest.skip('this system lets root mount nothing')
    return done


FULL = """
mount -t tmpfs -o size=16M tmpfs checkpoints || exit 77
"$@" -e 1 || exit 78
sha256sum checkpoints/last.pth > before
# Room for checkpoint_epoch2.pth and for the half of last.pth.
epoch=$(stat -c %s checkpoints/checkpoint_epoch1.pth) last=$(stat -c %s checkpoints/last.pth)
free=$(($(stat -f -c '%a * %S' checkpoints)))
head -c $((free - epoch - last / 2)) /dev/zero > checkpoints/filler
"$@" --resume checkpoints -e 2
code=$?
sha256sum --quiet -c before || exit 79
ls -A checkpoints | grep unet- && exit 80
rm checkpoints/filler
"$@" --resume checkpoints -e 2 > /dev/null 2>&1 || exit 81
exit $code
"""


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_the_last_file_and_the_run_continues_later(folder):
    data_set(folder, 4)
    Path('checkpoints').mkdir()
    done = in_namespace(FULL, '-v', '0')
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert 'error: checkpoints/last.pth: No space left on device' in done.stderr
    assert 'Traceback' not in done.stderr


READ_ONLY = """
mount --bind data data && mount -o remount,bind,ro data || exit 77
touch data/imgs/new 2> /dev/null && exit 77
"$@" -e 1
"""


@pytest.mark.slow
def test_a_read_only_data_set_trains(folder):
    data_set(folder / 'data', 4)
    done = in_namespace(READ_ONLY, '--images', 'data/imgs', '--masks', 'data/masks')
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert 'Traceback' not in done.stderr
    assert LAST.is_file()
    assert {path.name for path in Path('data').iterdir()} == {'imgs', 'masks'}
