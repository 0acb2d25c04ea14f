"""Values of annotation files, checked: UserError says which file, what was found and expected.

`what` names a value in messages: the file, and where in it.
"""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from utils.images import arrays
from utils.runtime.errors import UserError

FARTHEST = 1e7  # pixels; a coordinate beyond it is a mistake


def read_json(path: Path) -> object:
    """Return the content of a JSON file; raise UserError for a broken one."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else error
        raise UserError(f'{path} cannot be read as JSON: {reason}', 'unreadable') from error


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file that are not blank, and the line where each ends.

    Raises UserError for a file that is no text, or has a cell over Python's limit.
    """
    try:
        with path.open(encoding='utf-8-sig', newline='') as file:
            rows = csv.reader(file)
            for row in filter(None, rows):
                yield rows.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path} cannot be read as CSV: {error}', 'unreadable') from error


def check_cells(row: list[str], count: int, what: str) -> None:
    """Raise UserError for a row of a CSV file that has not as many cells as its header."""
    if len(row) != count:
        raise fault(f'{what}: number of cells', len(row), f'{count}, as in line 1')


def files_in(source: Path, pattern: str) -> Iterator[Path]:
    """Yield a file, or those of a folder and its folders, sorted, hidden ones left out."""
    if not source.is_dir():
        yield source
        return
    for path in sorted(source.rglob(pattern)):
        if not any(part.startswith('.') for part in path.relative_to(source).parts):
            yield path


def fault(what: str, value: object, expected: str) -> UserError:
    """Return the error for a value that cannot be used."""
    found = ascii(value) if isinstance(value, str) else repr(value)
    found = found if len(found) <= 60 else f'{found[:57]}...'
    return UserError(f'{what} is {found}; expected {expected}', 'broken annotation')


def number(value: object, what: str) -> float:
    """Return a number that may be a coordinate, of JSON or of text."""
    try:
        result = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not abs(result) <= FARTHEST:
        raise fault(what, value, 'a number of pixels')
    return result


def whole(value: object, what: str, least: int = 0) -> int:
    """Return a whole number from `least`, of JSON or of text."""
    result = number(value, what)
    if result != int(result) or result < least:
        raise fault(what, value, f'a whole number from {least}')
    return int(result)


def text(value: object, what: str) -> str:
    """Return a text that is not blank, without space around it."""
    if not isinstance(value, str) or not value.strip():
        raise fault(what, value, 'a text')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise fault(what, value, 'a text without half characters') from None
    return value.strip()


def listed(value: object, what: str) -> list:
    """Return a list."""
    if not isinstance(value, list):
        raise fault(what, value, 'a list')
    return value


def mapping(value: object, what: str) -> dict:
    """Return an object of JSON."""
    if not isinstance(value, dict):
        raise fault(what, value, 'an object')
    return value


def points(value: object, what: str) -> np.ndarray:
    """Return coordinates (N, 2) float64, of pairs or of x and y in turns."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise fault(what, value, 'pairs of numbers') from None
    if array.ndim == 1 and len(array) % 2 == 0:
        array = array.reshape(-1, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise fault(what, value, 'pairs of numbers, x and y')
    if not (np.abs(array) <= FARTHEST).all():
        raise fault(what, value, 'numbers of pixels')
    return array


def picture_size(width: object, height: object, what: str) -> tuple[int, int]:
    """Return (width, height) of a picture that Pillow would open."""
    size = whole(width, f'{what}: width', 1), whole(height, f'{what}: height', 1)
    if size[0] * size[1] > arrays.max_pixels():
        raise fault(what, f'{size[0]} x {size[1]}', f'at most {arrays.max_pixels()} pixels')
    return size


def run_lengths(value: object, pixels: int, what: str) -> np.ndarray:
    """Return the lengths of runs, (N,) int64, that add up to so many pixels."""
    try:
        counts = np.asarray(value)
    except ValueError:
        raise fault(what, value, 'run lengths') from None
    if counts.ndim != 1 or counts.dtype.kind not in 'iu' or (counts > pixels).any():
        raise fault(what, value, 'a list of run lengths, whole numbers')
    total = int(counts.sum(dtype=np.int64))
    if (counts < 0).any() or total != pixels:
        raise fault(f'{what}: the sum of run lengths', total, f'{pixels}, width times height')
    return counts.astype(np.int64)
