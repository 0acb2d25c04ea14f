"""Augmentation of image and mask together, in training only."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

BENDING = 10.0  # pixels, of the paper

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601

STRENGTH = (0.5, 1.5)  # of colours, contrast and brightness; 1 leaves them as they are

Item = dict[str, Tensor]


class Augmented(Dataset):
    """A view of a dataset that changes image and mask alike, differently in each epoch.

    kind: 'none'; 'flip', mirrored left to right in every second epoch; 'elastic', which also bends
    the image smoothly; or 'full', which instead turns, moves, zooms and shears the image a little
    and changes its colours and tones.

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
        if self.kind == 'elastic':
            return bent(item, rng)
        item = moved(item, rng)
        if len(item['image']) in (1, 3):  # what else channels may hold is no colour
            item['image'] = toned(recoloured(item['image'], rng), rng)
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
    return sampled(item, F.affine_grid(theta, [1, 1, height, width], align_corners=False))


def bent(item: Item, rng: np.random.Generator) -> Item:
    """Image and mask deformed elastically; what lies outside is mirrored.

    Displacements are normal, of BENDING pixels' deviation, at the points of a 3 x 3 grid over the
    image, and bicubic between them (section 3.1 of https://arxiv.org/abs/1505.04597).
    """
    height, width = item['mask'].shape
    coarse = torch.from_numpy(rng.normal(0, BENDING, (1, 2, 3, 3))).float().to(item['mask'].device)
    shift = F.interpolate(coarse, (height, width), mode='bicubic', align_corners=True)
    # torch's grid counts each axis from -1 to 1.
    shift = shift.permute(0, 2, 3, 1) * 2 / shift.new_tensor([width, height])
    rest = torch.eye(2, 3, device=shift.device)[None]
    still = F.affine_grid(rest, [1, 1, height, width], align_corners=False)
    return sampled(item, still + shift)


def sampled(item: Item, grid: Tensor) -> Item:
    """The tensors of an item at places (1, H, W, 2) float from -1 to 1 within the image.

    The mask's nearest pixel, of all else a value between its neighbours'; mirrored outside.
    """
    options = {'padding_mode': 'reflection', 'align_corners': False}
    found = {}
    for name, tensor in item.items():
        planes = tensor if tensor.dim() == 3 else tensor[None]
        mode = 'nearest' if name == 'mask' else 'bilinear'
        planes = F.grid_sample(planes.float()[None], grid, mode, **options)[0]
        if tensor.dtype == torch.uint8:
            planes = planes.round_()
        found[name] = planes.view(tensor.shape).to(tensor.dtype)
    return found


def recoloured(image: Tensor, rng: np.random.Generator) -> Tensor:
    """An image (C, H, W) of three channels with its colours weaker or stronger.

    Others have none to change. Hue stays: a network may need it, and it alone took 46 ms for
    959 x 640 pixels where this takes 5.
    """
    if len(image) != 3:
        return image
    strength = rng.uniform(*STRENGTH)
    colours = image.float()
    grey = sum(weight * plane for weight, plane in zip(LUMA, colours, strict=True))
    changed = (colours - grey).mul_(strength).add_(grey)
    if image.dtype == torch.uint8:
        return changed.round_().clamp_(0, 255).to(torch.uint8)
    return changed.clamp_(0, 1)


def toned(image: Tensor, rng: np.random.Generator) -> Tensor:
    """An image (C, H, W), uint8 or float in [0, 1], with other contrast and brightness.

    The order of tones stays: curves that rise and fall found more cars in the wall's colour, but
    fewer things that only their tone tells from others (dev/LOG.md).
    """
    contrast, brightness = rng.uniform(*STRENGTH, size=2).tolist()
    deep = image.is_floating_point()
    # Whole numbers have one sum, in whatever order a process's threads add them.
    whole = (255 * image).int() if deep else image
    middle = whole.sum(dtype=torch.int64) / (255 * image.numel())
    if deep:
        return (brightness * (middle + contrast * (image - middle))).clamp_(0, 1)
    levels = torch.arange(256, device=image.device) / 255
    tones = (brightness * (middle + contrast * (levels - middle))).clamp_(0, 1)
    table = (255 * tones).round_().to(torch.uint8)
    return table.index_select(0, image.int().flatten()).view(image.shape)
