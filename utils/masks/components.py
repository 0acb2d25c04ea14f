"""Connected components of masks, in numpy.

A component is a set of pixels of one class that are connected by shared edges. Components are found
from runs, the stretches of one class within a row: a mask of millions of pixels has thousands.
"""

import numpy as np


def largest_components(indices: np.ndarray, background: int = 0) -> np.ndarray:
    """Return class indices (H, W) uint8 with only the largest component of each class.

    All other pixels become `background`. Of equally large components the topmost stays.
    """
    starts, ends, classes, component = _components(np.where(indices == background, 0, indices + 1))
    sizes = np.bincount(component, weights=ends - starts, minlength=len(starts))
    kept = np.zeros(len(starts), dtype=bool)
    for k in np.unique(classes):
        largest = np.argmax(np.where(classes == k, sizes, 0))
        kept |= component == largest
    return np.where(_paint(starts, ends, kept, indices.shape), indices, np.uint8(background))


def label_components(values: np.ndarray) -> np.ndarray:
    """Return the number of each pixel's component, int32 (H, W); 0 where the value is 0.

    values: (H, W) integers from 0, not only class indices. Components are numbered from 1, in the
    order of their first pixels.
    """
    starts, ends, _, component = _components(values)
    _, positions = np.unique(component, return_inverse=True)
    return _paint(starts, ends, positions.astype(np.int32) + 1, values.shape)


def shapes_of_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Describe the pixels of each value over 0 of (H, W) integers.

    Returns N values; the fraction of each one's pixels in its largest component, (N,); and each
    one's centre as (row, column), (N, 2).
    """
    starts, ends, found, component = _components(values)
    lengths, rows = ends - starts, starts // values.shape[1]
    columns = (starts + ends - 1) / 2 - rows * values.shape[1]
    names, which = np.unique(found, return_inverse=True)
    pixels, sizes = np.bincount(which, lengths), np.bincount(component, lengths, len(starts))
    largest = np.zeros(len(names))
    np.maximum.at(largest, which, sizes[component])
    centres = [np.bincount(which, place * lengths) / pixels for place in (rows, columns)]
    return names, largest / pixels, np.stack(centres, axis=1)


def _components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return each run's start and end (exclusive, flat), value, and first run of its component."""
    first = np.ones(values.shape, dtype=bool)
    np.not_equal(values[:, 1:], values[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    ends, classes = np.append(starts[1:], values.size), values.ravel()[starts]
    starts, ends, classes = (part[classes > 0] for part in (starts, ends, classes))
    # All pairs of a run and one below it that share an edge and the class.
    low = np.searchsorted(ends, starts + values.shape[1], side='right')
    high = np.searchsorted(starts, ends + values.shape[1], side='left')
    count = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(starts)), count)
    nth = np.arange(len(above)) - np.repeat(np.cumsum(count) - count, count)
    below = np.repeat(low, count) + nth
    same = classes[above] == classes[below]
    above, below = above[same], below[same]
    # Union-find, all pairs at once: attach the later of two roots to the earlier one.
    root = np.arange(len(starts))
    while True:
        first, last = np.minimum(root[above], root[below]), np.maximum(root[above], root[below])
        apart = first != last
        if not apart.any():
            return starts, ends, classes, root
        np.minimum.at(root, last[apart], first[apart])
        while not np.array_equal(root, root[root]):
            root = root[root]


def _paint(
    starts: np.ndarray, ends: np.ndarray, values: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Return an array of this shape with the value of each run in its pixels, 0 elsewhere."""
    bounds = np.stack([starts, ends], axis=1).ravel()
    lengths = np.diff(bounds, prepend=0, append=np.prod(shape))  # of gaps and runs, alternating
    painted = np.zeros(len(lengths), dtype=values.dtype)
    painted[1::2] = values
    return np.repeat(painted, lengths).reshape(shape)
