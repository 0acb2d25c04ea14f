"""Masks of several files: one file an instance or a class, joined as they are read.

Axis letters: H and W pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.images.decoding import DECODE_PATH, Picture, open_picture
from utils.images.pages import Source, file_of
from utils.runtime.errors import UserError

from .values import mask_array

LOSSY = ('.jpg', '.jpeg', '.jfif')
FOREGROUND = 255  # value of the joined instances of a single class


@dataclass(frozen=True)
class JoinedMask:
    """The mask files of one image. Where they overlap, later files cover earlier ones.

    values: for each file, the value of its foreground: FOREGROUND for instances of one class, or
        the number of its class. Other pixels are 0.
    """

    paths: tuple[Source, ...]
    values: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the first file, and how many there are."""
        return f'{self.paths[0].name} (one of {len(self.paths)})'

    def __str__(self) -> str:
        return f'{self.paths[0]} (one of {len(self.paths)})'

    def open(self, decode: str = DECODE_PATH) -> np.ndarray:
        """Return the joined values (H, W) uint8; raise UserError if sizes differ."""
        joined = foreground(self.paths[0], decode).astype(np.uint8) * self.values[0]
        for path, value in zip(self.paths, self.values, strict=True):
            inside = foreground(path, decode)
            if joined.shape != inside.shape:
                raise UserError(
                    f'{path} has {inside.shape[1]} x {inside.shape[0]} pixels and '
                    f'{self.paths[0]}, of the same image, {joined.shape[1]} x {joined.shape[0]}; '
                    'expected one size. Correct or remove one.'
                )
            np.copyto(joined, value, where=inside)
        return joined


MaskSource = Source | JoinedMask


def mask_sources(mask: MaskSource) -> tuple[Source, ...]:
    """Return the pictures of a mask."""
    return mask.paths if isinstance(mask, JoinedMask) else (mask,)


def mask_files(mask: MaskSource) -> tuple[Path, ...]:
    """Return the files of a mask."""
    return tuple(map(file_of, mask_sources(mask)))


def open_mask(mask: MaskSource, decode: str = DECODE_PATH) -> Picture:
    """Open a mask; several files become one array. Raises UserError for unreadable files."""
    return mask.open(decode) if isinstance(mask, JoinedMask) else open_picture(mask, decode)


def foreground(path: Source, decode: str = DECODE_PATH) -> np.ndarray:
    """Return (H, W) bool: over half of 255 where greys are smoothed or lossy, else not 0."""
    picture = open_picture(path, decode)
    values = mask_array(picture, path)
    if values.ndim == 3:
        return values.max(axis=2) > 0
    palette = getattr(picture, 'mode', 'L') in ('P', 'PA')
    lossy = path.suffix.lower() in LOSSY or values.max() in range(128, 256)
    return np.greater(values, 127 if lossy and not palette else 0)
