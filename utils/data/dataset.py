"""Images and masks from files to batches.

    pair_files -> scan_pairs -> BasicDataset item -> pad_batch -> to_unit_range on the device

Axis letters: B batch, C channels, H and W pixels. Items stay uint8, a quarter of float32's bytes,
until they are on the device; those of images over 8 bits are float32 in [0, 1].
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils.images.decoding import open_picture, scaled_size
from utils.images.metadata import DEEP_TYPES
from utils.images.resizing import load_image, to_unit_range
from utils.masks.classes import MaskOptions, requested_encoding
from utils.masks.components import label_components
from utils.masks.encoding import IGNORE, MaskEncoding, encoding_of, load_mask, resize_mask
from utils.masks.values import MaskValue, mask_array
from utils.masks.weight_map import border_weights, to_bytes, touching
from utils.runtime.errors import UserError

from .class_values import choose_encoding, match_values
from .input_checks import channels_of, check_sizes
from .pairing import match_sets
from .scan import scan_pairs


class SegmentationDataset(Dataset):
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
        mask_values: MaskEncoding | list[MaskValue] | None = None,
        wanted: MaskOptions | None = None,
        resize_masks: bool = False,
        skip_bad: bool = False,
        weight_map: bool = False,
        validation_dirs: tuple[Path, Path] | None = None,
    ):
        if not 0 < scale <= 1:
            raise UserError(f'scale {scale}: expected over 0, at most 1')
        wanted = wanted or MaskOptions(classes)
        trained = mask_values and encoding_of(mask_values)
        asked = trained or requested_encoding(wanted, Path(mask_dir))
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
        self.deep = any(fact.image.mode in DEEP_TYPES for fact in self.scan.metadata)
        self.sizes = [scaled_size(fact.image.size, scale) for fact in self.scan.metadata]

    @property
    def mask_values(self) -> list[MaskValue]:
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
