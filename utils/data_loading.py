"""Images and masks from files to batches.

    pair_files -> scan_pairs -> BasicDataset item -> pad_batch -> to_unit_range on the device

Axis letters: B batch, C channels, H and W pixels. Items stay uint8, a quarter of float32's bytes,
until they are on the device; those of images over 8 bits are float32 in [0, 1].
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from .components import label_components
from .decoding import (
    Picture,
    open_picture,
    open_reduced,
    picture_size,
    scaled_size,
    to_channels,
)
from .dice_score import IGNORE
from .errors import UserError
from .image_checks import channels_of, check_sizes
from .mask_classes import Wanted, asked_encoding, choose_encoding, match_values
from .mask_values import MaskEncoding, Value, encoding_of, mask_array, to_indices
from .pairing import match_sets
from .scan import DEEP, scan_pairs
from .weight_map import border_weights, to_bytes, touching


class BasicDataset(Dataset):
    """Images and masks of two folders, as items at training scale.

    images_dir, mask_dir: folders; an image ID.* belongs to the mask ID<mask_suffix>.*.
    scale: factor of width and height, in (0, 1].
    mask_suffix: None finds it from the names.
    classes: how many are expected; None takes as many as the masks hold values.
    channels: 1 (grey), 3 (RGB), or the N of arrays; None takes what the images have, 1 where
        every image is grey.
    mask_values: the encoding or the values of the masks a network was trained on, to which those
        here are held.
    wanted: what is asked of the mask values; `classes` goes before its own.
    resize_masks: masks of another size than their image are stretched to it.
    skip_bad: leave out pairs with which something is wrong; `scan.left_out` says what.
    weight_map: items have a third part, 'border', uint8 (H, W), see weight_map.to_bytes.
    validation_dirs: folders of images and masks of a fixed validation set, whose items follow.

    Item i is {'image': (C, H, W) uint8, or float32 where an image has over 8 bits, 'mask': uint8
    (H, W) class indices or IGNORE}; `ids` names it, `masks` is how masks are encoded.
    Raises UserError with all that is wrong with the files.
    """

    def __init__(
        self,
        images_dir: str | Path,
        mask_dir: str | Path,
        scale: float = 1.0,
        mask_suffix: str | None = '',
        *,
        classes: int | None = None,
        channels: int | None = None,
        mask_values: MaskEncoding | list[Value] | None = None,
        wanted: Wanted | None = None,
        resize_masks: bool = False,
        skip_bad: bool = False,
        weight_map: bool = False,
        validation_dirs: tuple[Path, Path] | None = None,
    ):
        if not 0 < scale <= 1:
            raise UserError(f'scale {scale}: expected over 0, at most 1')
        wanted = wanted or Wanted(classes)
        trained = mask_values and encoding_of(mask_values)
        asked = trained or asked_encoding(wanted, Path(mask_dir))
        folders = (Path(images_dir), Path(mask_dir))
        matched = match_sets(folders, mask_suffix, validation_dirs)
        self.scan = scan_pairs(
            matched.pairs,
            masks=asked,
            resize_masks=resize_masks,
            skip_bad=skip_bad,
            others=matched.problems,
        )
        self.pairs = self.scan.pairs
        self.ids = [pair.id for pair in self.pairs]
        self.scale, self.weight_map = scale, weight_map
        self.masks = (
            match_values(self.scan, trained)
            if trained
            else choose_encoding(self.scan, asked, classes or wanted.classes)
        )
        self.channels = channels_of(self.scan, channels)
        self.deep = any(fact.image.mode in DEEP for fact in self.scan.facts)
        self.sizes = [scaled_size(fact.image.size, scale) for fact in self.scan.facts]

    @property
    def mask_values(self) -> list[Value]:
        """The mask value of each class."""
        return self.masks.values

    def check_sizes(self, smallest_batch: int | None = None) -> None:
        """Raise UserError for images too small for the network; see image_checks.check_sizes."""
        check_sizes(self.pairs, self.sizes, self.scale, smallest_batch)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        mask = load_mask(self.pairs[index].mask, self.masks, self.scale, self.sizes[index])
        item = {'image': self.image(index), 'mask': mask}
        return self._weighted(item, index) if self.weight_map else item

    def _weighted(self, item: dict[str, Tensor], index: int) -> dict[str, Tensor]:
        """An item with its border weights, as bytes, and with cells that touch set apart."""
        mask = item['mask'].numpy()
        values = np.where(mask == IGNORE, 0, mask)
        if self.masks.threshold is not None:  # it has made one class of what may be many cells
            path = self.pairs[index].mask
            found = mask_array(resize_mask(open_picture(path), self.sizes[index]), path)
            values = np.where(values, found, 0)
        cells = label_components(values)
        apart = np.where(touching(cells) & (values > 0), 0, mask)
        border = torch.from_numpy(to_bytes(border_weights(cells * (apart > 0))))
        return item | {'mask': torch.from_numpy(apart), 'border': border}

    def image(self, index: int) -> Tensor:
        """The image of an item."""
        image = load_image(self.pairs[index].image, self.channels, self.scale)
        # One type for all items, or they would make no batch.
        return to_unit_range(image) if self.deep else image


class CarvanaDataset(BasicDataset):
    """Kaggle's Carvana set: masks named as their images plus '_mask', 16 views a car, ID_VV."""

    def __init__(
        self, images_dir: str | Path, mask_dir: str | Path, scale: float = 1.0, **options: object
    ):
        super().__init__(images_dir, mask_dir, scale, mask_suffix='_mask', **options)


def load_image(path: Path, channels: int, scale: float) -> Tensor:
    """A picture file as (C, H, W) at `scale`, uint8 or, of more than 8 bits, float32 in [0, 1].

    Raises UserError, naming the file, where it cannot be read or has other channels.
    """
    return read_image(path, channels, scale)[0]


def read_image(path: Path, channels: int, scale: float) -> tuple[Tensor, tuple[int, int]]:
    """load_image, and the file's own (width, height)."""
    picture, size, times = open_reduced(path, scale)
    # A view, not a copy: all that follows is fastest on pixels with their channels together.
    image = torch.from_numpy(to_channels(picture, channels, path)).permute(2, 0, 1)
    extent = (size[0] / times, size[1] / times)
    return resize_image(image, scaled_size(size, scale), extent), size


def resize_image(
    image: Tensor, size: tuple[int, int], extent: tuple[float, float] | None = None
) -> Tensor:
    """(C, H, W) uint8, or float32 in [0, 1], resized to `size` (width, height).

    extent: the (width, height) of what is to fill `size`, in the image's pixels. A reduced JPEG
        of odd size ends within its last pixel; to stretch that too doubled the error, to 1.1 grey
        levels on average at half size.

    Bicubic with antialias, within one grey level of Pillow's, in a third of its time.
    """
    height, width = image.shape[1:]
    if size == (width, height):
        return image
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)  # torch sees that channels are last
    if extent in (None, (width, height)):
        target = {'size': (size[1], size[0])}
    else:
        # torch rounds down to the size; the hundredth keeps a product of floats from falling below.
        factors = [(side + 0.01) / length for side, length in zip(size, extent, strict=True)]
        target = {'scale_factor': (factors[1], factors[0])}
    resized = F.interpolate(batch, **target, mode='bicubic', antialias=True)
    resized = resized.contiguous(memory_format=torch.channels_last)[0]
    return resized.clamp_(0, 1) if image.is_floating_point() else resized


def load_mask(
    path: Path,
    masks: MaskEncoding | list[Value],
    scale: float,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """A mask file as class indices uint8 (H, W) at `scale`, by nearest neighbour.

    size: (width, height) to have instead, that of its image where sizes may differ.
    """
    mask = open_picture(path)
    mask = resize_mask(mask, size or scaled_size(picture_size(mask), scale))
    return torch.from_numpy(to_indices(mask_array(mask, path), masks, path))


def resize_mask(mask: Picture, size: tuple[int, int]) -> Picture:
    """A mask by its nearest pixels at `size` (width, height); arrays as Pillow does pictures."""
    if picture_size(mask) == size:
        return mask
    if isinstance(mask, Image.Image):
        return mask.resize(size, Image.Resampling.NEAREST)
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size[::-1], mask.shape, strict=False)
    )
    return mask[rows[:, None], columns]


def to_unit_range(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images to floats in [0, 1]: by type, never by looking at one image's values.

    Floats are in [0, 1] already.
    """
    return images.to(dtype) if images.is_floating_point() else images.to(dtype).div_(255)


def to_device(batch: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) float in [0, 1], channels last, and masks (B, H, W) of a batch there."""
    images = batch['image'].to(device, non_blocking=True, memory_format=torch.channels_last)
    return to_unit_range(images), batch['mask'].to(device, non_blocking=True)
