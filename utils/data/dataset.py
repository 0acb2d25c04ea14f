"""The dataset of training, evaluation and calibration: image and mask files to items.

    match_sets -> scan_pairs -> SegmentationDataset item -> pad_batch -> to_device

Axis letters: C channels, H and W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils.images.arrays import ImageRange
from utils.images.decoding import DECODE_PATH, picture_size, scaled_size
from utils.images.pixel_range import check_values
from utils.images.resizing import read_image, to_unit_range
from utils.masks.classes import MaskOptions, requested_encoding
from utils.masks.components import label_components
from utils.masks.encoding import IGNORE, MaskEncoding, encoding_of, mask_indices, resize_mask
from utils.masks.joined import MaskSource, open_mask
from utils.masks.values import MaskValue, mask_array, pack_colours
from utils.masks.weight_map import border_weights, to_bytes, touching
from utils.runtime.errors import UserError

from .class_values import choose_encoding, match_values, named_by_files, tables_of
from .network_limits import channels_of, check_sizes
from .pairing.sets import NO_LISTS, Lists, match_sets
from .scan import scan_pairs
from .suggestions import suggest


class SegmentationDataset(Dataset):
    """Images and masks of two folders, as items at training scale.

    images_dir, mask_dir: folders, or patterns (see pairing.patterns). In folders, the mask of image
        ID.* is ID<mask_suffix>.*.
    scale: factor of width and height, in (0, 1].
    mask_suffix: None finds it from the names.
    channels: 1 (grey), 3 (RGB), or the N of arrays; None takes those of the images.
    mask_values: mask encoding or mask values of a trained network, which the masks must match.
    wanted: options about mask values, for a new network.
    resize_masks: stretch masks whose size differs from their image.
    skip_bad: leave out pairs with problems, and list them in `scan.left_out`.
    weight_map: add 'border' to items, uint8 (H, W), see weight_map.to_bytes, and make the mask's
        pixels between touching cells background.
    validation_dirs: image and mask folders of a fixed validation set, whose items follow.
    lists: files that name the images to use (see pairing.lists): of images_dir, and of a fixed
        validation set in validation_dirs or else images_dir. None takes all.
    decode: DECODE_PATH or PILLOW_DECODE.
    image_range: of deep images, see arrays.unit_pixels; may be set later, as it is measured after
        the split.

    Item i is {'image': (C, H, W) uint8, or float32 in [0, 1] if any image has more than 8 bits a
    channel (`float_images`; up to 257 with PILLOW_DECODE), 'mask': uint8 (H, W) of class indices
    and IGNORE}. `ids[i]` is its name, `sizes[i]` its (width, height), `masks` the encoding of the
    masks.

    Raises UserError with all problems of the files.
    """

    def __init__(
        self,
        images_dir: str | Path,
        mask_dir: str | Path,
        scale: float = 1.0,
        mask_suffix: str | None = '',
        *,
        channels: int | None = None,
        mask_values: MaskEncoding | list[MaskValue] | None = None,
        wanted: MaskOptions | None = None,
        resize_masks: bool = False,
        skip_bad: bool = False,
        weight_map: bool = False,
        validation_dirs: tuple[Path, Path] | None = None,
        lists: Lists = NO_LISTS,
        decode: str = DECODE_PATH,
        image_range: ImageRange | None = None,
    ):
        if not 0 < scale <= 1:
            raise UserError(f'scale {scale}: expected over 0, at most 1')
        wanted = wanted or MaskOptions()
        trained = encoding_of(mask_values) if mask_values else None
        sources = (Path(images_dir), Path(mask_dir))
        lists = (lists[0] and Path(lists[0]), lists[1] and Path(lists[1]))
        matching = match_sets(sources, mask_suffix, validation_dirs, lists, trained is None)
        tables = [] if trained else tables_of(matching, sources[1])
        asked = trained or requested_encoding(wanted, tables)
        asked = named_by_files(asked, matching.class_names)
        self.scan = scan_pairs(matching, asked, resize_masks, skip_bad, decode, scale)
        self.pairs = self.scan.pairs
        self.ids = [pair.id for pair in self.pairs]
        self.scale, self.weight_map, self.decode = scale, weight_map, decode
        self.mask_options = None if trained else wanted
        if trained:
            self.masks = match_values(self.scan, trained)
        else:
            self.masks = choose_encoding(self.scan, asked, wanted, tables)
        if weight_map and self.masks.background is None:
            raise UserError(
                'the weight map needs a background between cells, and no class counts as such. '
                'Name its value with --background, or leave the map out: --no-weight-map'
            )
        self.channels = channels_of(self.scan, channels, decode)
        self.float_images = any(image.deep for _, image, _ in self.scan.metadata)
        self.image_range = image_range
        self.sizes = [scaled_size(image.size, scale) for _, image, _ in self.scan.metadata]

    @property
    def mask_values(self) -> list[MaskValue]:
        """The mask value of each class."""
        return self.masks.values

    def notes(self) -> list[str]:
        """Return notes about the files and the masks' values, for the user."""
        notes = self.scan.notes(self.masks, self.channels)
        if self.mask_options:  # not for a trained network, whose classes are known
            found = suggest(self.scan, self.masks, self.mask_options)
            notes += [*(f'note: {suggestion}' for suggestion in found), *self.scan.hints]
        return notes

    def check_sizes(self, smallest_batch: int | None = None) -> None:
        """Raise UserError for images too small for the network, see network_limits."""
        check_sizes(self.pairs, self.sizes, self.scale, smallest_batch)

    def check_values(self) -> None:
        """Raise UserError for images whose values need an image_range, where there is none."""
        if self.image_range is None:
            check_values([(pair.image, image) for pair, image, _ in self.scan.metadata])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        mask = self.mask(index, self.sizes[index])
        item = {'image': self.image(index), 'mask': mask}
        if not self.weight_map:
            return item
        classes = mask.numpy()
        background = self.masks.background or 0
        values = np.where(
            (classes == background) | (classes == IGNORE), 0, classes.astype(np.int16) + 1
        )
        if self.masks.merges_objects:  # cells of different values
            path = self.pairs[index].mask
            stored = open_mask(path, self.decode)
            found = mask_array(resize_mask(stored, self.sizes[index]), path)
            found = pack_colours(found) if found.ndim == 3 else found
            values = np.where(values, found.astype(np.int64) + 1, 0)
        cells = label_components(values)
        apart = np.where(touching(cells), np.uint8(background), classes)  # a line between them
        border = torch.from_numpy(to_bytes(border_weights(cells * (apart != background))))
        return item | {'mask': torch.from_numpy(apart), 'border': border}

    def image(self, index: int) -> Tensor:
        """Return the image (C, H, W) of an item; raise UserError if it has changed since the scan.

        Files that change during a run would otherwise end it in the network, or be learned from
        with other values.
        """
        pair, known, _ = self.scan.metadata[index]
        image, size = read_image(
            pair.image, self.channels, self.scale, self.decode, self.image_range
        )
        if size != known.size:
            raise changed_error(pair.image, size, known.size)
        if image.is_floating_point() != known.deep:
            bits = ('8 bits', 'more than 8 bits')
            raise changed_error(pair.image, bits[not known.deep], bits[known.deep])
        return to_unit_range(image) if self.float_images else image

    def mask(self, index: int, size: tuple[int, int] | None = None) -> Tensor:
        """Return the class indices (H, W) of an item at (width, height) `size`, else the file's.

        Raises UserError as `image`.
        """
        pair, _, known = self.scan.metadata[index]
        mask = open_mask(pair.mask, self.decode)
        if picture_size(mask) != known.size:
            raise changed_error(pair.mask, picture_size(mask), known.size)
        return mask_indices(mask, self.masks, size or known.size, pair.mask)


def changed_error(path: MaskSource, found: object, expected: object) -> UserError:
    """Return the error of a file that is no longer what it was when the data were scanned.

    found, expected: a (width, height), or in words.
    """
    now, before = (
        '{} x {} pixels'.format(*what) if isinstance(what, tuple) else f'{what} a channel'
        for what in (found, expected)
    )
    return UserError(
        f'{path} has changed since the data were checked: it has {now} now, and had {before}. '
        'Put the file back, or start again; train.py continues a run with --resume.'
    )
