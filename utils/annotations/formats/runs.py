"""Run lengths in CSV files, as of Kaggle's competitions: a row for each object or class.

Runs are 'start length start length …', with the pixels of the picture numbered from 1. See
https://www.kaggle.com/c/airbus-ship-detection/overview/evaluation.
"""

import csv
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from utils.annotations import fields
from utils.annotations.records import AnnotatedPicture, AnnotationSet, Runs, Shape
from utils.runtime.errors import UserError

from .run_columns import EMPTY, RunColumns, begins_with_runs, is_sample, run_columns

EXPECTED = (
    'expected a CSV file with columns for pictures and run lengths, such as ImageId,EncodedPixels '
    'or ImageId,ClassId,EncodedPixels'
)
ONLY_CLASS = 'object'  # where no column names a class
SLICE = re.compile(r'case\d+_day\d+_slice_\d+')  # of UW-Madison, in place of a file's name


def read_runs(source: Path) -> AnnotationSet:
    """Read a CSV file of run lengths, or all of a folder but sample submissions.

    Sizes are left to the pictures unless columns tell them. Classes are numbered in the order of
    their numbers, or else by name; without a column for them there is one class, 'object'.
    """
    found = AnnotationSet(parts=True)
    slices = None
    labels: dict[str, None] = {}
    with _cells_of_any_length():
        for path in fields.files_in(source, '*.csv'):
            if path != source and is_sample(path):
                found.count('sample submissions are left out', path.name)
            elif path == source or _has_runs(path):
                labels |= _add_file(found, path)
    if not found.pictures and not found.problems:
        raise UserError(f'{source} holds no run lengths; {EXPECTED}')
    for picture in found.pictures:
        if SLICE.fullmatch(picture.names[0]):
            slices = _slices(source) if slices is None else slices
            picture.names = (slices.get(picture.names[0], picture.names[0]),)
    numbers = all(label.isdecimal() for label in labels)
    found.labels = sorted(labels, key=int if numbers else None) or [ONLY_CLASS]
    return found


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Let the runs of a picture take more than the 131,072 characters of Python's CSV reader."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a C long has 32 bits on Windows
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _has_runs(path: Path) -> bool:
    try:
        with path.open(encoding='utf-8-sig', errors='replace', newline='') as file:
            return begins_with_runs(file)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error}', 'unreadable') from error


def _add_file(found: AnnotationSet, path: Path) -> dict[str, None]:
    """Add the pictures of a file; return its classes, those without an object too."""
    pictures: dict[str, AnnotatedPicture] = {}
    labels: dict[str, None] = {}
    rows = fields.read_csv(path)
    header = next(rows, (0, []))[1]
    columns = run_columns(header)
    if columns is None:
        raise UserError(f'{path} has the columns {",".join(header)[:80]!a}; {EXPECTED}')
    for line, row in rows:
        with found.attempt():
            labels[_add_row(pictures, path, columns, row, f'{path}: line {line}')] = None
    found.pictures += pictures.values()
    return labels


def _add_row(
    pictures: dict[str, AnnotatedPicture], path: Path, columns: RunColumns, row: list[str],
    what: str,
) -> str:  # fmt: skip
    """Add a row's object to its picture, which is new or known; return its class."""
    fields.check_cells(row, columns.count, what)
    name = fields.text(row[columns.picture], f'{what}: picture')
    label = ONLY_CLASS
    if columns.joined:
        name, joint, label = name.rpartition('_')
        if not (name and joint and label):
            raise fields.fault(what, row[columns.picture], 'picture_class, as in a.jpg_1')
    elif columns.label is not None:
        label = fields.text(row[columns.label], f'{what}: class')
    size = None
    if columns.size:
        width, height = (row[k] for k in columns.size)
        size = fields.picture_size(width, height, what)
    picture = pictures.setdefault(name, AnnotatedPicture(path, (name,), size))
    if picture.size != size:
        raise fields.fault(f'{what}: size', size, f'{picture.size}, as in other rows of {name}')
    cell = row[columns.runs].strip()
    if cell not in EMPTY:
        runs = Runs(parse_runs(cell, what), None, by_column=columns.by_column, where=what)
        picture.shapes.append(Shape(label, runs))
    return label


def parse_runs(cell: str, what: str) -> np.ndarray:
    """Return the lengths (N,) int64 of 'start length …', outside and inside the object in turns.

    The last run inside is the end: how much follows, only the picture tells. Raises UserError for
    starts below 1, for runs that overlap or are not in order, and for what is no pair of numbers.
    """
    try:
        numbers = np.array(cell.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        word = next((word for word in cell.split() if not word.isdecimal()), cell)
        expected = 'whole numbers, starts and lengths in turns: 1 3 10 5'
        raise fields.fault(f'{what}: in the runs', word, expected) from None
    if len(numbers) % 2:
        raise fields.fault(
            f'{what}: count of numbers', len(numbers), 'an even one, a length for each start'
        )
    starts, lengths = numbers[::2], numbers[1::2]
    for name, values, least in (('start', starts, 1), ('length', lengths, 0)):
        if values.min() < least or values.max() > fields.FARTHEST**2:
            wrong = values[(values < least) | (values > fields.FARTHEST**2)][0]
            raise fields.fault(f'{what}: {name}', int(wrong), f'a whole number from {least}')
    ends = starts + lengths  # of each run, the number of the next pixel
    outside = starts - np.concatenate([[1], ends[:-1]])
    if (outside < 0).any():
        k = int(np.argmax(outside < 0))
        raise UserError(
            f'{what}: a run starts at {starts[k]} and the one before it ends at {ends[k - 1] - 1}; '
            'expected runs in order that do not overlap, with starts counted from the first pixel '
            '(SIIM-ACR counts them from the end of the run before, which is not read)',
            'broken annotation',
        )
    return np.stack([outside, lengths], axis=1).ravel()


def _slices(source: Path) -> dict[str, str]:
    """Return the paths of UW-Madison's pictures by their ids, case1_day2_slice_0003.

    Such a picture is case1/case1_day2/scans/slice_0003_266_266_1.50_1.50.png.
    """
    folder = (source if source.is_dir() else source.parent).resolve()
    paths = sorted(folder.rglob('slice_*_*.png'))
    return {
        f'{path.parent.parent.name}_{"_".join(path.name.split("_")[:2])}':
        path.relative_to(folder).as_posix()
        for path in paths
    }  # fmt: skip
