"""Files that change under a training end it with one message, or are not read again."""

import os
from pathlib import Path

import numpy as np
import pytest
from drawing import data_set, disc
from PIL import Image
from running import run_train

from utils.training.step import StepRunner

IMAGE, MASK = Path('imgs/disc02.png'), Path('masks/disc02.png')


def larger():
    Image.fromarray(disc(2, (64, 48))[0]).save(IMAGE)


def deeper():
    Image.fromarray(disc(2)[0][..., 0].astype(np.uint16) * 200).save(IMAGE)


def pipe():
    IMAGE.unlink()
    os.mkfifo(IMAGE)


def mask_larger():
    Image.fromarray(disc(2, (64, 48))[1].astype(np.uint8)).save(MASK)


def truncate():
    IMAGE.write_bytes(IMAGE.read_bytes()[:300])


SIZES = 'has changed since the data were checked: it has 64 x 48 pixels now, and had 48 x 32'
CHANGES = [
    (larger, '0', f'{IMAGE} {SIZES}'),
    (larger, '2', f'{IMAGE} {SIZES}'),
    (mask_larger, '2', f'{MASK} {SIZES}'),
    (deeper, '0', f'{IMAGE} has changed since the data were checked: it has more than 8 bits'),
    (pipe, '0', f'{IMAGE} is not a file'),
    (truncate, '2', f'{IMAGE} cannot be read as a picture: image file is truncated'),
    (IMAGE.unlink, '0', f'{IMAGE} cannot be read as a picture: [Errno 2] No such file'),
    (MASK.unlink, '2', f'{MASK} cannot be read as a picture: [Errno 2] No such file'),
]


def train_while(change, monkeypatch, *options):
    """Train for two epochs, with a change of the files before the last step of the first one."""
    data_set(Path(), 4)
    step, calls = StepRunner.run_step, []

    def changing(*arguments):
        calls.append(1)
        if len(calls) == 2:
            change()
        return step(*arguments)

    monkeypatch.setattr(StepRunner, 'run_step', changing)
    return run_train('-e', '3', '-v', '0', *options)


@pytest.mark.parametrize(
    ('change', 'workers', 'message'), CHANGES, ids=[f'{c[0].__name__} {c[1]}' for c in CHANGES]
)
def test_a_file_that_changes_under_a_training_is_named(
    folder, capsys, monkeypatch, change, workers, message
):
    assert train_while(change, monkeypatch, '--cache', 'none', '--workers', workers) == 2
    captured = capsys.readouterr()
    assert f'error: {message}' in captured.err
    assert 'Traceback' not in captured.err


@pytest.mark.slow
@pytest.mark.parametrize(('cache', 'workers'), [('ram', '0'), ('disk', '2'), ('device', '0')])
def test_images_that_are_cached_are_not_read_again(folder, monkeypatch, cache, workers):
    def all_gone():
        for path in Path('imgs').iterdir():
            path.unlink()

    assert train_while(all_gone, monkeypatch, '--cache', cache, '--workers', workers) == 0
