"""Values of mask files, before they are mapped to classes.

A value is an int (a grey value, a palette index or an id of any width; 0 and 1 in one-bit files) or
an (R, G, B) tuple of ints in [0, 255]. Axis letters: H and W pixels.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.runtime.errors import UserError

if TYPE_CHECKING:
    from utils.images.decoding import Picture

MaskValue = int | tuple[int, int, int]
MAX_CLASSES = 254  # class indices are uint8, without the two of encoding.IGNORE and UNKNOWN

ROUNDING = 1e-3  # of whole numbers that were stored scaled

# Kinds of masks by the Pillow mode that stands for them, in words for messages.
KINDS = {'RGB': 'in colour', 'L': 'grey', 'P': 'with a palette', '1': 'of one bit'}


def value_from_json(value: int | Sequence[int]) -> MaskValue:
    """Return a value of a JSON file, checkpoint or option, where colours are lists."""
    if isinstance(value, Sequence):
        red, green, blue = value
        return red, green, blue
    return int(value)


def value_to_json(value: MaskValue) -> int | list[int]:
    """Return a value as JSON files and checkpoints hold it: colours as lists."""
    return list(value) if isinstance(value, tuple) else value


def format_values(values: list[MaskValue]) -> str:
    """Return values in the syntax of the options: 1,2 or 0:0:255."""
    shown = [':'.join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values[:8]]
    return ','.join(shown) + (',…' if len(values) > 8 else '')


def mask_array(mask: 'Picture', path: object) -> np.ndarray:
    """Return a mask's values: (H, W) integers, or (H, W, 3) uint8 for colours.

    Palette files give their indices. Alpha is dropped. If R = G = B in all pixels, the values are
    grey. Raises UserError, naming `path`, for a mask that cannot hold class labels.
    """
    if isinstance(mask, np.ndarray):
        values = _label_array(mask, path)
    elif mask.mode in ('LA', 'PA'):
        values = np.asarray(mask.getchannel(0))
    elif mask.mode in ('RGB', 'RGBA', 'RGBX'):
        values = np.asarray(mask)[..., :3]
    elif mask.mode in ('1', 'L', 'P', 'I') or mask.mode.startswith('I;16'):
        values = np.asarray(mask)
    else:
        values = _whole_numbers(np.asarray(mask)) if mask.mode == 'F' else np.empty(0, float)
        if values.dtype.kind == 'f':
            raise UserError(
                f'{path}: mask of mode {mask.mode}; expected grey, palette, RGB or one-bit, or '
                'floats that are whole numbers. Save it as a PNG in one of these.'
            )
    if values.ndim == 3:
        red, green, blue = np.moveaxis(values, 2, 0)
        return red if np.array_equal(red, green) and np.array_equal(green, blue) else values
    return values.astype(np.uint8) if values.dtype == bool else values


def _label_array(array: np.ndarray, path: object) -> np.ndarray:
    """Return (H, W) integers or (H, W, 3) uint8 from the content of an array file."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    colours = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype in (np.uint8, np.uint16)
    if array.dtype.kind == 'f' and array.ndim == 2:
        array = _whole_numbers(array)
    if array.dtype.kind not in 'bui' or not (array.ndim == 2 or colours):
        raise UserError(
            f'{path}: mask array of shape {array.shape} and type {array.dtype}; expected (H, W) '
            'integers, or (H, W, 3) uint8 colours. Save class numbers as integers; of scores '
            '(H, W, K) take argmax(axis=2) first.'
        )
    return _shallow_colours(array[..., :3], path) if colours else array


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    """Return floats as integers if all are whole numbers, as volumes often store labels."""
    whole = np.rint(values)
    fits = np.isfinite(whole).all() and np.abs(whole).max() < 2**31
    if not fits or np.abs(values - whole).max() > ROUNDING:
        return values
    return whole.astype(np.int32)


def _shallow_colours(colours: np.ndarray, path: object) -> np.ndarray:
    """Return colours (H, W, 3) of 16 bits as uint8; as they are where R = G = B, which is grey.

    255 is 65535 or 65280 in 16 bits. Raises UserError, naming `path`, for bytes that differ.
    """
    if colours.dtype == np.uint8 or (colours == colours[..., :1]).all():
        return colours
    high, low = colours >> 8, colours & 255
    if ((low != 0) & (low != high)).any():
        raise UserError(
            f'{path}: a colour mask of 16 bits whose colours are no colours of 8 bits; expected '
            'multiples of 257. Save it as RGB of 8 bits, or its classes as grey values.'
        )
    return high.astype(np.uint8)


def pack_colours(colours: np.ndarray) -> np.ndarray:
    """Return colours (…, 3) uint8 as one int32 each, (…), in the order of the triples."""
    red, green, blue = np.moveaxis(colours, -1, 0)
    return (red.astype(np.int32) << 8 | green) << 8 | blue


def pack_value(value: MaskValue) -> int:
    """Return a value as one number: itself, or a packed colour."""
    return (value[0] << 16) | (value[1] << 8) | value[2] if isinstance(value, tuple) else value


def unpack_colour(code: int) -> tuple[int, int, int]:
    """Return (R, G, B) of a packed colour."""
    return int(code) >> 16, (int(code) >> 8) & 255, int(code) & 255


def count_values(mask: np.ndarray, most: int | None = None) -> dict[MaskValue, int]:
    """Return the pixels of each value of a mask_array; raise ValueError for more than `most`."""
    if mask.ndim == 2 and mask.dtype == np.uint8:
        low, high = int(mask.min()), int(mask.max())
        pixels: dict[MaskValue, int] = {v: int(np.count_nonzero(mask == v)) for v in (low, high)}
        if sum(pixels.values()) >= mask.size:  # at most two values: an eighth of bincount's time
            return pixels
        bins = np.bincount(mask.ravel(), minlength=256)
        return {int(value): int(bins[value]) for value in bins.nonzero()[0]}
    codes, counts = np.unique(mask if mask.ndim == 2 else pack_colours(mask), return_counts=True)
    if most and len(codes) > most:
        raise ValueError(f'{len(codes)} distinct values')
    values: Iterable[MaskValue] = map(int, codes) if mask.ndim == 2 else map(unpack_colour, codes)
    return dict(zip(values, counts.tolist(), strict=True))
