"""Images and masks from files to batches.

    pair_files -> scan_pairs -> BasicDataset item -> pad_batch -> to_unit_range on the device

Axis letters: B batch, C channels, H and W pixels. Items stay uint8, a quarter of float32's bytes,
until they are on the device; those of images over 8 bits are float32 in [0, 1].
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from .decoding import Picture, open_picture, picture_size, to_channels
from .dice_score import IGNORE
from .errors import UserError
from .image_checks import channels_of, check_sizes, scaled_size
from .mask_classes import Wanted, asked_encoding, choose_encoding, match_values
from .mask_values import MaskEncoding, Value, encoding_of, mask_array, to_indices
from .pairing import match_files
from .scan import DEEP, scan_pairs
from .signals import ignore_in_worker


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
    ):
        if not 0 < scale <= 1:
            raise UserError(f'scale {scale}: expected over 0, at most 1')
        wanted = wanted or Wanted(classes)
        trained = mask_values and encoding_of(mask_values)
        asked = trained or asked_encoding(wanted, Path(mask_dir))
        matched = match_files(Path(images_dir), Path(mask_dir), mask_suffix)
        if matched.report and not (skip_bad and matched.pairs):
            raise UserError(matched.report)
        self.scan = scan_pairs(
            matched.pairs, masks=asked, resize_masks=resize_masks, skip_bad=skip_bad
        )
        self.scan.left_out[:0] = matched.problems
        self.pairs = self.scan.pairs
        self.ids = [pair.id for pair in self.pairs]
        self.scale = scale
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
        pair = self.pairs[index]
        image = load_image(pair.image, self.channels, self.scale)
        mask = load_mask(pair.mask, self.masks, self.scale, self.sizes[index])
        # One type for all items, or they would make no batch.
        return {'image': to_unit_range(image) if self.deep else image, 'mask': mask}


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
    pixels = to_channels(open_picture(path), channels, path)
    height, width = pixels.shape[:2]
    # A view, not a copy: the resizing below is fastest on pixels with their channels together.
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    return resize_image(image, scaled_size((width, height), scale))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W) uint8, or float32 in [0, 1], resized to `size` (width, height).

    Bicubic with antialias, within one grey level of Pillow's, in a third of its time (12 against
    31 to 39 ms for a 1918 x 1280 picture to half size, decoding included).
    """
    width, height = size
    if image.shape[1:] == (height, width):
        return image
    resized = F.interpolate(image[None], (height, width), mode='bicubic', antialias=True)[0]
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


def pad_batch(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Items to {'image': (B, C, H, W), 'mask': uint8 (B, H, W)} of the largest H and W.

    Smaller images get black below and to the right, and a mask that says IGNORE there.
    """
    height = max(item['image'].shape[1] for item in items)
    width = max(item['image'].shape[2] for item in items)
    images, masks = [], []
    for item in items:
        padding = [0, width - item['image'].shape[2], 0, height - item['image'].shape[1]]
        images.append(F.pad(item['image'], padding))
        masks.append(F.pad(item['mask'], padding, value=IGNORE))
    return {'image': torch.stack(images), 'mask': torch.stack(masks)}


class ShuffledBatches:
    """Batches of (epoch, position) for one epoch after another, in an order of (seed, epoch).

    positions: what to draw from, each once an epoch. Set `epoch` before iterating, and `start`
    to the number of batches that are done already; the length counts these too.
    """

    def __init__(self, positions: list[int], batch_size: int, seed: int):
        self.positions, self.batch_size, self.seed = positions, batch_size, seed
        self.epoch, self.start = 1, 0

    def __len__(self) -> int:
        return -(-len(self.positions) // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.positions)
        for first in range(self.start * self.batch_size, len(order), self.batch_size):
            yield [(self.epoch, int(i)) for i in order[first : first + self.batch_size]]


def same_size_batches(
    positions: list[int], sizes: list[tuple[int, int]], batch_size: int
) -> list[list[int]]:
    """Batches in which all images have one size, so that no score depends on the batch size.

    Padding would change what the network sees at an image's border. `sizes` is by position.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for position in positions:
        by_size.setdefault(sizes[position], []).append(position)
    return [
        group[first : first + batch_size]
        for group in by_size.values()
        for first in range(0, len(group), batch_size)
    ]


def make_loader(
    dataset: Dataset, batches: ShuffledBatches | list[list[int]], workers: int, device: torch.device
) -> DataLoader:
    """A DataLoader of pad_batch batches; with workers they live from epoch to epoch."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=pad_batch,
        worker_init_fn=ignore_in_worker,
        pin_memory=device.type == 'cuda',
        persistent_workers=workers > 0,
    )
