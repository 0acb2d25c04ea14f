"""Images at training scale, as tensors.

Axis letters: B batch, C channels, H and W pixels. Images stay uint8, a quarter of the bytes of
float32, until they are on the device. Those of more than 8 bits a channel are float32 in [0, 1], or
with PILLOW_DECODE in the original's range, see pixels_by_pillow.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .arrays import ImageRange
from .decoding import (
    DECODE_PATH,
    PILLOW_DECODE,
    Picture,
    check_mode,
    open_picture,
    open_reduced,
    picture_size,
    scaled_size,
    to_channels,
)
from .original import BICUBIC, resized
from .pages import Source


def load_image(
    path: Source,
    channels: int,
    scale: float,
    decode: str = DECODE_PATH,
    image_range: ImageRange | None = None,
) -> Tensor:
    """Return an image file as (C, H, W) uint8, or float32 if over 8 bits, at `scale`.

    image_range: of files of more than 8 bits, see arrays.unit_pixels; PILLOW_DECODE has none.
    Raises UserError, naming the file, if it cannot be read or has other channels.
    """
    return read_image(path, channels, scale, decode, image_range)[0]


def read_image(
    path: Source,
    channels: int,
    scale: float,
    decode: str = DECODE_PATH,
    image_range: ImageRange | None = None,
) -> tuple[Tensor, tuple[int, int]]:
    """Return load_image's tensor and the file's own (width, height)."""
    if decode == PILLOW_DECODE:
        stored = open_picture(path, decode)
        pixels = pixels_by_pillow(stored, channels, scale, path)
        return torch.from_numpy(pixels).permute(2, 0, 1), picture_size(stored)
    picture, size, times = open_reduced(path, scale, channels)
    # A view, not a copy: what follows is fastest with channels last in memory.
    pixels = to_channels(picture, channels, path, image_range)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    extent = (size[0] / times, size[1] / times)
    return resize_image(image, scaled_size(size, scale), extent), size


def pixels_by_pillow(picture: Picture, channels: int, scale: float, path: Source) -> np.ndarray:
    """Return a picture or array as (H, W, C) uint8 or float32 at `scale`, by original.resized.

    A picture of `channels` bands is taken in its own mode, a palette picture for one channel as its
    indices. The original had no other pictures; they are converted first, as by to_channels. As
    there, pixels are divided by 255 if any exceeds 1: uint8 pixels later by to_unit_range, which
    is why all others are multiplied by 255 here; 16 bits give up to 257. Raises UserError, naming
    `path`, for a picture that cannot be converted.
    """
    if isinstance(picture, np.ndarray):
        picture = _as_picture(picture)
    if isinstance(picture, Image.Image) and len(picture.getbands()) == channels:
        check_mode(picture.mode, path)
        pixels = resized(picture, scale, BICUBIC, path)
    else:
        whole = to_channels(picture, channels, path)
        bands = [Image.fromarray(whole[..., k]) for k in range(channels)]
        pixels = np.stack([resized(band, scale, BICUBIC, path) for band in bands], axis=2)
        if pixels.dtype == np.float32:
            pixels = pixels.clip(0, 1)  # bicubic overshoots
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    bright = bool(pixels.max() > 1)
    if pixels.dtype in (np.uint8, bool):
        return pixels.copy() if bright else pixels.astype(np.uint8) * 255
    return (pixels / 255 if bright else pixels).astype(np.float32)


def _as_picture(array: np.ndarray) -> Picture:
    """Return an array as Pillow's picture, as the original reads it, or as it is."""
    try:
        return Image.fromarray(array)
    except (TypeError, ValueError):  # other channels, or a type that no picture has
        return array


def resize_image(
    image: Tensor, size: tuple[int, int], extent: tuple[float, float] | None = None
) -> Tensor:
    """Return the image (C, H, W), uint8 or float32 in [0, 1], at `size` (width, height).

    extent: (width, height) of the part of the image that fills `size`, all of it unless given. A
        reduced JPEG of odd size ends within its last pixel. Stretching that pixel too doubled the
        error, to 1.1 grey levels on average at half size.
    Bicubic with antialiasing: within one grey level of Pillow's result, in a third of its time.
    """
    height, width = image.shape[1:]
    if size == (width, height):
        return image
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)  # strides of channels_last
    if extent in (None, (width, height)):
        target: dict = {'size': size[::-1]}
    else:
        # torch rounds down to the size. The 0.01 keeps rounding errors from taking off a pixel.
        horizontal, vertical = (size[0] + 0.01) / extent[0], (size[1] + 0.01) / extent[1]
        target = {'scale_factor': (vertical, horizontal)}
    resized = F.interpolate(batch, **target, mode='bicubic', antialias=True)
    resized = resized.contiguous(memory_format=torch.channels_last)[0]
    return resized.clamp_(0, 1) if image.is_floating_point() else resized


def change_range(images: Tensor, known: ImageRange, wanted: ImageRange) -> Tensor:
    """Return float images (B, C, H, W), in [0, 1] of one range, in [0, 1] of another."""
    (low, high), (new_low, new_high) = (images.new_tensor(one).T for one in (known, wanted))
    factor, shift = (high - low) / (new_high - new_low), (low - new_low) / (new_high - new_low)
    return (images * factor[:, None, None] + shift[:, None, None]).clamp_(0, 1)


def to_unit_range(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 images divided by 255, and float images, in [0, 1] already, unchanged."""
    return images.to(dtype) if images.is_floating_point() else images.to(dtype).div_(255)
