"""The data sets of milesial/Pytorch-UNet, for users' own scripts.

Items are float32 images and int64 masks, with the original's values. No module of this project
imports this one: the programs use utils.data.dataset, whose uint8 items are faster.

Axis letters: C channels, h and w pixels at scale, K classes.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from utils.data.pairing.patterns import composed, group_by_stem, visible_files
from utils.images.arrays import ARRAY_SUFFIXES, read_array
from utils.images.original import NEAREST, image_array, resized
from utils.masks.values import count_values
from utils.runtime.cgroups import available_cores
from utils.runtime.console import progress
from utils.runtime.errors import (
    EmptyFolderError,
    MaskKindError,
    MissingFolderError,
    MissingMaskError,
    PairError,
    ScaleError,
    first_few,
)

__all__ = ['BasicDataset', 'CarvanaDataset', 'load_image', 'unique_mask_values']


def load_image(filename: str | Path) -> Image.Image:
    """Return a picture file as Pillow opens it, or the array of a .npy, .pt or .pth file.

    Arrays are read without running code that a file may hold. Raises Pillow's errors, and UserError
    for an array file that cannot be read.
    """
    path = Path(filename)
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return Image.fromarray(read_array(path))
    return Image.open(path)


def unique_mask_values(idx: str, mask_dir: str | Path, mask_suffix: str) -> np.ndarray:
    """Return the sorted values of the mask of image `idx`: (n,), or (n, C) for colours.

    Raises IndexError if there is no such mask, ValueError if it is neither (H, W) nor (H, W, C).
    """
    name = idx + mask_suffix
    found = group_by_stem(visible_files(Path(mask_dir))).get(composed(name))
    if not found:
        raise MissingMaskError(f'{mask_dir} has no mask {name}.*')
    return _values_in(found[0])


def _values_in(path: Path) -> np.ndarray:
    with load_image(path) as picture:
        mask = np.asarray(picture)
    if mask.ndim not in (2, 3):
        raise MaskKindError(f'{path}: mask of shape {mask.shape}; expected (H, W) or (H, W, C)')
    if mask.dtype == np.uint8 and mask.shape[2:] in ((), (3,)):  # a tenth of np.unique's time
        return np.array(list(count_values(mask)), dtype=np.uint8)
    return np.unique(mask) if mask.ndim == 2 else np.unique(mask.reshape(-1, mask.shape[2]), axis=0)


class BasicDataset(Dataset):
    """Images and masks of two folders, in the form of the original.

    images_dir, mask_dir: folders. The mask of image ID.* is ID<mask_suffix>.*. Hidden files are
        left out; every other file of images_dir is taken for an image.
    scale: factor of width and height, in (0, 1].

    Item i is {'image': float32 (C, h, w), 'mask': int64 (h, w) of class indices}, contiguous.
    `ids` are the images' names without extension. They are in the order of the file system, as in
    the original: random_split with a given seed then chooses the same images as there. Sort them
    where a split must be equal on all machines. `mask_values` has the value of each class, sorted:
    ints, or lists for colours. A grey value that an RGB mask holds is a list, too.

    Pictures are taken as Pillow decodes them, as in the original: EXIF is not applied, palette
    pictures give their indices, C is 4 for RGBA, and values are divided by 255 also if they have 16
    bits, which then exceed 1. utils.data.dataset.SegmentationDataset turns pictures upright,
    converts them to the channels that a network takes, and scales them by their type.

    Raises errors of the original's types, which are UserErrors as well: for scale AssertionError,
    for an images_dir without files RuntimeError, for an image without mask IndexError, for masks of
    grey values and of colours ValueError; and when an item is read, AssertionError for an image or
    mask of several files, or of different sizes.
    """

    def __init__(
        self,
        images_dir: str | Path,
        mask_dir: str | Path,
        scale: float = 1.0,
        mask_suffix: str = '',
    ) -> None:
        if not 0 < scale <= 1:
            raise ScaleError(f'scale {scale}: expected over 0, at most 1')
        self.images_dir, self.mask_dir = Path(images_dir), Path(mask_dir)
        self.scale, self.mask_suffix = scale, mask_suffix
        if not self.images_dir.is_dir():
            raise MissingFolderError(f'{images_dir} is no folder; expected one of images')
        images = visible_files(self.images_dir)
        if not images:
            raise EmptyFolderError(f'{images_dir} holds no files. Put your images there.')
        masks = visible_files(self.mask_dir) if self.mask_dir.is_dir() else []
        self._images, self._masks = group_by_stem(images), group_by_stem(masks)
        self.ids = [path.stem for path in images]
        without = [name for name in self.ids if composed(name + mask_suffix) not in self._masks]
        if without:
            raise MissingMaskError(
                f'{len(without)} of {len(images)} images have no mask NAME{mask_suffix}.* in '
                f'{mask_dir}: {first_few(without)}. Expected one each; it has '
                f'{first_few(path.name for path in masks) or "no files"}.'
            )
        self.mask_values = self._find_mask_values()

    def _find_mask_values(self) -> list:
        """Return the sorted values of all masks, each read once, in threads."""
        paths = [self._masks[composed(name + self.mask_suffix)][0] for name in self.ids]
        with ThreadPoolExecutor(min(8, available_cores())) as threads:
            found = threads.map(_values_in, paths)
            values = list(progress(found, 'Reading the masks', len(paths), delay=2))
        kinds = {array.shape[1:]: path.name for array, path in zip(values, paths, strict=True)}
        if len(kinds) > 1:
            raise MaskKindError(
                f'masks have different numbers of channels, as {first_few(kinds.values())}. Save '
                'all as grey, or all as RGB.'
            )
        return np.unique(np.concatenate(values), axis=0).tolist()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, idx: int) -> dict[str, Tensor]:
        name = composed(self.ids[idx])
        image_path = _only_file(name, self._images)
        mask_path = _only_file(composed(name + self.mask_suffix), self._masks)
        image, mask = load_image(image_path), load_image(mask_path)
        if image.size != mask.size:
            raise PairError(
                f'{image_path} is {image.width} x {image.height} but its mask {mask_path} is '
                f'{mask.width} x {mask.height} (width x height); expected equal sizes'
            )
        pixels = self.preprocess(self.mask_values, image, self.scale, is_mask=False)
        classes = self.preprocess(self.mask_values, mask, self.scale, is_mask=True)
        return {
            'image': torch.as_tensor(pixels).float().contiguous(),
            'mask': torch.as_tensor(classes).long().contiguous(),
        }

    @staticmethod
    def preprocess(
        mask_values: Sequence | None, pil_img: Image.Image, scale: float, is_mask: bool
    ) -> np.ndarray:
        """Return a picture at `scale`, sizes rounded down.

        A mask becomes int64 (h, w), the position of each pixel's value in `mask_values`, 0 if it is
        not there. An image becomes (C, h, w) by bicubic interpolation, float64 and divided by 255
        if any value is over 1, else as it is; `mask_values` is not used.
        Raises AssertionError (ScaleError) if no pixel is left.
        """
        if not is_mask:
            return image_array(pil_img, scale)
        found = resized(pil_img, scale, NEAREST)
        classes = np.zeros(found.shape[:2], dtype=np.int64)
        for index, value in enumerate([] if mask_values is None else mask_values):
            in_colour = found.ndim == 3 or np.ndim(value) > 0
            same = np.atleast_3d(found) == value if in_colour else found == value
            classes[same.all(axis=-1) if in_colour else same] = index
        return classes


def _only_file(name: str, files: dict[str, list[Path]]) -> Path:
    there = [path for path in files.get(name, []) if path.exists()]
    if len(there) != 1:
        found = ' and '.join(map(str, there)) or 'none'
        raise PairError(
            f'expected one file {name}.*, found {found}. Put it back, or rename the others.'
        )
    return there[0]


class CarvanaDataset(BasicDataset):
    """Kaggle's Carvana set: the mask of image ID is ID_mask."""

    def __init__(self, images_dir: str | Path, mask_dir: str | Path, scale: float = 1.0) -> None:
        super().__init__(images_dir, mask_dir, scale, mask_suffix='_mask')
