"""quickstart.sh never trains on a part of its demo data, wherever a call before was killed."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for the interpreter of .venv: renders six names, and fails where it would train.
PYTHON = """#!/bin/sh
case "$1" in
  scripts/make_demo_data.py)
    mkdir -p "$3" "$5"
    for k in 1 2 3 4 5 6; do echo x >"$3/$k.jpg"; echo x >"$5/${k}_mask.png"; done ;;
  train.py) exit 3 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / 'scripts').mkdir()
    shutil.copy(ROOT / 'scripts/quickstart.sh', tmp_path / 'scripts')
    (tmp_path / 'python').write_text(PYTHON)
    (tmp_path / 'python').chmod(0o755)
    (tmp_path / 'scripts/environment.sh').write_text('environment() { python=./python; }\n')
    for part in ('imgs', 'masks'):
        (tmp_path / 'data' / part).mkdir(parents=True)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(checkout):
    """Run quickstart up to its training."""
    done = subprocess.run(
        ['bash', checkout / 'scripts/quickstart.sh'],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    return done.stdout


@pytest.mark.parametrize('moved', [0, 1, 6, 9, 12])
def test_a_call_killed_while_it_moves_files_is_completed_by_the_next(checkout, moved):
    run(checkout)
    everything = {part: names(checkout / 'data' / part) for part in ('imgs', 'masks')}
    assert [len(found) for found in everything.values()] == [6, 6]
    # The state of a call that was killed after so many files, masks first.
    files = [('masks', name) for name in everything['masks']]
    files += [('imgs', name) for name in everything['imgs']]
    for part, name in files[moved:]:
        (checkout / 'data' / part / name).rename(checkout / 'data/demo' / part / name)
    (checkout / 'data/demo/rendered').touch()
    assert '6 images in data/imgs' in run(checkout)
    assert {part: names(checkout / 'data' / part) for part in everything} == everything
    assert not (checkout / 'data/demo/rendered').exists()


def test_a_users_own_images_are_used_as_they_are(checkout):
    (checkout / 'data/imgs/own.jpg').write_text('x')
    assert '1 images in data/imgs' in run(checkout)
    assert not (checkout / 'data/demo').exists()
