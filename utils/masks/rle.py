"""Run-length encoded masks, as Kaggle's Carvana challenge takes them, and their CSV file.

A mask is pairs of numbers 'start length start length …': the foreground's runs, pixels numbered
from 1, row by row, each from left to right
(https://www.kaggle.com/c/carvana-image-masking-challenge/overview/evaluation). '' is a mask
without foreground. Axis letters: H and W pixels.
"""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.runtime.errors import UserError
from utils.runtime.files import whole_file

HEADER = ('img', 'rle_mask')


def encode_rle(mask: np.ndarray) -> str:
    """The runs of a mask (H, W), bool or integer, whose foreground is all that is not 0."""
    pixels = mask.ravel() != 0
    if not pixels.size:
        return ''
    # Where a run starts or ends, as the numbers (from 1) of the first pixels after the change.
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 2
    ends = [[1]] if pixels[0] else []
    ends += [changes] + ([[pixels.size + 1]] if pixels[-1] else [])
    runs = np.concatenate(ends).astype(np.int64)
    runs[1::2] -= runs[::2]
    return ' '.join(map(str, runs.tolist()))


def decode_rle(text: str, size: tuple[int, int]) -> np.ndarray:
    """The bool mask (H, W) of runs; size: (width, height) in pixels.

    Raises UserError for what are no pairs of numbers, and for runs that are out of order, empty,
    overlap, or leave the picture.
    """
    width, height = size
    words = text.split()
    if len(words) % 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise UserError(f'{text[:40]!r}: expected pairs of whole numbers, start and length')
    pairs = zip(map(int, words[::2]), map(int, words[1::2]), strict=True)
    bounds = [0, *(bound for start, count in pairs for bound in (start - 1, start - 1 + count))]
    lengths = np.diff([*bounds, width * height])  # of background and foreground in turns
    if (lengths < 0).any() or (lengths[1::2] == 0).any():
        raise UserError(
            f'{text[:40]!r}: expected runs of at least one pixel, in order, within 1 to '
            f'{width * height} (a picture of {width} x {height})'
        )
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(height, width)


def write_submission(rows: Iterable[tuple[str, str]], path: Path) -> None:
    """Write (file name, runs) as they come, one by one; the file appears when it is whole."""
    with whole_file(path) as part, part.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(HEADER)
        writer.writerows(rows)


def join_submissions(parts: list[Path], path: Path) -> None:
    """Make one file of several, one after the other, and remove these."""
    with whole_file(path) as whole, whole.open('wb') as file:
        for k, part in enumerate(parts):
            with part.open('rb') as rows:
                header = rows.readline()
                file.write(header if k == 0 else b'')
                shutil.copyfileobj(rows, file)
    for part in parts:
        part.unlink()
