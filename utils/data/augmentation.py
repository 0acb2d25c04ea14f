"""Random augmentation of image and mask together: flip, affine, elastic, color jitter.

Axis letters: C channels, H and W pixels.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

ELASTIC_SIGMA = 10.0  # pixels, as in the paper
JITTER = (0.5, 1.5)  # range of the factors of saturation, contrast and brightness

Item = dict[str, Tensor]


class Augmented(Dataset):
    """A view of a dataset that augments its items, differently in each epoch.

    kind: 'none'; 'flip', mirrors left to right in every second epoch; 'elastic', also deforms
        elastically; 'full', flips, random affine transform, and color jitter of grey and RGB.

    The index is (epoch, position). All randomness comes from (seed, epoch, position), so that the
    number of workers, the batch size and resuming change nothing.
    """

    def __init__(self, dataset: Dataset, seed: int, kind: str):
        self.dataset, self.seed, self.kind = dataset, seed, kind

    def __getitem__(self, index: tuple[int, int]) -> Item:
        epoch, position = index
        item = self.dataset[position]
        if self.kind == 'none':
            return item
        # Alternating instead of random: two epochs then show both sides of every image.
        first = int(np.random.default_rng((self.seed, position)).integers(2))
        if (first + epoch) % 2:
            item = {name: torch.flip(tensor, dims=[-1]) for name, tensor in item.items()}
        if self.kind == 'flip':
            return item
        rng = np.random.default_rng((self.seed, epoch, position))
        if self.kind == 'elastic':
            return elastic_deformation(item, rng)
        item = random_affine(item, rng)
        if len(item['image']) in (1, 3):  # other channels are no colours
            item['image'] = color_jitter(item['image'], rng)
        return item


def random_affine(item: Item, rng: np.random.Generator) -> Item:
    """Rotate, zoom, shear and shift the item a little. What lies outside is mirrored.

    Filled with black, as by torchvision, it spoiled BatchNorm's statistics (dev/LOG.md).
    """
    height, width = item['mask'].shape
    turn, shear = np.deg2rad(rng.uniform(-10, 10)), np.deg2rad(rng.uniform(-5, 5))
    zoom = np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    # Maps pixels of the result to pixels of the item, both relative to the centre.
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.array([[1, np.tan(shear)], [0, 1]]) / zoom
    shift = rng.uniform(-0.1, 0.1, size=2)  # in half sides: up to 5 % of a side
    # The coordinates of affine_grid go from -1 to 1 on both axes, whatever the aspect ratio.
    matrix[0, 1] *= height / width
    matrix[1, 0] *= width / height
    theta = _uploaded(torch.from_numpy(np.column_stack([matrix, shift])).float()[None], item)
    return _resample(item, F.affine_grid(theta, [1, 1, height, width], align_corners=False))


def _uploaded(numbers: Tensor, item: Item) -> Tensor:
    """Return a few numbers on the item's device (--cache device).

    A copy that blocks would wait until the GPU has finished the whole step before.
    """
    return numbers.to(item['mask'].device, non_blocking=True)


def elastic_deformation(item: Item, rng: np.random.Generator) -> Item:
    """Deform the item smoothly. What lies outside is mirrored.

    Displacements of ELASTIC_SIGMA pixels at the points of a 3 x 3 grid are interpolated bicubically
    (section 3.1 of https://arxiv.org/abs/1505.04597).
    """
    height, width = item['mask'].shape
    coarse = torch.from_numpy(rng.normal(0, ELASTIC_SIGMA, (1, 2, 3, 3))).float()
    coarse = _uploaded(coarse, item)
    shift = F.interpolate(coarse, (height, width), mode='bicubic', align_corners=True)
    # From pixels to the coordinates of affine_grid, -1 to 1.
    sides = _uploaded(torch.tensor([width, height]).float(), item)
    shift = shift.permute(0, 2, 3, 1) * 2 / sides
    identity = torch.eye(2, 3, device=shift.device)[None]
    grid = F.affine_grid(identity, [1, 1, height, width], align_corners=False)
    return _resample(item, grid + shift)


def _resample(item: Item, grid: Tensor) -> Item:
    """Return the item at `grid` (1, H, W, 2), -1 to 1, mirrored outside; masks are not blended."""
    found = {}
    for name, tensor in item.items():
        planes = tensor if tensor.dim() == 3 else tensor[None]
        mode = 'nearest' if name == 'mask' else 'bilinear'
        batch = planes.float()[None]
        planes = F.grid_sample(batch, grid, mode, 'reflection', align_corners=False)[0]
        if tensor.dtype == torch.uint8:
            planes = planes.round_()
        found[name] = planes.view(tensor.shape).to(tensor.dtype)
    return found


def color_jitter(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change saturation, contrast and brightness of an image (C, H, W), uint8 or float in [0, 1].

    Hue stays: a network may need it, and changing it took 46 ms for 959 x 640 pixels. The mapping
    of grey levels is monotonic. Other curves found more cars in the colour of the wall, but fewer
    things that differ from their surroundings only in brightness (dev/LOG.md).
    """
    from torchvision.transforms.v2 import functional as tv  # late: 1.8 s

    if len(image) == 3:
        image = tv.adjust_saturation(image, rng.uniform(*JITTER))
    contrast, brightness = rng.uniform(*JITTER, size=2).tolist()
    # Contrast and brightness in one pass. The mean is a sum of integers: adjust_contrast's sum of
    # floats depends in its last bit on the number of threads, and so would items on --workers.
    is_float = image.is_floating_point()
    mean = (255 * image).int().sum() / 255 if is_float else image.sum()
    pixels = image.mul(brightness * contrast)
    pixels += brightness * (1 - contrast) * mean / image.numel()
    return pixels.clamp_(0, 1) if is_float else pixels.round_().clamp_(0, 255).byte()
