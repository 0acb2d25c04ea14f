"""Write predict.py's results: masks with the values of the training masks, or in other formats.

The mode of a file depends on its format and on the values of the classes alone, see
masks.encoding.to_image. JPEG has neither palettes nor one bit, GIF not one bit: class numbers are
grey in JPEG, and 0 and 1 become grey 0 and 255 in both. Axis letters: H and W pixels, K classes.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.masks.encoding import MaskEncoding, indexed_image, palette_colours, to_image
from utils.masks.visualize import colour_mask, overlay
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import whole_file

from .names import ARRAY_SUFFIX, VOLUME_SUFFIXES, suffix_of

NO_PICTURES = (ARRAY_SUFFIX, *VOLUME_SUFFIXES)  # what holds arrays
JPEG_SUFFIXES = ('.jpg', '.jpeg')
# Masks are long runs of few values. To look for nothing else is as fast as zlib's level 1, and the
# files are as small as with Pillow's default, level 6 (dev/LOG.md, 2026-11-26).
PNG_OPTIONS: dict[str, Any] = {'compress_level': 1, 'compress_type': zlib.Z_RLE}
DEEP_SUFFIXES = ('.png', '.tif', '.tiff', ARRAY_SUFFIX)  # formats that hold 16 bits


def check_output_format(output_format: str, outputs: list[Path], masks: MaskEncoding) -> None:
    """Raise UserError, naming files, if outputs cannot hold the format for such masks."""
    images = [path for path in outputs if suffix_of(path) not in NO_PICTURES]
    volumes = [path for path in outputs if suffix_of(path) in VOLUME_SUFFIXES]
    if volumes and output_format == 'values' and masks.in_colour:
        raise UserError(
            f'{first_few(volumes)}: a volume cannot hold the colours of the training masks; '
            'expected --format index or probabilities, or names that end in .tif (-o NAME.tif)'
        )
    if images and output_format == 'probabilities' and len(masks.values) > 2:
        raise UserError(
            f'{first_few(images)}: an image cannot hold probabilities of {len(masks.values)} '
            f'classes; expected names that end in {ARRAY_SUFFIX}'
        )
    mode = {'probabilities': 'I;16', 'index': 'P'}.get(output_format, '')
    if images and output_format == 'values':
        mode = to_image(np.zeros((1, 1), dtype=np.uint8), masks).mode
    shallow = [path for path in images if path.suffix.lower() not in DEEP_SUFFIXES]
    if mode == 'I;16' and shallow:
        raise UserError(
            f'cannot write 16 bits into {first_few(shallow)}; expected a name that ends in '
            f'{", ".join(DEEP_SUFFIXES)}'
        )
    lossy = [path for path in images if path.suffix.lower() in JPEG_SUFFIXES]
    if mode == 'P' and lossy:
        print(
            f'note: class numbers are nearly black in {first_few(lossy)}, and JPEG changes some of '
            'them. Use .png, or --format color.'
        )


def format_probabilities(probabilities: np.ndarray, as_array: bool) -> Image.Image | np.ndarray:
    """Return probabilities (K, H, W) float32 in [0, 1] as 16-bit image or as array.

    The array is (H, W) float32 for K = 1 and (H, W, K) otherwise. An image needs K = 1.
    """
    last = probabilities.transpose(1, 2, 0)
    last = last[..., 0] if last.shape[2] == 1 else last
    return last if as_array else Image.fromarray((last * 65535).round().astype(np.uint16))


def format_mask(
    output_format: str,
    masks: MaskEncoding,
    indices: np.ndarray,
    as_array: bool,
    image: Image.Image | None = None,
) -> Image.Image | np.ndarray:
    """Return class indices (H, W) uint8 in an output format, as image or as array.

    image: the input, which the format 'overlay' needs. 'probabilities': see format_probabilities.
    """
    if output_format == 'index':
        return indices if as_array else indexed_image(indices)
    if output_format == 'color':
        result = Image.fromarray(class_colours(masks)[indices])
    elif image is not None:
        result = overlay(image, indices, masks.background)
    elif as_array:
        values = np.array(masks.values)
        return values.astype(_smallest_type(values))[indices]
    else:
        return to_image(indices, masks)
    return np.asarray(result) if as_array else result


def _smallest_type(values: np.ndarray) -> np.dtype:
    """Return the smallest integer type that holds all values."""
    lowest, highest = int(values.min()), int(values.max())
    fits = (f'{"int" if lowest < 0 else "uint"}{bits}' for bits in (8, 16, 32, 64))
    return next(
        np.dtype(t) for t in fits if np.iinfo(t).min <= lowest and highest <= np.iinfo(t).max
    )


def class_colours(masks: MaskEncoding) -> np.ndarray:
    """Return the classes' colours (K, 3) uint8: of the training masks, or those of colour_mask."""
    if masks.in_colour:
        return np.array(masks.values, dtype=np.uint8)
    colours = palette_colours(masks)
    if colours is not None:
        return colours
    return colour_mask(np.arange(max(2, len(masks.values)), dtype=np.uint8)[None])[0]


def save_result(result: Image.Image | np.ndarray, path: Path) -> None:
    """Write an image or array in the format of the file name."""
    with whole_file(path) as part:
        if isinstance(result, np.ndarray):
            np.save(part, result)
            return
        if result.mode == 'P' and path.suffix.lower() in JPEG_SUFFIXES:
            result = Image.fromarray(np.asarray(result))
        # By default Pillow renumbers a GIF's palette, and the indices are classes.
        options = PNG_OPTIONS if path.suffix.lower() == '.png' else {}
        result.save(part, optimize=False, **options)
