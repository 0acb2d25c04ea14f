"""Masks as files <-> class indices.

One table says it all: a value's position in `MaskEncoding.values` is its class. Values are ints
(grey values, palette indices, ids of any width, 0 and 1 for one-bit files) or [R, G, B] lists of
ints in [0, 255]. Axis letters: H and W pixels.
"""

from pathlib import Path

import numpy as np

from .encoding import IGNORE, MaskEncoding, pack_colours, to_indices, unpack_colour


def count_values(
    mask: np.ndarray, most: int | None = None
) -> dict[int | tuple[int, int, int], int]:
    """How many pixels hold each value of a mask_array; colours are (R, G, B) tuples.

    Raises ValueError for more than `most` values: a photograph has too many to keep.
    """
    if mask.ndim == 2 and mask.dtype == np.uint8:
        low, high = int(mask.min()), int(mask.max())
        pixels = {value: int(np.count_nonzero(mask == value)) for value in (low, high)}
        if sum(pixels.values()) >= mask.size:  # two values at most: an eighth of bincount's time
            return pixels
        counts = np.bincount(mask.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in counts.nonzero()[0]}
    codes, counts = np.unique(mask if mask.ndim == 2 else pack_colours(mask), return_counts=True)
    if most and len(codes) > most:
        raise ValueError(f'{len(codes)} distinct values')
    known = map(int if mask.ndim == 2 else unpack_colour, codes)
    return dict(zip(known, counts.tolist(), strict=True))


def merge_counts(counts: list[dict]) -> dict:
    """Pixels of each value over many masks, values sorted; greys become colours beside colours."""
    colours = any(isinstance(value, tuple) for masks in counts for value in masks)
    total: dict = {}
    for masks in counts:
        for value, pixels in masks.items():
            key = (value,) * 3 if colours and isinstance(value, int) else value
            total[key] = total.get(key, 0) + pixels
    return dict(sorted(total.items()))


def settle_counts(counts: dict, masks: MaskEncoding, path: Path) -> tuple[dict, int]:
    """The counts of a mask as `masks` reads it, and of how many pixels the value was moved.

    Moved are those that a threshold or the nearest of the wanted values gives another value;
    without either, counts stay as they are. Raises UserError as to_indices.
    """
    if masks.threshold is None and not masks.snap:
        return counts, 0
    values = np.array(list(counts))
    values = values.astype(np.uint8) if values.ndim == 2 else values
    settled: dict = {}
    moved = 0
    for index, (value, pixels) in zip(
        to_indices(values[None], masks, path)[0], counts.items(), strict=True
    ):
        new = value if index == IGNORE else masks.values[index]
        new = tuple(new) if isinstance(new, list) else new
        settled[new] = settled.get(new, 0) + pixels
        moved += pixels * (new not in (value, (value,) * 3))
    return settled, moved
