"""Training tiles, and the mirrored context that networks without padding need.

Such a network sees 92 pixels more on each side than it scores. The overlap-tile strategy of
https://arxiv.org/abs/1505.04597 takes them from the image, mirrored beyond its border.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

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


class Tiles(Dataset):
    """A view of a dataset that returns a random square tile of each item.

    side: of the tile, in pixels at training scale; a smaller image is returned whole.
    padding: the network's. With 'valid', images have the context that the network needs.

    The index is the dataset's, (epoch, position). The place of the tile depends on it and the seed.
    """

    def __init__(self, dataset: Dataset, seed: int, side: int, padding: str):
        self.dataset, self.seed, self.side, self.padding = dataset, seed, side, padding

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Tensor]:
        item = self.dataset[index]
        rng = np.random.default_rng((self.seed, *index, self.side))
        height, width = item['mask'].shape
        size = min(self.side, height), min(self.side, width)
        top = int(rng.integers(height - size[0] + 1))
        left = int(rng.integers(width - size[1] + 1))
        tile = {name: crop(tensor, top, left, size) for name, tensor in item.items()}
        if self.padding == 'valid':
            tile['image'] = with_context(item['image'], top, left, size)
        return tile


def in_tiles(dataset: Dataset, seed: int, side: int | None, padding: str) -> Dataset:
    """Return the dataset as Tiles; unchanged if `side` is None."""
    return Tiles(dataset, seed, side, padding) if side else dataset
