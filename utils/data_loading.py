"""Datasets where users of the original import them; no module of this project imports this one."""

from pathlib import Path

from utils.data.dataset import SegmentationDataset
from utils.images.resizing import load_image
from utils.masks.values import value_to_json

__all__ = ['BasicDataset', 'CarvanaDataset', 'load_image']


class BasicDataset(SegmentationDataset):
    """Images and masks of two folders, as items at training scale."""

    @property
    def mask_values(self) -> list:
        """The mask value of each class, colours as lists [R, G, B]."""
        return [value_to_json(value) for value in self.masks.values]


class CarvanaDataset(BasicDataset):
    """Kaggle's Carvana set: masks named as their images plus '_mask', 16 views a car, ID_VV."""

    def __init__(self, images_dir: str | Path, mask_dir: str | Path, scale: float = 1.0) -> None:
        super().__init__(images_dir, mask_dir, scale, mask_suffix='_mask')
