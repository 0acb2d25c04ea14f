"""Metadata of image files: size, mode, channels, orientation and extreme values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from . import decoding, tiff, volumes
from .arrays import array_values, extremes, fits_default, range_error
from .decoding import DECODE_PATH, DEEP_MODES, PILLOW_DECODE, WITH_ALPHA, opened, readable
from .deep_files import DeepFile
from .pages import Page, Source, file_of, kind_of
from .tiff import ORIENTATION
from .tiff_header import is_single

VOLUME = 'volume'  # mode of which only the header is read
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


def read_metadata(source: Source, decode: str = DECODE_PATH) -> ImageMetadata:
    """Return the metadata of an image; raise UserError if to_channels does not take it.

    The whole file is read, to detect truncation; a JPEG at 1/8 size, which is three times as fast.
    """
    metadata, values = _read(source, decode)
    if values is not None and values.dtype != np.uint8:
        found = extremes(values, source)
        metadata = metadata._replace(extremes=found)
        if decode == PILLOW_DECODE and not metadata.fits_default:
            raise range_error(found, metadata.floats, source)
    return metadata


def _read(source: Source, decode: str) -> tuple[ImageMetadata, np.ndarray | None]:
    """Return metadata without extremes, and the values (H, W, C) unless they have 8 bits."""
    if (array := decoding.read_values(source)) is not None:
        values = array_values(array, source)
        height, width, channels = values.shape
        return ImageMetadata((width, height), str(array.dtype), channels, False), values
    if file := decoding.find_deep(source, decode):
        return _deep_metadata(file), decoding.read_deep(file)
    with opened(source) as picture:
        size, mode = picture.size, picture.mode
        reduced = picture.draft('L', (1, 1))
        picture.load()
        size = size if reduced else picture.size  # Pillow turns a TIFF when it loads it
        turn = picture.getexif().get(ORIENTATION, 1) if decode != PILLOW_DECODE else 1
    deep = np.asarray(picture) if mode in DEEP_MODES else None
    return _metadata(source, size, mode, turn), deep


def read_header(source: Source) -> ImageMetadata:
    """Return the metadata in a file's header only. EXIF at the end of a PNG, e.g., is ignored."""
    if volumes.is_volume(file_of(source)):
        with readable(source):
            shape = volumes.read_volume_header(file_of(source)).shape
        return ImageMetadata((shape[2], shape[1]), VOLUME, (*shape, 1)[3], False)
    if kind_of(file_of(source)) in decoding.NO_PICTURES:
        return read_metadata(source)
    if file := decoding.find_deep(source):
        return _deep_metadata(file)
    with opened(source) as picture:
        # Image's own method, because that of PNG decodes the whole picture.
        turn = Image.Image.getexif(picture).get(ORIENTATION, 1)
        return _metadata(source, picture.size, picture.mode, turn)


def page_count(path: Path) -> int:
    """Return how many pictures a file holds, from its header only: 1 for all but TIFFs and volumes.

    Raises UserError for a broken TIFF or volume, or a TIFF of pictures of different sizes.
    """
    if volumes.is_volume(path):
        with readable(path):
            return volumes.read_volume_header(path).shape[0]
    if not tiff.is_tiff(path):
        return 1
    with readable(path):
        return 1 if is_single(path) else len(tiff.read_tiff(path).pages)


def is_one_picture(path: Path) -> bool:
    """Return whether all pages of a TIFF may also be the channels of one picture, see tiff."""
    if not tiff.is_tiff(path):
        return False
    with readable(path):
        return not is_single(path) and tiff.read_tiff(path).joined is not None


def pages_of(path: Path) -> tuple[Source, ...]:
    """Return the pictures of a file: the path itself for a file of one, else its Pages.

    A volume has Pages even if it is a single slice. Raises UserError as page_count does.
    """
    count = page_count(path)
    if count == 1 and not volumes.is_volume(path):
        return (path,)
    return tuple(Page(path, index) for index in range(count))


def _metadata(path: Source, size: tuple[int, int], mode: str, turn: int) -> ImageMetadata:
    decoding.check_mode(mode, path)
    width, height = size if turn not in range(5, 9) else size[::-1]
    channels = 1 if mode in decoding.GREY_MODES else 3
    return ImageMetadata((width, height), mode, channels, turn in range(2, 9), mode in WITH_ALPHA)


def _deep_metadata(file: DeepFile) -> ImageMetadata:
    alpha = file.alpha is not None
    mode = f'{file.channels} x {file.dtype}' + ' + alpha' * alpha
    return ImageMetadata(file.size, mode, file.channels, file.turn in range(2, 9), alpha)
