"""Inputs of a network: the pages of files; arrays, Pillow's pictures and tensors from Python.

Axis letters: C channels, H and W pixels, h and w pixels at scale.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from utils.images.arrays import ImageRange, array_pixels, channels_error
from utils.images.decoding import PILLOW_DECODE, Picture, to_channels
from utils.images.metadata import is_one_picture, pages_of, read_header
from utils.images.pages import Page
from utils.images.resizing import pixels_by_pillow, resize_image
from utils.runtime.errors import UserError

ImageInput = np.ndarray | Tensor | Image.Image | str | Path | Page

NAME = Path('the image')  # for messages


def pages_to_predict(path: Path, channels: Callable[[], int]) -> tuple[Page, ...]:
    """Return the pages of a stack, or the slices of a volume; () for a file of one picture.

    A TIFF whose planes may be pages as well as the channels of one picture is one picture if the
    network takes so many channels, which `channels` returns. Raises UserError as pages_of does.
    """
    pages = tuple(page for page in pages_of(path) if isinstance(page, Page))
    if len(pages) > 1 and is_one_picture(path) and read_header(path).channels == channels():
        return ()
    return pages


def to_picture(
    image: ImageInput, channels: int, decode: str, image_range: ImageRange | None = None
) -> Picture:
    """Return an image as a Pillow picture, or as an array (H, W) or (H, W, C), C = `channels`.

    image: as in Predictor.predict_probabilities, but no path. A picture is turned upright, as image
    files are, unless `decode` is the original's. Raises UserError for other types, shapes, channels
    and values.
    """
    if isinstance(image, Image.Image):
        return image if decode == PILLOW_DECODE else ImageOps.exif_transpose(image)
    if isinstance(image, Tensor):
        image = _to_array(image, channels)
    if not isinstance(image, np.ndarray):
        raise UserError(
            f'an image of type {type(image).__name__}; expected a path, a picture of Pillow, an '
            'array (H, W, C) or a tensor (C, H, W). Convert it with numpy.asarray.'
        )
    found = array_pixels(image, NAME, image_range).shape[2]
    if found != channels:
        raise channels_error(NAME, found, channels)
    return image


def _to_array(image: Tensor, channels: int) -> np.ndarray:
    """Return a tensor (H, W) or (C, H, W) as (H, W) or (H, W, C).

    One of three dimensions of which the last alone fits the channels is (H, W, C) already.
    """
    plain = image.detach().cpu()
    plain = plain.float() if plain.dtype == torch.bfloat16 else plain  # numpy has none
    if plain.dim() == 3 and (plain.shape[0] == channels or plain.shape[2] != channels):
        plain = plain.permute(1, 2, 0)
    return plain.numpy()


def to_tensor(
    picture: Picture,
    channels: int,
    scale: float,
    size: tuple[int, int],
    decode: str,
    image_range: ImageRange | None = None,
) -> Tensor:
    """Return a result of to_picture as (C, h, w) uint8, or float32 in [0, 1], at `scale`.

    size: (w, h), see network_limits.network_size.
    """
    if decode == PILLOW_DECODE:
        pixels = pixels_by_pillow(picture, channels, scale, NAME)
    elif isinstance(picture, np.ndarray):
        pixels = array_pixels(picture, NAME, image_range)
    else:
        pixels = to_channels(picture, channels, NAME, image_range)
    # torch warns about read-only arrays, such as those of Pillow's images.
    tensor = torch.from_numpy(np.require(pixels, requirements=['C', 'W'])).permute(2, 0, 1)
    return resize_image(tensor, size)
