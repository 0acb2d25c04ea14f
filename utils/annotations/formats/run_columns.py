"""The columns of CSV files of run lengths, by the names that Kaggle's competitions give them."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

RUNS = ('encodedpixels', 'rle_mask', 'rle', 'encoding', 'annotation', 'segmentation')
PICTURES = ('imageid', 'image_id', 'img', 'image', 'id')
JOINED = ('imageid_classid', 'image_label')  # picture and class in one cell: a.jpg_Fish
CLASSES = ('classid', 'class_id', 'class', 'cell_type')
WIDTHS, HEIGHTS = ('width', 'img_width'), ('height', 'img_height')
# Columns of Sartorius, UW-Madison and Carvana, whose runs go along the rows.
BY_ROW = (('id', 'annotation'), ('id', 'segmentation'), ('img', 'rle_mask'))

EMPTY = ('', '-1')  # runs of a picture, or of a class, without an object
LOOKED_AT = 20  # rows
SOME_RUNS = re.compile(r'\s*\d+\s+\d+(\s|$)')


@dataclass(frozen=True)
class RunColumns:
    """Where a row has what, as indices of its cells.

    joined: whether the cell of the picture also names the class, after its last underscore.
    size: cells of width and height, None if there are none.
    by_column: whether runs of such files go down the columns, as far as the names tell.
    """

    count: int
    picture: int
    runs: int
    label: int | None
    joined: bool
    size: tuple[int, int] | None
    by_column: bool


def run_columns(header: list[str]) -> RunColumns | None:
    """Return the columns of a header; None if it is not that of a file of run lengths."""
    names = [name.strip().lower() for name in header]

    def first(wanted: Iterable[str]) -> int | None:
        return next((names.index(name) for name in wanted if name in names), None)

    joined, runs = first(JOINED), first(RUNS)
    picture = first(PICTURES) if joined is None else joined
    width, height = first(WIDTHS), first(HEIGHTS)
    if picture is None or runs is None:
        return None
    size = None if width is None or height is None else (width, height)
    by_column = (names[picture], names[runs]) not in BY_ROW
    label = None if joined is not None else first(CLASSES)
    return RunColumns(len(names), picture, runs, label, joined is not None, size, by_column)


def is_sample(path: Path) -> bool:
    """Return whether a file is an example of a submission, whose runs are invented."""
    return 'sample_submission' in path.name.lower()


def begins_with_runs(lines: Iterable[str]) -> bool:
    """Return whether a CSV file has these columns, and runs, or nothing, in its first rows.

    Lists of pictures and mask files may have columns of the same names.
    """
    columns = None
    try:
        rows = csv.reader(lines)
        columns = run_columns(next(rows, []))
        if columns is None:
            return False
        cells = [row[columns.runs] for row in islice(rows, LOOKED_AT) if len(row) > columns.runs]
    except csv.Error:  # a cell of over 131,072 characters: only runs are as long
        return columns is not None
    written = [cell for cell in cells if cell.strip() not in EMPTY]
    return not written or any(SOME_RUNS.match(cell) for cell in written)
