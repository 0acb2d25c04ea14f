"""Border weight map: a higher loss weight for the gaps between cells.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

of section 3 of https://arxiv.org/abs/1505.04597, where d1 and d2 are the distances to the borders
of the nearest and the second nearest cell. This module computes the second term, the loss the class
weight w_c. Axis letters: B batch, H and W pixels.
"""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

W0, SIGMA = 10.0, 5.0  # of the paper; sigma in pixels at training scale


def border_weights(cells: np.ndarray, w0: float = W0, sigma: float = SIGMA) -> np.ndarray:
    """Return the second term of each pixel, float32 (H, W) in [0, w0].

    cells: (H, W), the number of each pixel's cell, 0 for background. A cell's border are its pixels
    beside another cell or background. The term is 0 where it would be less than w0 / 10^6.
    """
    reach = int(np.ceil(sigma * np.sqrt(-2 * np.log(1e-6))))
    nearest = np.full(cells.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    borders = np.where((_neighbours(cells) != cells).any(axis=0), cells, 0)
    for number, window in _windows(borders, reach):
        distance = _distance(borders[window] == number, reach)
        first = nearest[window]
        np.minimum(second[window], np.maximum(first, distance), out=second[window])
        np.minimum(first, distance, out=first)
    return (w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))).astype(np.float32)


def touching(cells: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: pixels of cells that share an edge with a cell of a higher number."""
    return (cells > 0) & (_neighbours(cells).max(axis=0) > cells)


def to_bytes(weights: np.ndarray) -> np.ndarray:
    """Return border weights in [0, W0] as uint8, in steps of W0 / 255, to store them like masks."""
    return np.rint(weights * (255 / W0)).astype(np.uint8)


def from_bytes(border: Tensor) -> Tensor:
    """Return the border weights float32 (B, H, W) of to_bytes' uint8."""
    return border.float() * (W0 / 255)


def _neighbours(cells: np.ndarray) -> np.ndarray:
    """Return the values (4, H, W) above, below, left and right; beyond the edge the pixel's own."""
    around = np.pad(cells, 1, mode='edge')
    return np.stack([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]])


def _windows(borders: np.ndarray, reach: int) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Yield each cell's number and the part of the image within `reach` of its border."""
    rows, columns = borders.nonzero()
    numbers = borders[rows, columns]
    order = np.argsort(numbers, kind='stable')
    rows, columns, numbers = rows[order], columns[order], numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=0))
    ends = [*starts[1:], len(numbers)][: len(starts)]  # empty if there is no cell
    for start, end in zip(starts, ends, strict=True):
        y, x = rows[start:end], columns[start:end]
        vertical = slice(max(0, y.min() - reach), y.max() + reach + 1)
        yield numbers[start], (vertical, slice(max(0, x.min() - reach), x.max() + reach + 1))


def _distance(border: np.ndarray, reach: int) -> np.ndarray:
    """Return the distance (H, W) float32 to the nearest true pixel, infinite beyond `reach`."""
    square = np.where(border, 0, np.inf).astype(np.float32)
    for axis in (0, 1):  # the squares of the distances along the axes add up
        square = np.moveaxis(square, axis, 0)
        least = square.copy()
        for step in range(1, min(reach, len(square) - 1) + 1):
            np.minimum(least[step:], square[:-step] + step**2, out=least[step:])
            np.minimum(least[:-step], square[step:] + step**2, out=least[:-step])
        square = np.moveaxis(least, 0, axis)
    return np.sqrt(square)
