"""What one image and its mask hold, read to their ends."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from utils.images.decoding import DEEP_MODES, WITH_ALPHA, Picture, open_picture, picture_size
from utils.images.metadata import ImageMetadata, read_metadata
from utils.masks.encoding import MaskEncoding, mask_array
from utils.masks.values import count_values, settle_counts
from utils.runtime.errors import UserError

# The mode a mask is written back in, by the one it was read in.
MASK_MODES = {'LA': 'L', 'PA': 'P', 'RGBA': 'RGB', 'RGBX': 'RGB'} | dict.fromkeys(
    DEEP_MODES, 'I;16'
)

KINDS = {'RGB': 'in colour', 'L': 'grey', 'P': 'with a palette', '1': 'of one bit'}

SMOOTHED = (
    'They look like JPEG or smoothed masks: save masks as PNG, resized by nearest neighbour, with '
    'one value a class. Or let training mend them: --binarize 127 for two classes, or '
    '--mask-values with the true ones and --snap-masks.'
)

MOST_VALUES = 1024  # of one mask; more are a photograph or a JPEG


@dataclass
class PairMetadata:
    """One pair: sizes are (width, height) in pixels, counts the pixels of each mask value."""

    image: ImageMetadata
    mask_size: tuple[int, int]
    mask_mode: str  # '1', 'L', 'P', 'I;16' or 'RGB'
    palette: list[int]  # flat R, G, B, … up to the highest index of a palette file
    moved: int  # pixels that --binarize or --snap-masks gave another value
    counts: dict


def image_metadata(path: Path) -> ImageMetadata:
    """What an image holds; raises UserError, naming it, where it is broken or of no use."""
    _check_is_file(path)
    return read_metadata(path)


def mask_metadata(path: Path, masks: MaskEncoding) -> tuple:
    """What a mask holds, read as `masks` says: PairMetadata's fields after the image.

    Raises UserError, naming it, where it is broken or cannot be read so.
    """
    _check_is_file(path)
    size, mode, palette, counts = _read_mask(path, None if masks.snap else MOST_VALUES)
    if mode in ('P', '1') and (masks.threshold is not None or masks.snap):
        raise UserError(
            f'{path}: mask {KINDS[mode]}, whose values are no scale; --binarize and '
            '--snap-masks take grey and colour masks. Leave them out, or save it as one.'
        )
    palette = list(palette[: 3 * max(counts) + 3]) if mode == 'P' else []
    counts, moved = settle_counts(counts, masks, path)
    return size, mode, palette, moved, counts


def _read_mask(path: Path, most: int | None) -> tuple:
    """A mask's (width, height), mask_mode, palette and counts, of at most `most` values."""
    mask = open_picture(path)
    try:
        counts = count_values(mask_array(mask, path), most)
    except ValueError as error:
        _check_alpha(mask, path)
        raise UserError(
            f'{path}: mask of {error}; expected one a class. {SMOOTHED}', 'too many mask values'
        ) from error
    if len(counts) == 1:
        _check_alpha(mask, path)
    mode = mask_mode(mask)
    return picture_size(mask), mode, mask.getpalette() if mode == 'P' else [], counts


def _check_alpha(mask: Picture, path: Path) -> None:
    """Raise UserError, naming `path`, for a mask of no use whose alpha says what it does not."""
    alpha = isinstance(mask, Image.Image) and mask.mode in WITH_ALPHA
    low, high = mask.getchannel('A').getextrema() if alpha else (0, 0)
    if low < high:
        raise UserError(
            f'{path}: mask whose alpha holds labels ({low} to {high}) and whose colours hold none; '
            'expected labels as colours or grey values. Save the alpha as the mask: '
            "picture.getchannel('A').save(path) in Python's Pillow.",
            'labels in alpha',
        )


def _check_is_file(path: Path) -> None:
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise UserError(f'{path} is no file; expected a picture. Remove it.')


def mask_mode(mask: Picture) -> str:
    """The Pillow mode in which a mask like this one is written: '1', 'L', 'P', 'I;16' or 'RGB'."""
    if isinstance(mask, np.ndarray):
        if mask.dtype == np.uint8:
            return 'RGB' if mask.ndim == 3 and mask.shape[2] > 1 else 'L'
        return '1' if mask.dtype == bool else 'I;16'
    return MASK_MODES.get(mask.mode, mask.mode)


def to_plain(facts: PairMetadata) -> list:
    """Facts as JSON holds them."""
    return [*list(vars(facts).values())[:-1], list(facts.counts.items())]


def from_plain(entry: list) -> PairMetadata:
    """The facts of to_plain's list."""
    (size, *image), mask_size, *others, counts = entry
    counts = {tuple(v) if isinstance(v, list) else v: n for v, n in counts}
    return PairMetadata(ImageMetadata(tuple(size), *image), tuple(mask_size), *others, counts)
