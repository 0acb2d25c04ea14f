"""Picture files and arrays to pixels, the one decode path of all programs.

Pixels are uint8, or float32 in [0, 1] where a file holds more than 8 bits a channel; 16-bit values
are divided by 65535, by type and never by looking at one image's values. Axis letters: H and W
pixels, C channels.

What a data set's files hold, read once before training: sizes, modes and mask values.

Read in threads and remembered in the user's cache folder by (path, size, time of change), so that
the second start reads file dates only. The data set itself is never written to.
"""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .arrays import ARRAYS, array_pixels, read_array
from .decoding import (
    ALPHA_COUNTS,
    DEEP_MODES,
    GREY_MODES,
    ORIENTATION,
    UNREADABLE,
    check_mode,
    check_single,
    deep_pixels,
    unreadable_error,
)


class ImageMetadata(NamedTuple):
    """What a picture file holds: size is (width, height) in pixels as it is shown."""

    size: tuple[int, int]
    mode: str  # Pillow's, or an array's type
    channels: int  # without alpha
    turned: bool  # by its EXIF orientation

    def channels_as(self, channels: int) -> int:
        """How many channels it has for a network of so many: alpha counts where one is missing."""
        return channels if self.mode == ALPHA_COUNTS.get(channels) else self.channels


def read_metadata(path: Path) -> ImageMetadata:
    """What a picture that was read to its end holds; raises as open_picture, and for its mode.

    A JPEG is decoded at an eighth of its size, which finds truncation in a third of the time.
    """
    if path.suffix.lower() in ARRAYS:
        array = read_array(path)
        height, width, channels = array_pixels(array, path).shape
        return ImageMetadata((width, height), str(array.dtype), channels, False)
    try:
        with Image.open(path) as picture:
            check_single(picture, path)
            size = picture.size
            mode = picture.mode
            drafted = picture.draft('L', (1, 1)) is not None
            picture.load()
            size = size if drafted else picture.size  # Pillow turns a TIFF while it loads it
            turn = picture.getexif().get(ORIENTATION, 1)
    except UNREADABLE as error:
        raise unreadable_error(path, error) from error
    check_mode(mode, path)
    if mode in DEEP_MODES:
        deep_pixels(picture, path)
    turned = turn in range(2, 9)
    size = size[::-1] if turn in range(5, 9) else size
    return ImageMetadata(size, mode, 1 if mode in GREY_MODES else 3, turned)


def read_header(path: Path) -> ImageMetadata:
    """examine_picture by the file's first bytes alone, which says nothing of the rest.

    Where they say nothing of the orientation, as in PNGs with EXIF at the end, it is upright.
    """
    if path.suffix.lower() in ARRAYS:
        return read_metadata(path)
    try:
        with Image.open(path) as picture:
            check_single(picture, path)
            size, mode = picture.size, picture.mode
            # The class's own: that of PNG would decode the whole picture.
            turn = Image.Image.getexif(picture).get(ORIENTATION, 1)
    except UNREADABLE as error:
        raise unreadable_error(path, error) from error
    check_mode(mode, path)
    size = size[::-1] if turn in range(5, 9) else size
    return ImageMetadata(size, mode, 1 if mode in GREY_MODES else 3, turn in range(2, 9))


DEEP_TYPES = ('uint16', 'float16', 'float32', 'float64', *DEEP_MODES)  # image modes over 8 bits
