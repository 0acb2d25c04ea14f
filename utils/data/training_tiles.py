"""Training on square tiles of the images, another one in each epoch."""

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from .context import crop, with_context


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
