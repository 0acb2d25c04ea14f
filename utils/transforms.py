"""Augmentation of image and mask together, in training only."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class Augmented(Dataset):
    """A view of a dataset that is mirrored left to right at random, image and mask alike.

    Its index is (epoch, position). Whether an item is mirrored depends on (seed, position, epoch)
    alone, so that workers, batch size and a resumed run change nothing; and it alternates from
    epoch to epoch, so that two epochs show both sides of every image.
    """

    def __init__(self, dataset: Dataset, seed: int, flip: bool):
        self.dataset, self.seed, self.flip = dataset, seed, flip

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Tensor]:
        epoch, position = index
        item = self.dataset[position]
        first = int(np.random.default_rng((self.seed, position)).integers(2))
        if self.flip and (first + epoch) % 2:
            item = {name: torch.flip(tensor, dims=[-1]) for name, tensor in item.items()}
        return item
