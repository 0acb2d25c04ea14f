"""The border weight map: what separates cells that touch counts more.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

of section 3 of https://arxiv.org/abs/1505.04597, where d1 and d2 are the distances to the border of
the nearest cell and of the second nearest. w_c, the class's weight, is the loss's; here is the
second term. Axis letters: B batch, H and W pixels.
"""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

W0, SIGMA = 10.0, 5.0  # the paper's; sigma in pixels, at training scale

NEGLIGIBLE = 1e-6  # of w0: no distance is computed that would give less


def border_weights(cells: np.ndarray, w0: float = W0, sigma: float = SIGMA) -> np.ndarray:
    """The second term for each pixel, float32 (H, W) in [0, w0]; 0 with fewer than two cells.

    cells: (H, W) integers, the number of each pixel's cell, 0 for the background. The border of a
    cell is its pixels that share an edge with one that is not its own. Distances are Euclidean,
    in pixels, and exact; where the term is under a millionth of w0 it is 0.
    """
    reach = int(np.ceil(sigma * np.sqrt(-2 * np.log(NEGLIGIBLE))))
    nearest = np.full(cells.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    borders = np.where(_at_border(cells), cells, 0)
    for number, window in _windows(borders, reach):
        distance = _distance(borders[window] == number, reach)
        first = nearest[window]
        np.minimum(second[window], np.maximum(first, distance), out=second[window])
        np.minimum(first, distance, out=first)
    return (w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))).astype(np.float32)


def touching(cells: np.ndarray) -> np.ndarray:
    """Which pixels (H, W) bool share an edge with a cell of a higher number than their own.

    Made background, they are the line between two cells that touch, one pixel wide.
    """
    found = np.zeros(cells.shape, dtype=bool)
    for one, other, marked in (
        (cells[:-1], cells[1:], (found[:-1], found[1:])),
        (cells[:, :-1], cells[:, 1:], (found[:, :-1], found[:, 1:])),
    ):
        both = (one > 0) & (other > 0)
        marked[0][...] |= both & (one < other)
        marked[1][...] |= both & (one > other)
    return found


def to_bytes(weights: np.ndarray) -> np.ndarray:
    """Border weights in [0, W0] as uint8, in steps of W0 / 255, to be kept and moved as a mask."""
    return np.rint(weights * (255 / W0)).astype(np.uint8)


def from_bytes(border: Tensor) -> Tensor:
    """Border weights float32 of to_bytes' uint8 (B, H, W)."""
    return border.float() * (W0 / 255)


def _at_border(cells: np.ndarray) -> np.ndarray:
    """Which pixels share an edge with one of another cell or of none; outside there is nothing."""
    found = np.zeros(cells.shape, dtype=bool)
    down, right = cells[1:] != cells[:-1], cells[:, 1:] != cells[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found & (cells > 0)


def _windows(borders: np.ndarray, reach: int) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Each cell's number and the part of the picture from which its border is within reach."""
    rows, columns = borders.nonzero()
    numbers = borders[rows, columns]
    order = np.argsort(numbers, kind='stable')
    rows, columns, numbers = rows[order], columns[order], numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=0))
    ends = [*starts[1:], len(numbers)][: len(starts)]  # none where there is no cell
    for start, end in zip(starts, ends, strict=True):
        sides = (rows[start:end], columns[start:end])
        window = tuple(slice(max(0, s.min() - reach), s.max() + reach + 1) for s in sides)
        yield numbers[start], window


def _distance(border: np.ndarray, reach: int) -> np.ndarray:
    """Distance (H, W) float32 to the nearest of the true pixels, infinite where beyond reach.

    One axis after the other: the squares of the distances along both add up.
    """
    square = np.where(border, 0, np.inf).astype(np.float32)
    for axis in (0, 1):
        square = np.moveaxis(square, axis, 0)
        least = square.copy()
        for step in range(1, min(reach, len(square) - 1) + 1):
            np.minimum(least[step:], square[:-step] + step**2, out=least[step:])
            np.minimum(least[:-step], square[step:] + step**2, out=least[:-step])
        square = np.moveaxis(least, 0, axis)
    return np.sqrt(square)
