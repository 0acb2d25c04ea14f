"""Class scores of whole pictures from networks without padding: the context they lack is mirrored.

The overlap-tile strategy of https://arxiv.org/abs/1505.04597: a network without padding sees 92
pixels more on each side than it scores. Where the picture has them they are the picture's own,
beyond its border they are its mirror image. Axis letters: B batch, C channels, H and W pixels, K
classes.
"""

import numpy as np
import torch
from torch import Tensor, nn

from unet import CONTEXT, input_side


def mirrored_places(start: int, count: int, length: int) -> np.ndarray:
    """(count,) int64: the pixels from `start` on of a row of `length`, mirrored at both its ends.

    Of 0 1 2 3: … 2 1 0 1 2 3 2 1 0 1 …, as often as it takes.
    """
    period = max(1, 2 * length - 2)
    place = np.arange(start, start + count) % period
    return np.minimum(place, period - place) if length > 1 else place * 0


def cut_out(image: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """The part of images (…, H, W) from row `top` and column `left` on, `size` (height, width).

    What lies outside is mirrored.
    """
    rows, columns = (
        torch.from_numpy(mirrored_places(start, count, length)).to(image.device)
        for start, count, length in zip((top, left), size, image.shape[-2:], strict=True)
    )
    return image.index_select(-2, rows).index_select(-1, columns)


def with_context(image: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """What a network without padding must see of images (…, H, W) to score `size` (height, width)
    pixels from row `top` and column `left` on."""
    seen = (input_side(size[0]), input_side(size[1]))
    return cut_out(image, top - CONTEXT, left - CONTEXT, seen)


def logits_of(network: nn.Module, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Logits (B, K, h, w) of `size` (h, w), that of the images unless given.

    network: a UNet, or one compiled. images: (B, C, H, W) float, of that size, or, for a network
    without padding, larger by with_context.
    """
    size = size or tuple(images.shape[-2:])
    if getattr(network, 'padding', 'same') == 'same':
        return network(images)
    if tuple(images.shape[-2:]) == tuple(size):
        images = with_context(images, 0, 0, size)
    images = images.contiguous(memory_format=torch.channels_last)
    return network(images)[..., : size[0], : size[1]]
