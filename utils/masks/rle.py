"""Run-length encoded masks and the submission file of Kaggle's Carvana challenge.

A mask is the string 'start length start length …': the runs of foreground, with pixels numbered
from 1, row by row, from left to right; '' without foreground. See
https://www.kaggle.com/c/carvana-image-masking-challenge/overview/evaluation.
Axis letters: H and W pixels.
"""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.runtime.errors import UserError
from utils.runtime.files import whole_file


def encode_rle(mask: np.ndarray) -> str:
    """Return the runs of a mask (H, W), bool or integer; the foreground is all that is not 0."""
    pixels = np.pad(mask.ravel() != 0, 1)  # index k is now pixel number k
    runs = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1  # starts and ends in turns
    runs[1::2] -= runs[::2]
    return ' '.join(map(str, runs.tolist()))


def decode_rle(text: str, size: tuple[int, int]) -> np.ndarray:
    """Return the bool mask (H, W) of runs; size: (width, height) in pixels.

    Raises UserError for text that is not runs in order, without overlap, inside the picture.
    """
    width, height = size
    words = text.split()
    if len(words) % 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise UserError(f'{text[:40]!r}: expected pairs of whole numbers, start and length')
    pairs = zip(map(int, words[::2]), map(int, words[1::2]), strict=True)
    bounds = [0, *(bound for start, count in pairs for bound in (start - 1, start - 1 + count))]
    lengths = np.diff([*bounds, width * height])  # of background and foreground, alternating
    if (lengths < 0).any() or (lengths[1::2] == 0).any():
        raise UserError(
            f'{text[:40]!r}: expected runs of at least one pixel, in order, within 1 to '
            f'{width * height} (a picture of {width} x {height})'
        )
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)


def write_submission(rows: Iterable[tuple[str, str]], path: Path) -> None:
    """Write rows (file name, runs) as they come; the file appears when it is complete."""
    with whole_file(path) as part, part.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(('img', 'rle_mask'))
        writer.writerows(rows)


def join_submissions(parts: list[Path], path: Path) -> None:
    """Concatenate several submission files into one and remove them."""
    with whole_file(path) as whole, whole.open('wb') as file:
        for k, part in enumerate(parts):
            with part.open('rb') as rows:
                header = rows.readline()
                file.write(header if k == 0 else b'')
                shutil.copyfileobj(rows, file)
    for part in parts:
        part.unlink()
