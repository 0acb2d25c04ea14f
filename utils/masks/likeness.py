"""Whether a picture looks like a mask, for proposals of names that pair."""

from pathlib import Path

import numpy as np

from utils.runtime.errors import UserError

from .joined import open_mask
from .values import mask_array, pack_colours

FEW_GREYS, FEW_COLOURS, FEW_NUMBERS = 32, 64, 1024


def label_likeness(path: Path) -> float:
    """Return how much a picture looks like labels: 1 for few greys, 0 for a photograph.

    0.9 for few colours, 0.8 for few numbers of more than 8 bits. A smoothed or lossy mask of two
    values counts as few greys: nearly all of its pixels are near black or white.
    """
    try:
        values = mask_array(open_mask(path), path)
    except UserError:
        return 0.0
    distinct = len(np.unique(pack_colours(values) if values.ndim == 3 else values))
    if values.ndim == 3:
        return 0.9 if distinct <= FEW_COLOURS else 0.0
    if values.dtype.itemsize > 1:
        return 0.8 if distinct <= FEW_NUMBERS else 0.0
    extreme = np.count_nonzero((values < 32) | (values > 223))
    return 1.0 if distinct <= FEW_GREYS or extreme > 0.95 * values.size else 0.0
