"""Class scores of whole pictures from networks without padding: the context they lack is mirrored.

The overlap-tile strategy of https://arxiv.org/abs/1505.04597: a network without padding sees 92
pixels more on each side than it scores. Where the picture has them they are the picture's own,
beyond its border they are its mirror image. Axis letters: B batch, C channels, H and W pixels, K
classes.

Training on parts of images that are too large for the memory, or as in the paper.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unet import CONTEXT, MIN_SIZE, input_side, output_side
from utils.runtime.errors import UserError

from .augmentation import Item


def mirrored_indices(start: int, count: int, length: int) -> np.ndarray:
    """(count,) int64: the pixels from `start` on of a row of `length`, mirrored at both its ends.

    Of 0 1 2 3: … 2 1 0 1 2 3 2 1 0 1 …, as often as it takes.
    """
    period = max(1, 2 * length - 2)
    place = np.arange(start, start + count) % period
    return np.minimum(place, period - place) if length > 1 else place * 0


def crop(image: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """The part of images (…, H, W) from row `top` and column `left` on, `size` (height, width).

    What lies outside is mirrored.
    """
    rows, columns = (
        torch.from_numpy(mirrored_indices(start, count, length)).to(image.device)
        for start, count, length in zip((top, left), size, image.shape[-2:], strict=True)
    )
    return image.index_select(-2, rows).index_select(-1, columns)


def with_context(image: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """What a network without padding must see of images (…, H, W) to score `size` (height, width)
    pixels from row `top` and column `left` on."""
    seen = (input_side(size[0]), input_side(size[1]))
    return crop(image, top - CONTEXT, left - CONTEXT, seen)


class Tiles(Dataset):
    """A view of a dataset of items that gives a square part of each, another one in each epoch.

    side: pixels, at training scale; of a smaller image all is taken. padding: the network's; with
    'valid' the image has the context that the network needs around what the mask shows, the
    image's own pixels where it has them, else mirrored ones.

    Its index is the dataset's, (epoch, position), and the place comes from it and the seed alone.
    """

    def __init__(self, dataset: Dataset, seed: int, side: int, padding: str):
        self.dataset, self.seed, self.side, self.padding = dataset, seed, side, padding

    def __getitem__(self, index: tuple[int, int]) -> Item:
        item = self.dataset[index]
        rng = np.random.default_rng((self.seed, *index, self.side))
        sides = item['mask'].shape
        size = tuple(min(self.side, side) for side in sides)
        top, left = (int(rng.integers(sides[k] - size[k] + 1)) for k in (0, 1))
        part = {name: crop(tensor, top, left, size) for name, tensor in item.items()}
        if self.padding == 'valid':
            part['image'] = with_context(item['image'], top, left, size)
        return part


def in_tiles(dataset: Dataset, seed: int, side: int | None, padding: str) -> Dataset:
    """The dataset by tiles, or itself where there is no side."""
    return Tiles(dataset, seed, side, padding) if side else dataset


def check_variance(side: int, smallest_batch: int) -> None:
    """Raise UserError for a tile whose deepest map is one value, in a batch of one image."""
    if smallest_batch == 1 and side < 2 * MIN_SIZE:
        raise UserError(
            f'--tile {side}: a batch of one image needs {2 * MIN_SIZE} pixels, and the last of '
            f'an epoch may be one. Use --tile {2 * MIN_SIZE} or more.'
        )


def check_tile(side: int) -> None:
    """Raise UserError for a tile that a network without padding does not give."""
    seen = input_side(side)
    if output_side(seen) != side:
        near = [output_side(seen) - 16, output_side(seen)]
        raise UserError(
            f'--tile {side}: without padding the network gives tiles of 4, 20, 36, … pixels, the '
            f"nearest are {near[0]} and {near[1]}. Use one of them (388 is the paper's)."
        )
