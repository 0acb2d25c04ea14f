"""Augmentation of image and mask together, in training only."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .dice_score import IGNORE

Item = dict[str, Tensor]


class Augmented(Dataset):
    """A view of a dataset that changes image and mask alike, differently in each epoch.

    kind: 'none'; 'flip', mirrored left to right in every second epoch; or 'full', which also
    turns, moves, zooms and shears the image a little and changes its colours. What a change
    uncovers is IGNORE in the mask.

    Its index is (epoch, position), and all chance comes from (seed, epoch, position), so that
    workers, batch size and a resumed run change nothing.
    """

    def __init__(self, dataset: Dataset, seed: int, kind: str):
        self.dataset, self.seed, self.kind = dataset, seed, kind

    def __getitem__(self, index: tuple[int, int]) -> Item:
        epoch, position = index
        item = self.dataset[position]
        if self.kind == 'none':
            return item
        # Alternating, and not drawn anew: two epochs then show both sides of every image.
        first = int(np.random.default_rng((self.seed, position)).integers(2))
        if (first + epoch) % 2:
            item = {name: torch.flip(tensor, dims=[-1]) for name, tensor in item.items()}
        if self.kind == 'flip':
            return item
        chance = np.random.default_rng((self.seed, epoch, position)).integers(2**63)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(chance))
            return _distortion()(item)


@functools.cache  # and no attribute of the dataset, which worker processes get pickled
def _distortion() -> Callable[[Item], Item]:
    from torchvision import tv_tensors  # here: two seconds that only 'full' should pay
    from torchvision.transforms import InterpolationMode, v2

    change = v2.RandomAffine(
        degrees=10,
        translate=(0.05, 0.05),
        scale=(0.8, 1.25),
        shear=5,
        interpolation=InterpolationMode.BILINEAR,  # masks take the nearest all the same
        fill={tv_tensors.Image: 0, tv_tensors.Mask: IGNORE},
    )
    recolour = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03)

    def distort(item: Item) -> Item:
        image, mask = change(tv_tensors.Image(item['image']), tv_tensors.Mask(item['mask']))
        if image.shape[0] in (1, 3):  # other channels are no colours
            image = recolour(image)
        return {'image': image.as_subclass(Tensor), 'mask': mask.as_subclass(Tensor)}

    return distort
