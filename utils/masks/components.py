"""Connected pieces of each class, and the largest ones, in numpy alone.

Pieces are found by runs, the stretches of one class within a row, of which a mask has thousands
where it has millions of pixels. Axis letters: H and W pixels.
"""

import numpy as np


def largest_components(indices: np.ndarray) -> np.ndarray:
    """Class indices (H, W) uint8 with only the largest piece of each class; the rest is class 0.

    Pixels of a class that share an edge are of one piece; of equal pieces the topmost stays.
    """
    starts, ends, classes = _runs(indices)
    if not len(starts):
        return indices
    piece = _joined(len(starts), *_touching(starts, ends, classes, indices.shape[1]))
    sizes = np.bincount(piece, weights=ends - starts, minlength=len(starts))
    kept = np.zeros(len(starts), dtype=bool)
    for k in np.unique(classes):
        largest = np.argmax(np.where(classes == k, sizes, 0))  # by the number of its first run
        kept |= piece == largest
    edges = np.zeros(indices.size + 1, dtype=np.int8)
    np.add.at(edges, starts[kept], 1)
    np.add.at(edges, ends[kept], -1)
    inside = np.cumsum(edges[:-1], dtype=np.int8).reshape(indices.shape)
    return indices * inside.view(np.uint8)


def label_components(values: np.ndarray) -> np.ndarray:
    """The number, from 1, of each pixel's piece, int32 (H, W), and 0 where the value is 0.

    values: (H, W) integers, class indices or others, from 0. Pixels of one value that share an
    edge are of one piece; pieces are numbered by their first pixels.
    """
    starts, ends, classes = _runs(values)
    piece = _joined(len(starts), *_touching(starts, ends, classes, values.shape[1]))
    _, number = np.unique(piece, return_inverse=True)
    labels = np.zeros(values.size, dtype=np.int32)
    inside = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [[]])
    labels[inside.astype(np.int64)] = np.repeat(number.ravel() + 1, ends - starts)
    return labels.reshape(values.shape)


def _runs(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end (past the last) and class of each run but the background's, as flat positions."""
    first = np.ones(indices.shape, dtype=bool)
    np.not_equal(indices[:, 1:], indices[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], indices.size)
    classes = indices.ravel()[starts]
    shown = classes > 0
    return starts[shown], ends[shown], classes[shown]


def _touching(
    starts: np.ndarray, ends: np.ndarray, classes: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of runs of one class of which the second lies below the first."""
    low = np.searchsorted(ends, starts + width, side='right')
    high = np.searchsorted(starts, ends + width, side='left')
    count = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(starts)), count)
    nth = np.arange(len(above)) - np.repeat(np.cumsum(count) - count, count)
    below = np.repeat(low, count) + nth
    same = classes[above] == classes[below]
    return above[same], below[same]


def _joined(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each run the number of its piece's first: union-find, all pairs at once.

    Each round hangs the later of two roots under the earlier one, until no pair has two.
    """
    root = np.arange(count)
    while True:
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        apart = low != high
        if not apart.any():
            return root
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(root, root[root]):
            root = root[root]
