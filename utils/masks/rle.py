"""Run-length encoded masks and the submission file of Kaggle's Carvana challenge.

A mask is the string 'start length start length …': the runs of foreground, with pixels numbered
from 1, row by row, from left to right; '' without foreground. See
https://www.kaggle.com/c/carvana-image-masking-challenge/overview/evaluation.
"""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.runtime.files import whole_file


def encode_rle(mask: np.ndarray, background: int = 0) -> str:
    """Return the runs of a mask (H, W), bool or integer; the foreground is all but `background`."""
    pixels = np.pad(mask.ravel() != background, 1)  # index k is now pixel number k
    runs = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1  # starts and ends in turns
    runs[1::2] -= runs[::2]
    return ' '.join(map(str, runs.tolist()))


def write_submission(rows: Iterable[tuple[str, str]], path: Path) -> None:
    """Write rows (file name, runs) as they come; the file appears when it is complete."""
    with (
        whole_file(path) as part,
        # Names that are no text, in no encoding, keep their bytes.
        part.open('w', encoding='utf-8', errors='surrogateescape', newline='') as file,
    ):
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
