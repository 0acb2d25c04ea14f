"""Values that are a thin rim between other values, as data sets draw pixels that do not count.

Axis letters: H and W pixels.
"""

import numpy as np

SAMPLES = 1000  # pixels of a value that are looked at
COVERED, BETWEEN = 0.7, 0.75  # least fractions, see rim_values
SIDE_PARTS, SHORTEST = 64, 4
LARGEST_SHARE = 0.4  # of all pixels


def rim_values(values: np.ndarray) -> list[int]:
    """Return the values of (H, W) integers that are rims, none with less than three values.

    A rim covers outlines: COVERED of all contacts of two values are contacts with it. It is thin
    and lies between: BETWEEN of its pixels have two other values within a SIDE_PARTS-th of the
    longer side, at least SHORTEST pixels. A thin object on a background has one other value near.
    """
    contacts = []
    for here, there in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        apart = here != there
        contacts.append(np.stack([here[apart], there[apart]]))
    pairs = np.concatenate(contacts, axis=1)
    found, counts = np.unique(pairs, return_counts=True)
    if len(found) < 3:
        return []
    covering = found[counts >= COVERED * pairs.shape[1]]
    return [int(value) for value in covering if _lies_between(values, value)]


def _lies_between(values: np.ndarray, value: np.integer) -> bool:
    """Return whether the pixels of a value lie between pixels of two others."""
    places = np.flatnonzero(values == value)
    if len(places) > LARGEST_SHARE * values.size:
        return False
    places = places[:: max(1, len(places) // SAMPLES)]
    height, width = values.shape
    reach = max(SHORTEST, max(height, width) // SIDE_PARTS)
    steps = np.linspace(-reach, reach, 7).round().astype(np.int64)
    rows = (places[:, None] // width + np.repeat(steps, 7)).clip(0, height - 1)
    columns = (places[:, None] % width + np.tile(steps, 7)).clip(0, width - 1)
    near = values[rows, columns].astype(np.int64)  # of each place, a grid of 7 x 7
    own = near == value
    limits = np.iinfo(np.int64)
    lowest, highest = np.where(own, limits.max, near).min(1), np.where(own, limits.min, near).max(1)
    return np.mean(lowest < highest) >= BETWEEN
