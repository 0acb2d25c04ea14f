"""Metadata of image files: size, mode, channels and orientation."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from . import decoding
from .arrays import ARRAY_SUFFIXES, array_pixels, read_array
from .decoding import DECODE_PATH, DEEP_MODES, ORIENTATION, PILLOW_DECODE, opened

DEEP_TYPES = ('uint16', 'float16', 'float32', 'float64', *DEEP_MODES)


class ImageMetadata(NamedTuple):
    """Metadata of an image."""

    size: tuple[int, int]  # (width, height) in pixels, as decoded: upright but for PILLOW_DECODE
    mode: str  # Pillow's, or the dtype of an array
    channels: int  # without alpha
    turned: bool  # as it is decoded, by its EXIF orientation

    @property
    def deep(self) -> bool:
        """Whether a channel has more than 8 bits, so that pixels are float32."""
        return self.mode in DEEP_TYPES

    def channels_as(self, channels: int, decode: str = DECODE_PATH) -> int:
        """Return the channels that a network of `channels` gets: alpha counts if it takes alpha.

        With PILLOW_DECODE any picture of as many bands fits, such as a palette for one channel.
        """
        if decode == PILLOW_DECODE and decoding.BANDS.get(self.mode) == channels:
            return channels
        return channels if self.mode == decoding.ALPHA_COUNTS.get(channels) else self.channels


def read_metadata(path: Path, decode: str = DECODE_PATH) -> ImageMetadata:
    """Return the metadata of an image; raise UserError if to_channels does not take it.

    The whole file is read, to detect truncation; a JPEG at 1/8 size, which is three times as fast.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        array = read_array(path)
        height, width, channels = array_pixels(array, path).shape
        return ImageMetadata((width, height), str(array.dtype), channels, False)
    with opened(path) as picture:
        size, mode = picture.size, picture.mode
        reduced = picture.draft('L', (1, 1))
        picture.load()
        size = size if reduced else picture.size  # Pillow turns a TIFF when it loads it
        turn = picture.getexif().get(ORIENTATION, 1) if decode != PILLOW_DECODE else 1
    if mode in DEEP_MODES:
        decoding.deep_pixels(picture, path)
    return _metadata(path, size, mode, turn)


def read_header(path: Path) -> ImageMetadata:
    """Return the metadata in a file's header only. EXIF at the end of a PNG, e.g., is ignored."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return read_metadata(path)
    with opened(path) as picture:
        # Image's own method, because that of PNG decodes the whole picture.
        turn = Image.Image.getexif(picture).get(ORIENTATION, 1)
        return _metadata(path, picture.size, picture.mode, turn)


def _metadata(path: Path, size: tuple[int, int], mode: str, turn: int) -> ImageMetadata:
    decoding.check_mode(mode, path)
    width, height = size if turn not in range(5, 9) else size[::-1]
    channels = 1 if mode in decoding.GREY_MODES else 3
    return ImageMetadata((width, height), mode, channels, turn in range(2, 9))
