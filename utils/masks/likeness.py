"""Whether a picture looks like a mask, for proposals of names that pair."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from utils.images.decoding import open_picture
from utils.images.pages import Source
from utils.runtime.errors import UserError

from .joined import foreground
from .values import mask_array, pack_colours

FEW_GREYS, FEW_COLOURS, FEW_NUMBERS = 32, 64, 1024
SAME = 0.5  # fraction of the smaller of two masks from which both are of the same thing
FULL = 0.99  # fraction of a picture that its objects do not cover together


def label_likeness(path: Source) -> float:
    """Return how much a picture looks like labels: 1 for few greys, 0 for a photograph.

    0.9 for few colours, 0.8 for few numbers of more than 8 bits, in areas of one number each. A
    smoothed or lossy mask of two values counts as few greys: nearly all of its pixels are near
    black or white.
    """
    try:
        values = mask_array(open_picture(path), path)
    except UserError:
        return 0.0
    distinct = len(np.unique(pack_colours(values) if values.ndim == 3 else values))
    if values.ndim == 3:
        return 0.9 if distinct <= FEW_COLOURS else 0.0
    if values.dtype.itemsize > 1:
        return 0.8 if distinct <= FEW_NUMBERS and _is_flat(values) else 0.0
    extreme = np.count_nonzero((values < 32) | (values > 223))
    return 1.0 if distinct <= FEW_GREYS or extreme > 0.95 * values.size else 0.0


def are_parts(paths: Sequence[Source], classes: bool) -> bool:
    """Return whether masks of one picture may be joined: objects, or `classes`, one each.

    They are if they have two values each, and hardly overlap. Masks of several annotators do, and
    so do classes within others, which would be lost. Objects leave some of the picture: a mask and
    its inverse do not.
    """
    areas = []
    for path in paths:
        values = mask_array(open_picture(path), path)
        if len(np.unique(pack_colours(values) if values.ndim == 3 else values)) > 2:
            return False
        areas.append(foreground(path))
    if len({area.shape for area in areas}) > 1:
        return False
    if not classes and len(areas) > 1 and np.logical_or.reduce(areas).mean() > FULL:
        return False
    return all(
        (one & other).sum() < max(1, SAME * min(one.sum(), other.sum()))
        for one, other in combinations(areas, 2)
    )


def _is_flat(values: np.ndarray) -> bool:
    """Return whether neighbours are equal, but for those of the most common value."""
    found, counts = np.unique(values, return_counts=True)
    common = values == found[counts.argmax()]
    left, right = values[:, :-1], values[:, 1:]
    counted = ~(common[:, :-1] & common[:, 1:])
    return not counted.any() or (left == right)[counted].mean() > 0.5
