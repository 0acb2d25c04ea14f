"""The mirrored context of networks without padding.

Such a network sees 92 pixels more on each side than it scores. The overlap-tile strategy of
https://arxiv.org/abs/1505.04597 takes them from the image, mirrored beyond its border.
"""

import numpy as np
import torch
from torch import Tensor

from unet import CONTEXT, input_side


def mirrored_indices(start: int, count: int, length: int) -> np.ndarray:
    """Return indices (count,) int64 from `start` on, mirrored at the ends: … 2 1 0 1 2 1 0 …"""
    period = max(1, 2 * length - 2)
    indices = np.arange(start, start + count) % period
    return np.minimum(indices, period - indices) if length > 1 else indices * 0


def crop(image: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """Return `size` (height, width) of images (…, H, W) from (top, left) on, mirrored outside."""
    rows, columns = (
        torch.from_numpy(mirrored_indices(start, count, length)).to(image.device)
        for start, count, length in zip((top, left), size, image.shape[-2:], strict=True)
    )
    return image.index_select(-2, rows).index_select(-1, columns)


def with_context(image: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """Return crop's part with at least CONTEXT pixels on each side, as padding 'valid' needs."""
    seen = (input_side(size[0]), input_side(size[1]))
    return crop(image, top - CONTEXT, left - CONTEXT, seen)
