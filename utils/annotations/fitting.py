"""Runs of whole pictures, checked once the sizes of the pictures are known.

No file says whether its runs go down the columns or along the rows. Where pictures are not square
it shows: the runs of an object in neighbouring columns begin about a height apart, and those in
neighbouring rows a width. H and W pixels.
"""

from collections import Counter
from dataclasses import replace

import numpy as np

from utils.runtime.errors import UserError

from .placing import Placement
from .records import AnnotationSet, Runs, Shape

CLEAR, LEAST = 2, 8  # times as many distances as for the other way, and their number
UNKNOWN = 'objects whose runs are taken to go down the columns; with --by-row, along the rows'
SHOWN = {
    True: 'objects whose runs go down the columns, as their distances show',
    False: 'objects whose runs go along the rows, as their distances show',
}


def fit_runs(found: AnnotationSet, placement: Placement, by_row: bool) -> None:
    """Check that the runs end within their pictures, and set which way they go.

    by_row: along the rows, whatever distances and columns' names tell.
    Runs that do not fit are added to the problems, a way that was not read from the file to the
    notes.
    """
    votes: Counter[tuple[bool, bool]] = Counter()  # of what names tell, and distances
    examples: dict[bool, str] = {}
    numbers: Counter[bool] = Counter()
    for placed in placement.pictures:
        for runs in filter(None, map(_unsized, placed.picture.shapes)):
            numbers[runs.by_column] += 1
            examples.setdefault(runs.by_column, runs.where)
            with found.attempt():
                _check_end(runs, placed.size, placed.picture.names[0])
                down, along = distances(runs.counts, placed.size)
                votes[runs.by_column, True] += down
                votes[runs.by_column, False] += along
    turned = set()
    for told, number in numbers.items():
        way = _way(votes[told, True], votes[told, False])
        if by_row:
            way = False
        elif way is None:
            way = told
            if told:
                _note(found, UNKNOWN, number, examples[told])
        elif way != told:
            _note(found, SHOWN[way], number, examples[told])
        if way != told:
            turned.add(told)
    for placed in placement.pictures if turned else []:
        placed.picture.shapes = [_turned(shape, turned) for shape in placed.picture.shapes]


def _unsized(shape: Shape) -> Runs | None:
    """Return the runs of a shape if they are of the whole picture."""
    return shape.area if isinstance(shape.area, Runs) and shape.area.size is None else None


def _check_end(runs: Runs, size: tuple[int, int], name: str) -> None:
    end, pixels = int(runs.counts.sum()), size[0] * size[1]
    if end > pixels:
        raise UserError(
            f'{runs.where}: the last run ends at pixel {end}, and {name} has {pixels} '
            f'({size[0]} x {size[1]}); expected the picture that was annotated, at its own size',
            'runs beyond their picture',
        )


def distances(counts: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Return how many successive runs begin about a height apart, and how many about a width.

    counts: (N,) lengths outside and inside in turns. size: (width, height). Sizes that hardly
    differ say nothing, as outlines lean: (0, 0).
    """
    width, height = size
    apart, least = abs(width - height), min(size)
    if apart < max(8, least // 16):
        return 0, 0
    slack = min((apart - 1) // 2, least // 8)
    steps = np.diff(np.cumsum(counts)[::2])
    down, along = (int((abs(steps - step) <= slack).sum()) for step in (height, width))
    return down, along


def _way(down: int, along: int) -> bool | None:
    """Return whether runs go down the columns; None if the distances do not say."""
    if max(down, along) < LEAST or CLEAR * min(down, along) >= max(down, along):
        return None
    return down > along


def _note(found: AnnotationSet, what: str, number: int, where: str) -> None:
    found.count(what, where)
    found.counts[what] = number


def _turned(shape: Shape, turned: set[bool]) -> Shape:
    runs = _unsized(shape)
    if runs is None or runs.by_column not in turned:
        return shape
    return replace(shape, area=replace(runs, by_column=not runs.by_column))
