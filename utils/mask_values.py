"""Masks as files <-> class indices.

A data set's mask values are a sorted list; the position of a value is its class. Values are ints
(grey values, palette indices, 0 and 1 for one-bit files) or [R, G, B] lists of ints in [0, 255].
Axis letters: H and W pixels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from .errors import UserError

Value = int | list[int]

# Distinct colours for masks whose class numbers would look black, the first ones of
# matplotlib's tab10; class 0 is black.
PALETTE = [
    (0, 0, 0), (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
]  # fmt: skip


def mask_array(mask: Image.Image, path: Path) -> np.ndarray:
    """A mask picture's values: (H, W) integers, or (H, W, 3) uint8 where it has colours.

    Palette files give their indices, alpha is dropped, and colours with R = G = B throughout are
    grey values. Raises UserError, naming `path`, for modes that cannot hold class labels.
    """
    if mask.mode == '1':
        return np.asarray(mask).astype(np.uint8)
    if mask.mode in ('L', 'P', 'I', 'I;16'):
        return np.asarray(mask)
    if mask.mode in ('LA', 'PA'):
        return np.asarray(mask.getchannel(0))
    if mask.mode not in ('RGB', 'RGBA'):
        raise UserError(
            f'{path}: mask of mode {mask.mode}; expected grey, palette, RGB or one-bit. '
            'Save it as a PNG in one of these.'
        )
    colours = np.asarray(mask.convert('RGB'))
    grey = (colours == colours[..., :1]).all()
    return colours[..., 0] if grey else colours


def count_values(mask: np.ndarray) -> dict[int | tuple[int, int, int], int]:
    """How many pixels hold each value of a mask_array; colours are (R, G, B) tuples."""
    if mask.ndim == 2 and mask.dtype == np.uint8:  # 20 times faster than sorting
        counts = np.bincount(mask.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in counts.nonzero()[0]}
    if mask.ndim == 2:
        return {int(v): int(n) for v, n in zip(*np.unique(mask, return_counts=True), strict=True)}
    codes, counts = np.unique(_packed(mask), return_counts=True)
    return {_unpacked(code): int(n) for code, n in zip(codes, counts, strict=True)}


def merge_counts(counts: list[dict]) -> dict:
    """Pixels of each value over many masks, values sorted; greys become colours beside colours."""
    colours = any(isinstance(value, tuple) for masks in counts for value in masks)
    total: dict = {}
    for masks in counts:
        for value, pixels in masks.items():
            key = (value,) * 3 if colours and isinstance(value, int) else value
            total[key] = total.get(key, 0) + pixels
    return dict(sorted(total.items()))


def to_indices(mask: np.ndarray, values: list[Value], path: Path) -> np.ndarray:
    """Class indices (H, W) uint8 of a mask_array.

    values: the data set's mask values, at most 255. Raises UserError, naming `path`, for a pixel
    of any other value.
    """
    if isinstance(values[0], int):
        known, found = np.array(values), mask
    else:
        known = _packed(np.array(values, dtype=np.uint8))
        found = _packed(mask if mask.ndim == 3 else np.stack([mask] * 3, axis=-1))
    if mask.ndim == 3 and isinstance(values[0], int):
        raise UserError(f'{path}: a colour mask where grey values {values} were expected')
    if found.dtype == np.uint8 and np.array_equal(known, np.arange(len(known))):
        indices, unknown = found, found >= len(known)  # values that are their own classes
    elif found.dtype == np.uint8:  # a table of 256 entries beats searching 4 to 1
        table = np.full(256, len(known), dtype=np.uint8)
        table[known[known < 256]] = np.flatnonzero(known < 256)
        indices = np.take(table, found)  # half the time of table[found]
        unknown = indices == len(known)
    else:
        indices = np.searchsorted(known, found).clip(max=len(known) - 1)
        unknown = known[indices] != found
    if unknown.any():
        value = found[unknown][0]
        value = int(value) if isinstance(values[0], int) else list(_unpacked(value))
        raise UserError(
            f'{path}: mask value {value} is none of {values}, the values of the other masks. '
            'Mend the mask, or train on masks that hold it.'
        )
    return indices.astype(np.uint8)


def to_image(indices: np.ndarray, values: list[Value]) -> Image.Image:
    """A picture of class indices (H, W) in the encoding of the masks they were learned from.

    Values 0 and 1 give a one-bit picture, white on black; other small values, which would look
    black in grey, a palette picture whose indices are the values.
    """
    if isinstance(values[0], list):
        return Image.fromarray(np.array(values, dtype=np.uint8)[indices])
    if values == [0, 1]:
        return Image.fromarray(indices.astype(bool))
    if max(values) > 255:
        return Image.fromarray(np.array(values, dtype=np.uint16)[indices])
    picture = Image.fromarray(np.array(values, dtype=np.uint8)[indices])
    if max(values) <= 32:
        picture.putpalette([band for v in range(max(values) + 1) for band in class_colour(v)])
    return picture


def class_colour(index: int) -> tuple[int, int, int]:
    """The colour in which pictures show a class: black for 0, then tab10 over and over."""
    return PALETTE[0] if index == 0 else PALETTE[1 + (index - 1) % (len(PALETTE) - 1)]


def _packed(colours: np.ndarray) -> np.ndarray:
    """(…, 3) uint8 -> (…) int64, sorted as the triples are."""
    r, g, b = np.moveaxis(colours.astype(np.int64), -1, 0)
    return (r << 16) | (g << 8) | b


def _unpacked(code: int) -> tuple[int, int, int]:
    return int(code) >> 16, (int(code) >> 8) & 255, int(code) & 255
