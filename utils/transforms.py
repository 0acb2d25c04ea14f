"""Augmentation of image and mask together, in training only."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

Item = dict[str, Tensor]


class Augmented(Dataset):
    """A view of a dataset that changes image and mask alike, differently in each epoch.

    kind: 'none'; 'flip', mirrored left to right in every second epoch; or 'full', which also
    turns, moves, zooms and shears the image a little and changes its colours.

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
        rng = np.random.default_rng((self.seed, epoch, position))
        item = moved(item, rng)
        if len(item['image']) in (1, 3):  # what else channels may hold is no colour
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(rng.integers(2**63)))
                item['image'] = _recolour()(item['image'])
        return item


def moved(item: Item, rng: np.random.Generator) -> Item:
    """Image and mask turned, zoomed, sheared and shifted a little; what lies outside is mirrored.

    Mirrored and not black, as torchvision's RandomAffine leaves it: black made a fifth of the
    pixels of a training image, which spoiled BatchNorm's statistics (dev/LOG.md).
    """
    height, width = item['mask'].shape
    turn, shear = np.deg2rad(rng.uniform(-10, 10)), np.deg2rad(rng.uniform(-5, 5))
    zoom = np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    # From a pixel of the result to where it comes from, about the centre, in pixels.
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.array([[1, np.tan(shear)], [0, 1]]) / zoom
    shift = rng.uniform(-0.1, 0.1, size=2)  # of half the side: 5 % of all of it
    # torch's grid counts each axis from -1 to 1, so that a turn needs the sides' ratio.
    matrix[0, 1] *= height / width
    matrix[1, 0] *= width / height
    theta = torch.from_numpy(np.column_stack([matrix, shift])).float()[None]
    theta = theta.to(item['mask'].device)
    grid = F.affine_grid(theta, [1, 1, height, width], align_corners=False)
    options = {'padding_mode': 'reflection', 'align_corners': False}
    image = F.grid_sample(item['image'].float()[None], grid, 'bilinear', **options)[0]
    mask = F.grid_sample(item['mask'].float()[None, None], grid, 'nearest', **options)[0, 0]
    if item['image'].dtype == torch.uint8:
        image = image.round_()
    return {'image': image.to(item['image'].dtype), 'mask': mask.to(item['mask'].dtype)}


@functools.cache  # and no attribute of the dataset, which worker processes get pickled
def _recolour() -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2  # here: over a second that only 'full' should pay

    # Without hue, which alone takes 46 ms for 959 x 640 pixels; the others 11.
    return v2.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5)
