"""The objects of mask files: their numbers where they have some, else connected components.

Axis letters: H and W pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.masks.components import label_components
from utils.masks.encoding import MaskEncoding, resize_mask
from utils.masks.joined import FOREGROUND, JoinedMask, MaskSource
from utils.masks.values import MaskValue, format_values, value_from_json
from utils.runtime.errors import UserError

if TYPE_CHECKING:  # keeps the chain of imports short
    from utils.data.dataset import SegmentationDataset

LARGEST_TABLE = 1 << 24  # entries; numbers beyond are sorted


def object_classes(masks: MaskEncoding, values: Sequence[MaskValue]) -> tuple[int, ...]:
    """Return the class indices of mask values, without values those of all but the background.

    Raises UserError for a value that is no class of the masks.
    """
    wanted = [value_from_json(value) for value in values]  # type: ignore[arg-type]
    unknown = [value for value in wanted if value not in masks.values]
    if unknown:
        raise UserError(
            f'--instances {format_values(unknown)}: no class of the masks; expected some of '
            f'{format_values(masks.values)}, or no value for all but the background'
        )
    return tuple(sorted({*map(masks.values.index, wanted)}) or masks.scored)


class TrueObjects:
    """The objects of a data set's masks.

    classes: class indices of the objects; all other pixels belong to none.
    """

    def __init__(self, dataset: 'SegmentationDataset', classes: tuple[int, ...]):
        self.dataset, self.classes = dataset, classes
        self.by_file = any(_files_are_objects(pair.mask) for pair in dataset.pairs)

    def label(self, position: int, indices: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return a label image of a mask, int32 (H, W) from 1, and whether the mask has numbers.

        indices: class indices (H, W) of the mask at the size to score at. An object with a number
        may have several pieces; pixels without a number are connected components of their class.
        """
        kinds = np.where(np.isin(indices, self.classes), indices + np.int64(1), 0)
        numbers = self._numbers(position, indices.shape)
        if numbers is None:
            return label_components(kinds), False
        named = renumber(np.where(kinds > 0, numbers, 0))
        others = label_components(np.where(named > 0, 0, kinds))
        labels = np.where(others > 0, others + named.max(), named)
        return labels.astype(np.int32), True

    def _numbers(self, position: int, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the number of each pixel's object, (H, W), 0 for none; None for a mask without.

        Of masks of class * divisor + object, values from the divisor on are numbers. Masks that
        --binarize 0 makes one class have numbers if they have two of them. Masks of several files
        are numbered by file, if files are objects.
        """
        dataset, size = self.dataset, (shape[1], shape[0])
        source = dataset.pairs[position].mask
        if isinstance(source, JoinedMask):
            if not self.by_file:
                return None
            return np.asarray(resize_mask(source.numbers(dataset.decode), size))
        if not dataset.masks.divisor and dataset.masks.threshold != 0:
            return None
        values = dataset.stored_values(position, size)
        if dataset.masks.divisor:
            return np.where(values >= dataset.masks.divisor, values, 0)
        numbers = values[values > 0]
        return None if not len(numbers) or (numbers == numbers[0]).all() else values


def _files_are_objects(mask: MaskSource) -> bool:
    """Whether the files of a mask are objects: of one class, or several of a class."""
    if not isinstance(mask, JoinedMask):
        return False
    return FOREGROUND in mask.values or len({*mask.values}) < len(mask.values)


def renumber(values: np.ndarray) -> np.ndarray:
    """Return integers (H, W) from 0 as numbers from 1 without gaps, in their order; 0 stays 0."""
    if values.max() >= LARGEST_TABLE:
        found, places = np.unique(values, return_inverse=True)
        return places.reshape(values.shape) + (found[0] > 0)
    there = np.zeros(int(values.max()) + 1, dtype=np.int64)
    there[values.ravel()] = 1
    there[0] = 0
    return np.cumsum(there)[values]
