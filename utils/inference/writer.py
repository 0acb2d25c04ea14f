"""Write predict.py's results: masks in the encoding of the training masks, or in other formats.

Axis letters: H and W pixels, K classes.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from utils.masks.encoding import MaskEncoding, indexed_image, to_image
from utils.masks.visualize import colour_mask, overlay
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import whole_file

ARRAY_SUFFIX = '.npy'
OUTPUT_SUFFIXES = ('.png', '.jpg', '.jpeg', '.gif', '.tif', '.tiff', '.bmp', ARRAY_SUFFIX)
DEEP_SUFFIXES = ('.png', '.tif', '.tiff', ARRAY_SUFFIX)  # formats that hold 16 bits


def check_output_format(output_format: str, outputs: list[Path], masks: MaskEncoding) -> None:
    """Raise UserError, naming files, if outputs cannot hold the format for such masks."""
    images = [path for path in outputs if path.suffix.lower() != ARRAY_SUFFIX]
    if images and output_format == 'probabilities' and len(masks.values) > 2:
        raise UserError(
            f'{first_few(images)}: an image cannot hold probabilities of {len(masks.values)} '
            f'classes; expected names that end in {ARRAY_SUFFIX}'
        )
    deep = output_format == 'probabilities'
    if images and output_format == 'values':
        deep = to_image(np.zeros((1, 1), dtype=np.uint8), masks).mode == 'I;16'
    shallow = [path for path in images if path.suffix.lower() not in DEEP_SUFFIXES]
    if deep and shallow:
        raise UserError(
            f'cannot write 16 bits into {first_few(shallow)}; expected a name that ends in '
            f'{", ".join(DEEP_SUFFIXES)}'
        )


def format_probabilities(probabilities: Tensor, as_array: bool) -> Image.Image | np.ndarray:
    """Return probabilities (K, H, W) float32 in [0, 1] as 16-bit image or as array.

    The array is (H, W) float32 for K = 1 and (H, W, K) otherwise. An image needs K = 1.
    """
    last = probabilities.cpu().numpy().transpose(1, 2, 0)
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
    if output_format == 'color' and (masks.in_colour or masks.mode == 'P'):
        result = to_image(indices, masks).convert('RGB')
    elif output_format == 'color':
        table = colour_mask(np.arange(max(2, len(masks.values)), dtype=np.uint8)[None])[0]
        result = Image.fromarray(table[indices])
    elif image is not None:
        result = overlay(image, indices, masks.background)
    elif as_array:
        values = np.array(masks.values)
        smallest = np.result_type(*map(np.min_scalar_type, (values.min(), values.max())))
        return values.astype(smallest)[indices]
    else:
        return to_image(indices, masks)
    return np.asarray(result) if as_array else result


def save_result(result: Image.Image | np.ndarray, path: Path) -> None:
    """Write an image or array in the format of the file name; JPEG as grey or RGB."""
    with whole_file(path) as part:
        if isinstance(result, np.ndarray):
            np.save(part, result)
            return
        if path.suffix.lower() in ('.jpg', '.jpeg'):
            result = result.convert('RGB' if result.mode in ('P', 'RGB') else 'L')
        # By default Pillow renumbers a GIF's palette, and the indices are classes.
        result.save(part, optimize=False)
