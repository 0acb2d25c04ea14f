"""Mask files to class indices and back.

A value's position in `MaskEncoding.values` is its class index. Axis letters: H and W pixels.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.images.decoding import DECODE_PATH, Picture, picture_size, scaled_size
from utils.runtime.errors import UserError

from .joined import MaskSource, open_mask
from .values import (
    MaskValue,
    mask_array,
    pack_colours,
    pack_value,
    unpack_colour,
    value_from_json,
    value_to_json,
)

IGNORE = 255  # class index of padding and unlabelled pixels; neither loss nor scores count them
UNKNOWN = 254  # class index of values without a class, within this module
LARGEST_NUMBER = 32  # values up to this one are taken for class numbers, written with a palette

TAB10 = [  # of matplotlib
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75),
    (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
]  # fmt: skip

# (256, 3), the colours in which pictures show classes: black for class 0, then tab10 repeated.
CLASS_COLOURS = np.array([(0, 0, 0), *TAB10 * 26], dtype=np.uint8)[:256]


@dataclass
class MaskEncoding:
    """How mask files encode classes. Colours may be given as lists, as in checkpoints."""

    values: list[MaskValue]  # of the classes
    names: list[str] | None = None  # of the classes, if known
    palette: list[int] | None = None  # flat R, G, B, … of palette files
    ignore: list[MaskValue] = field(default_factory=list)  # values that become IGNORE
    threshold: int | None = None  # values above it are class 1, others class 0
    snap: bool = False  # take any other value as the nearest of `values`
    divisor: int | None = None  # of masks of class * divisor + object, see class_values_of
    background: int | None = 0  # class that mean scores leave out; None: they count all

    def __post_init__(self) -> None:
        self.values = [value_from_json(value) for value in self.values]
        self.ignore = [value_from_json(value) for value in self.ignore]

    @property
    def titles(self) -> list[str]:
        """What tables call the classes: their names, or else their values."""
        return self.names or [str(value_to_json(value)) for value in self.values]

    @property
    def merges_objects(self) -> bool:
        """Whether masks may number objects, of which those of a class become one class."""
        return self.threshold is not None or self.divisor is not None

    @property
    def scored(self) -> list[int]:
        """Indices of the classes over which mean scores are taken: all but the background."""
        return [k for k in range(len(self.values)) if k != self.background]

    @property
    def inverted(self) -> bool:
        """Whether class 1 is the background of two classes, and class 0 the foreground."""
        return len(self.values) == 2 and self.background == 1

    @property
    def in_colour(self) -> bool:
        """Whether the values of the classes are colours."""
        return any(isinstance(value, tuple) for value in self.values)

    def to_checkpoint(self) -> dict:
        """Return the entries `mask_values` and `mask_encoding` of a checkpoint."""
        others = vars(self) | {'ignore': [value_to_json(value) for value in self.ignore]}
        values = [value_to_json(value) for value in others.pop('values')]
        return {'mask_values': values, 'mask_encoding': others}


def encoding_of(masks: MaskEncoding | list[MaskValue]) -> MaskEncoding:
    """Return the encoding, or that of a list of values of which nothing else is known."""
    return masks if isinstance(masks, MaskEncoding) else MaskEncoding(masks)


def load_mask(
    path: MaskSource,
    masks: MaskEncoding,
    scale: float,
    size: tuple[int, int] | None = None,
    decode: str = DECODE_PATH,
) -> Tensor:
    """Load a mask as class indices uint8 (H, W) at `scale`, by nearest neighbour.

    size: (width, height) of the result, if it is not the file's size times `scale`.
    """
    mask = open_mask(path, decode)
    return mask_indices(mask, masks, size or scaled_size(picture_size(mask), scale), path)


def mask_indices(
    mask: Picture, masks: MaskEncoding, size: tuple[int, int], path: MaskSource
) -> Tensor:
    """Return an opened mask as class indices uint8 (H, W) at (width, height) `size`."""
    return torch.from_numpy(to_indices(mask_array(resize_mask(mask, size), path), masks, path))


def resize_mask(mask: Picture, size: tuple[int, int]) -> Picture:
    """Resize a mask to `size` (width, height) by nearest neighbour, arrays as Pillow pictures."""
    if picture_size(mask) == size:
        return mask
    if isinstance(mask, Image.Image):
        return mask.resize(size, Image.Resampling.NEAREST)
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size[::-1], mask.shape, strict=False)
    )
    return mask[rows[:, None], columns]


def to_indices(mask: np.ndarray, masks: MaskEncoding, path: MaskSource) -> np.ndarray:
    """Return class indices (H, W) uint8 of values.mask_array's result; IGNORE for ignored values.

    Raises UserError, naming `path`, for a value that is neither a class nor ignored nor snapped.
    """
    if mask.ndim == 3 and not masks.in_colour and masks.threshold != 0:
        raise UserError(
            f'{path}: a colour mask; expected grey values {masks.values}. Save it in the same '
            'mode as the other masks.'
        )
    found = pack_colours(mask) if mask.ndim == 3 else mask
    if masks.divisor:
        found = class_values_of(found, masks.divisor)
    if mask.ndim == 2 and masks.in_colour:  # grey is the colour with R = G = B
        found = mask.astype(np.int64) * 0x010101
    if masks.threshold is not None:
        indices = (found > masks.threshold).astype(np.uint8)
        for value in masks.ignore:
            if mask.ndim == 3 and isinstance(value, int):
                value = (value, value, value)
            elif mask.ndim == 2 and isinstance(value, tuple) and len(set(value)) == 1:
                value = value[0]
            indices[found == pack_value(value)] = IGNORE
        return indices
    known = np.array([pack_value(value) for value in [*masks.values, *masks.ignore]])
    labels = np.arange(len(known)).astype(np.uint8)
    labels[len(masks.values) :] = IGNORE
    indices = _look_up(found, known, labels)
    unknown = indices == UNKNOWN
    if not unknown.any():
        return indices
    if not masks.snap:
        code = found[unknown][0]
        raise UserError(
            f'{path}: mask value {unpack_colour(code) if masks.in_colour else code} is none of '
            f'{masks.values}, the values of the other masks. Correct the mask, or train on masks '
            'with this value.'
        )
    indices[unknown] = _nearest(found[unknown], masks)
    return indices


def class_values_of(values: np.ndarray, divisor: int) -> np.ndarray:
    """Return the class of each value of class * divisor + object, (H, W) as `values`.

    A value below the divisor is a class itself: Cityscapes has 7 (road) beside 26001 (car 1).
    """
    if values.max() < divisor:  # which may not fit into their type
        return values
    return np.where(values < divisor, values, values // divisor)


def _look_up(found: np.ndarray, known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the label of each value, UNKNOWN for values that are not in `known`."""
    if found.dtype in (np.uint8, np.uint16):  # 0.6 ms for 959 x 640 pixels, a search 3 ms
        table = np.full(1 + np.iinfo(found.dtype).max, UNKNOWN, dtype=np.uint8)
        fits = (known >= 0) & (known < len(table))
        table[known[fits]] = labels[fits]
        return table.take(found)
    order = np.argsort(known)
    known, labels = known[order], labels[order]
    if found.dtype == np.int32 and known[0] >= 0 and known[-1] < 2**31:
        known = known.astype(np.int32)  # with two types, numpy would copy the mask to the wider
    places = np.searchsorted(known, found)
    indices = labels.take(places, mode='clip')
    indices[known.take(places, mode='clip') != found] = UNKNOWN
    return indices


def _nearest(found: np.ndarray, masks: MaskEncoding) -> np.ndarray:
    """Return the classes of the nearest values, by Euclidean distance of colours."""
    codes, inverse = np.unique(found, return_inverse=True)
    if masks.in_colour:
        codes = np.array([unpack_colour(code) for code in codes])
    points = codes.reshape(len(codes), -1).astype(np.float64)
    values = np.array(masks.values, dtype=np.float64).reshape(len(masks.values), -1)
    distances = [((points - value) ** 2).sum(axis=1) for value in values]
    return np.argmin(distances, axis=0).astype(np.uint8)[inverse]


def to_image(indices: np.ndarray, masks: MaskEncoding) -> Image.Image:
    """Return class indices (H, W) as a picture with the values of `masks`.

    Its mode depends on these values alone, not on the form of the training masks: RGB for colours,
    one bit for 0 and 1, a palette for values up to 32, which would look black as grey, grey (L) up
    to 255, I;16 up to 65535. Raises UserError for other values.
    """
    if masks.in_colour:
        return Image.fromarray(np.array(masks.values, dtype=np.uint8)[indices])
    values = [value for value in masks.values if isinstance(value, int)]
    if min(values) < 0 or max(values) > 65535:
        raise UserError(
            f'mask values from {min(values)} to {max(values)} do not fit into a picture; expected '
            '0 to 65535. Name outputs that end in .npy (-o NAME.npy), or use --format index.'
        )
    if max(values) > 255:
        return Image.fromarray(np.array(values, dtype=np.uint16)[indices])
    if set(values) <= {0, 1}:
        return Image.fromarray(np.array(values, dtype=bool)[indices])
    table = values + [0] * (256 - len(values))
    picture = Image.fromarray(indices.astype(np.uint8)).point(table)  # a sixth of numpy's time
    if max(values) > LARGEST_NUMBER:
        return picture
    if masks.palette is None or palette_colours(masks) is None:
        return indexed_image(np.asarray(picture))
    picture.putpalette(masks.palette)
    return picture


def palette_colours(masks: MaskEncoding) -> np.ndarray | None:
    """Return the classes' colours (K, 3) uint8 in the training masks' palette.

    None if these had no palette, or one that does not tell all classes apart.
    """
    palette, values = masks.palette or [], [v for v in masks.values if isinstance(v, int)]
    colours = [palette[3 * value : 3 * value + 3] for value in values]
    if len({tuple(colour) for colour in colours if colour}) < len(masks.values):
        return None
    return np.array(colours, dtype=np.uint8)


def indexed_image(indices: np.ndarray) -> Image.Image:
    """Return a palette picture with these indices (H, W) uint8, in CLASS_COLOURS."""
    picture = Image.fromarray(indices)
    picture.putpalette(CLASS_COLOURS[: int(indices.max()) + 1].ravel().tolist())
    return picture
