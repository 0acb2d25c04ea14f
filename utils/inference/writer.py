"""What predict.py writes: masks in the training masks' encoding, or in other forms.

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

PICTURES = ('.png', '.jpg', '.jpeg', '.gif', '.tif', '.tiff', '.bmp')

DEEP_PICTURES = ('.png', '.tif', '.tiff')  # that hold 16 bits

ARRAY = '.npy'


def default_suffix(form: str) -> str:
    """The extension of outputs that nobody named."""
    return ARRAY if form == 'probabilities' else '.png'


def check_form(form: str, outputs: list[Path], masks: MaskEncoding) -> None:
    """Raise UserError, naming files, for outputs that cannot hold the form of such masks."""
    pictures = [path for path in outputs if path.suffix.lower() != ARRAY]
    if form == 'probabilities' and len(masks.values) > 2 and pictures:
        raise UserError(
            f'{first_few(pictures)}: probabilities of {len(masks.values)} classes fit no picture; '
            'name outputs that end in .npy'
        )
    if form == 'values' and pictures:
        example = to_image(np.zeros((1, 1), dtype=np.uint8), masks)
    if form == 'probabilities' or (form == 'values' and pictures and example.mode == 'I;16'):
        shallow = [path for path in pictures if path.suffix.lower() not in DEEP_PICTURES]
        if shallow:
            raise UserError(
                f'cannot write 16 bits into {first_few(shallow)}; expected a name in '
                f'{", ".join(DEEP_PICTURES)} or {ARRAY}'
            )


def in_form(
    form: str,
    masks: MaskEncoding,
    image: Image.Image,
    indices: np.ndarray,
    probabilities: Tensor,
    array: bool,
) -> Image.Image | np.ndarray:
    """A predicted mask in the form asked for, as a picture or, with `array`, as an array.

    image: the input, to lay the mask over. indices: (H, W) uint8. probabilities: (K, H, W) float32
    in [0, 1], K = 1 where there are two classes; written as (H, W) or (H, W, K).
    """
    if form == 'probabilities':
        last = probabilities.cpu().numpy().transpose(1, 2, 0)
        last = last[..., 0] if last.shape[2] == 1 else last
        return last if array else Image.fromarray((last * 65535).round().astype(np.uint16))
    if form == 'index':
        return indices if array else indexed_image(indices)
    if form == 'color':
        result = in_colour(indices, masks)
    elif form == 'overlay':
        result = overlay(image, indices)
    elif array:
        values = np.array(masks.values)
        smallest = np.result_type(*map(np.min_scalar_type, (values.min(), values.max())))
        return values.astype(smallest)[indices]
    else:
        return to_image(indices, masks)
    return np.asarray(result) if array else result


def in_colour(indices: np.ndarray, masks: MaskEncoding) -> Image.Image:
    """(H, W) class indices as RGB: the masks' own colours, or else ours."""
    if masks.in_colour or masks.mode == 'P':
        return to_image(indices, masks).convert('RGB')
    table = colour_mask(np.arange(max(2, len(masks.values)), dtype=np.uint8)[None])[0]
    return Image.fromarray(table[indices])


def save_result(result: Image.Image | np.ndarray, path: Path) -> None:
    """Write a picture or array by its name's format; JPEG holds grey or RGB only."""
    suffix = path.suffix.lower()
    with whole_file(path) as part:
        if suffix == ARRAY:
            np.save(part, result)
            return
        if suffix in ('.jpg', '.jpeg'):
            result = result.convert('RGB' if result.mode in ('P', 'RGB') else 'L')
        # Unasked, Pillow renumbers a GIF's palette, and the indices are the classes.
        result.save(part, **({'optimize': False} if suffix == '.gif' else {}))
