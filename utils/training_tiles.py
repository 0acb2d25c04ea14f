"""Training on parts of images that are too large for the memory, or as in the paper."""

import numpy as np
from torch.utils.data import Dataset

from unet import MIN_SIZE, input_side, output_side

from .context import cut_out, with_context
from .errors import UserError
from .transforms import Item


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
        part = {name: cut_out(tensor, top, left, size) for name, tensor in item.items()}
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
