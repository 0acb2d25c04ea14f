"""Metadata of a mask file: size, mode, and the pixels of each value."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from PIL import Image

from utils.images.decoding import DECODE_PATH, DEEP_MODES, WITH_ALPHA, Picture, picture_size
from utils.runtime.errors import UserError

from .encoding import IGNORE, MaskEncoding, class_values_of, resize_mask, to_indices
from .joined import MaskSource, open_mask
from .values import (
    KINDS,
    MaskValue,
    count_values,
    mask_array,
    pack_value,
    value_from_json,
)

# The mode that stands for a kind of masks, see KINDS, by other modes of that kind.
KIND_MODES = {'LA': 'L', 'PA': 'P', 'RGBA': 'RGB', 'RGBX': 'RGB'}
KIND_MODES |= dict.fromkeys(DEEP_MODES, 'I;16')

# Options that end a line after a colon can be added to the command as they are.
_SMOOTHED = (
    'They look like JPEG or smoothed masks: save masks as PNG, resized by nearest neighbour, with '
    'one value per class. '
)
SMOOTHED = (
    f'{_SMOOTHED}Or let training correct them, for two classes: --binarize 127\n'
    'Or name the true values with --mask-values, and take the nearest with --snap-masks.'
)
SMOOTHED_COLOURS = (
    f'{_SMOOTHED}Or name the true colours with --mask-values (0:0:0,255:0:0,…), and take the '
    'nearest with --snap-masks.'
)
NUMBERED = 'If values other than 0 number objects of one class: --binarize 0'

MAX_VALUES = 1024  # of one mask; a photograph or JPEG has more


class MaskMetadata(NamedTuple):
    """What a mask file holds, read with a given encoding."""

    size: tuple[int, int]  # width, height
    mode: str  # its kind: '1', 'L', 'P', 'I;16' or 'RGB'
    palette: list[int]  # flat R, G, B, … up to the highest index; empty without a palette
    moved: int  # pixels to which --binarize or --snap-masks gave another value
    counts: dict[MaskValue, int]  # pixels of each value, or class value of --mask-divisor
    at_scale: dict[MaskValue, int]  # the same at the scale of training

    def to_json(self) -> list:
        """Return the fields as JSON can hold them."""
        return [*self[:-2], [*self.counts.items()], [*self.at_scale.items()]]

    @classmethod
    def from_json(cls, fields: list) -> 'MaskMetadata':
        """Return the metadata of to_json's list, or of what JSON has made of it."""
        size, mode, palette, moved, *both = fields
        counts, at_scale = ({value_from_json(v): n for v, n in pixels} for pixels in both)
        return cls(tuple(size), mode, palette, moved, counts, at_scale)

    @property
    def colours(self) -> dict[int, tuple[int, ...]]:
        """The colour of each palette index that occurs; empty without a palette."""
        indices = [value for value in self.counts if self.palette and isinstance(value, int)]
        return {index: tuple(self.palette[3 * index : 3 * index + 3]) for index in indices}


def read_mask_metadata(
    path: MaskSource,
    masks: MaskEncoding,
    decode: str = DECODE_PATH,
    size: tuple[int, int] | None = None,
) -> MaskMetadata:
    """Read a mask completely, so that truncation is detected.

    size: (width, height) in training, by default the mask's own.
    Raises UserError, naming `path`, for a broken file or one that cannot be read with `masks`.
    """
    mask = open_mask(path, decode)
    try:
        counts = _count_picture(mask, path, None if _maps_all(masks) else MAX_VALUES)
    except ValueError as error:
        _check_alpha(mask, path)
        remedy = NUMBERED if kind_mode(mask) == 'I;16' else SMOOTHED
        remedy = SMOOTHED_COLOURS if mask_array(mask, path).ndim == 3 else remedy
        raise UserError(
            f'{path}: mask of {error}; expected one per class. {remedy}', 'too many mask values'
        ) from error
    if len(counts) == 1:
        _check_alpha(mask, path)
    mode = kind_mode(mask)
    if mode in ('P', '1') and (masks.threshold or masks.snap):
        raise UserError(
            f'{path}: mask {KINDS[mode]}; its values are not ordered, and --binarize and '
            '--snap-masks take grey and colour masks only. Leave these options out, or save the '
            'mask as grey.'
        )
    if masks.divisor and any(isinstance(value, tuple) for value in counts):
        raise UserError(f'{path}: mask in colour; --mask-divisor takes numbers. Leave it out.')
    colours = mask.getpalette() if isinstance(mask, Image.Image) and mode == 'P' else None
    palette = colours[: 3 * max(map(pack_value, counts)) + 3] if colours else []
    own = picture_size(mask)
    counts, moved = snap_counts(counts, masks, path)
    if size in (None, own):
        return MaskMetadata(own, mode, palette, moved, counts, counts)
    smaller = _count_picture(resize_mask(mask, size), path)
    return MaskMetadata(own, mode, palette, moved, counts, snap_counts(smaller, masks, path)[0])


def _maps_all(masks: MaskEncoding) -> bool:
    """Whether any number of values becomes a few classes."""
    return masks.snap or masks.merges_objects


def _count_picture(
    mask: Picture, path: MaskSource, most: int | None = None
) -> dict[MaskValue, int]:
    """Return the pixels of each value of a mask; raise ValueError for more than `most` values."""
    # 0.8 ms for 1918 x 1280 pixels, where numpy.asarray alone takes 3.8.
    if isinstance(mask, Image.Image) and mask.mode in ('L', 'P'):
        return {value: n for value, n in enumerate(mask.histogram()) if n}
    return count_values(mask_array(mask, path), most)


def kind_mode(mask: Picture) -> str:
    """Return the Pillow mode that stands for masks of this kind."""
    if isinstance(mask, np.ndarray):
        if mask.ndim == 3 and mask.shape[2] > 1:
            return 'RGB'
        if mask.dtype == np.uint8:
            return 'L'
        return '1' if mask.dtype == bool else 'I;16'
    return KIND_MODES.get(mask.mode, mask.mode)


def _check_alpha(mask: Picture, path: MaskSource) -> None:
    """Raise UserError for a mask whose colours hold no labels and whose alpha is not constant."""
    if not isinstance(mask, Image.Image) or mask.mode not in WITH_ALPHA:
        return
    alpha = np.asarray(mask.getchannel('A'))
    if alpha.min() < alpha.max():
        raise UserError(
            f'{path}: mask whose alpha holds labels ({alpha.min()} to {alpha.max()}) and whose '
            'colours hold none; expected labels as colours or grey values. Save the alpha as the '
            "mask: picture.getchannel('A').save(path) in Python's Pillow.",
            'labels in alpha',
        )


def snap_counts(
    counts: dict[MaskValue, int], masks: MaskEncoding, path: MaskSource
) -> tuple[dict[MaskValue, int], int]:
    """Return the counts after divisor, threshold or snapping, and how many pixels were moved.

    A pixel is moved to a class that its value is not, unless the value is an object's number.
    Ignored pixels are left out where a class has their value.
    """
    if masks.divisor:
        return _divided_counts(counts, masks.divisor), 0
    if masks.threshold is None and not masks.snap:
        return counts, 0
    values = np.array(list(counts))
    values = values.astype(np.uint8) if values.ndim == 2 else values
    indices = to_indices(values[None], masks, path)[0]
    snapped: Counter[MaskValue] = Counter()
    moved = 0
    for index, (value, pixels) in zip(indices, counts.items(), strict=True):
        if index == IGNORE and value in masks.values:
            continue
        new = value if index == IGNORE else masks.values[index]
        snapped[new] += pixels
        moved += pixels * (new not in (value, (value,) * 3))
    return dict(snapped), 0 if masks.threshold == 0 else moved


def _divided_counts(counts: dict[MaskValue, int], divisor: int) -> dict[MaskValue, int]:
    """Return the pixels of each class of masks of class * divisor + object."""
    divided: Counter[MaskValue] = Counter()
    for value, pixels in counts.items():
        divided[int(class_values_of(np.array(value), divisor))] += pixels
    return dict(divided)


def merge_counts(counts: list[dict[MaskValue, int]]) -> dict[MaskValue, int]:
    """Add up the counts of many masks, sorted by value; beside colours, grey becomes a colour."""
    colours = any(isinstance(value, tuple) for mask in counts for value in mask)
    total: Counter[MaskValue] = Counter()
    for mask in counts:
        for value, pixels in mask.items():
            total[(value, value, value) if colours and isinstance(value, int) else value] += pixels
    ordered = sorted(total, key=lambda value: value if isinstance(value, tuple) else (value,))
    return {value: total[value] for value in ordered}
