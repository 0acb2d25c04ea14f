"""Metadata of image files: size, mode, channels, orientation and extreme values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from . import decoding
from .arrays import ARRAY_SUFFIXES, array_values, extremes, fits_default, range_error, read_array
from .decoding import DECODE_PATH, DEEP_MODES, PILLOW_DECODE, WITH_ALPHA, opened
from .deep_files import ORIENTATION, DeepFile

FLOATS = ('float', 'F')  # what the modes of pictures of floats contain


class ImageMetadata(NamedTuple):
    """Metadata of an image."""

    size: tuple[int, int]  # (width, height) in pixels, as decoded: upright but for PILLOW_DECODE
    mode: str  # Pillow's, the dtype of an array, or '4 x uint8' and the like of a DeepFile
    channels: int  # without alpha
    turned: bool  # as it is decoded, by its EXIF orientation
    alpha: bool = False  # whether there is an alpha channel, too
    extremes: Sequence[float] | None = None  # lowest and highest value if deep and read to its end

    @property
    def deep(self) -> bool:
        """Whether a channel has more than 8 bits, so that pixels are float32."""
        return self.extremes is not None

    @property
    def of_bands(self) -> bool:
        """Whether it is of a DeepFile."""
        return ' x ' in self.mode

    @property
    def floats(self) -> bool:
        """Whether the values are floats."""
        return any(kind in self.mode for kind in FLOATS)

    @property
    def fits_default(self) -> bool:
        """Whether the values need no range, see arrays.unit_pixels."""
        return self.extremes is None or fits_default(self.extremes, self.floats)

    def channels_as(self, channels: int, decode: str = DECODE_PATH) -> int:
        """Return the channels that a network of `channels` gets: alpha counts if it takes alpha.

        Of more than three bands of a DeepFile, a network of 3 channels gets the first three. With
        PILLOW_DECODE any picture of as many bands fits, such as a palette for one channel.
        """
        if decode == PILLOW_DECODE and decoding.BANDS.get(self.mode) == channels:
            return channels
        if channels == 3 < self.channels and self.of_bands:
            return channels
        # A palette with alpha cannot be decoded with it.
        with_alpha = self.alpha and self.mode != 'PA' and channels == self.channels + 1
        return channels if with_alpha else self.channels


def read_metadata(path: Path, decode: str = DECODE_PATH) -> ImageMetadata:
    """Return the metadata of an image; raise UserError if to_channels does not take it.

    The whole file is read, to detect truncation; a JPEG at 1/8 size, which is three times as fast.
    """
    metadata, values = _read(path, decode)
    if values is not None and values.dtype != np.uint8:
        found = extremes(values, path)
        metadata = metadata._replace(extremes=found)
        if decode == PILLOW_DECODE and not metadata.fits_default:
            raise range_error(found, metadata.floats, path)
    return metadata


def _read(path: Path, decode: str) -> tuple[ImageMetadata, np.ndarray | None]:
    """Return metadata without extremes, and the values (H, W, C) unless they have 8 bits."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        array = read_array(path)
        values = array_values(array, path)
        height, width, channels = values.shape
        return ImageMetadata((width, height), str(array.dtype), channels, False), values
    if file := decoding.find_deep(path, decode):
        return _deep_metadata(file), decoding.read_deep(file)
    with opened(path) as picture:
        size, mode = picture.size, picture.mode
        reduced = picture.draft('L', (1, 1))
        picture.load()
        size = size if reduced else picture.size  # Pillow turns a TIFF when it loads it
        turn = picture.getexif().get(ORIENTATION, 1) if decode != PILLOW_DECODE else 1
    deep = np.asarray(picture) if mode in DEEP_MODES else None
    return _metadata(path, size, mode, turn), deep


def read_header(path: Path) -> ImageMetadata:
    """Return the metadata in a file's header only. EXIF at the end of a PNG, e.g., is ignored."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return read_metadata(path)
    if file := decoding.find_deep(path):
        return _deep_metadata(file)
    with opened(path) as picture:
        # Image's own method, because that of PNG decodes the whole picture.
        turn = Image.Image.getexif(picture).get(ORIENTATION, 1)
        return _metadata(path, picture.size, picture.mode, turn)


def _metadata(path: Path, size: tuple[int, int], mode: str, turn: int) -> ImageMetadata:
    decoding.check_mode(mode, path)
    width, height = size if turn not in range(5, 9) else size[::-1]
    channels = 1 if mode in decoding.GREY_MODES else 3
    return ImageMetadata((width, height), mode, channels, turn in range(2, 9), mode in WITH_ALPHA)


def _deep_metadata(file: DeepFile) -> ImageMetadata:
    alpha = file.alpha is not None
    mode = f'{file.channels} x {file.dtype}' + ' + alpha' * alpha
    return ImageMetadata(file.size, mode, file.channels, file.turn in range(2, 9), alpha)
