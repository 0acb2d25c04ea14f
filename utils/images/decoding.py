"""Picture files and arrays to pixels, the one decode path of all programs.

Pixels are uint8, or float32 in [0, 1] where a file holds more than 8 bits a channel; 16-bit values
are divided by 65535, by type and never by looking at one image's values. Axis letters: H and W
pixels, C channels.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.runtime.errors import UserError

from .arrays import (
    ARRAYS,
    array_pixels,
    channels_error,
    check_unit_range,
    max_pixels,
    read_array,
    with_channels,
)

# Recorded in checkpoints.
DECODE_PATH = (
    'pillow, upright, JPEG reduced as it is decoded, bicubic with antialias, uint8 or float32 in '
    '[0, 1]'
)

EIGHT_BIT_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'HSV')

DEEP_MODES = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')

GREY_MODES = ('1', 'L', 'LA', *DEEP_MODES)

# What Pillow's readers raise for files they cannot read, as tests/test_odd_files.py finds.
UNREADABLE = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    MemoryError,
    Image.DecompressionBombError,
)

ALPHA_COUNTS = {2: 'LA', 4: 'RGBA'}  # the mode in which alpha is one of so many channels

WITH_ALPHA = ('LA', 'PA', 'RGBA')

ORIENTATION = 274  # EXIF's tag; from 5 on width and height change places

BAND_ROWS = 1024  # of a large picture that are copied at a time

MOVING = ('GIF', 'PNG', 'TIFF', 'WEBP')  # formats whose further pictures are not previews

warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # a limit says it, as an error

Picture = Image.Image | np.ndarray


def open_picture(path: Path) -> Picture:
    """The decoded picture of a file, upright by its EXIF orientation, or the array of a file.

    Raises UserError, naming the file, where it is missing, broken, or no picture.
    """
    return open_reduced(path, 1.0)[0]


def open_reduced(path: Path, scale: float) -> tuple[Picture, tuple[int, int], int]:
    """A picture that is at least as large as its file's at `scale`; raises as open_picture.

    Returns it, the file's (width, height) as it is shown, and how many times smaller it is: a JPEG
    comes at a half, a quarter or an eighth, which its blocks of frequencies give in less time than
    the whole (6.5 against 8.3 ms for a half of 1918 x 1280, and a quarter of the pixels to go on
    with).
    """
    if path.suffix.lower() in ARRAYS:
        array = read_array(path)
        return array, picture_size(array), 1
    try:
        with Image.open(path) as picture:
            check_single(picture, path)
            size, reduced = picture.size, None
            if scale < 1:
                reduced = picture.draft(None, scaled_size(size, scale))
            times = round(size[0] / reduced[1][2]) if reduced else 1
            picture.load()
            shown = upright(picture)
            if not reduced:
                size = shown.size
            elif shown.size != picture.size:  # turned by its EXIF orientation
                size = size[::-1]
            return shown, size, times
    except UNREADABLE as error:
        raise unreadable_error(path, error) from error


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(width, height) at `scale`, rounded down as the original does, but no side to nothing."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says, as viewers and labelling tools show it."""
    turn = picture.getexif().get(ORIENTATION, 1)
    return ImageOps.exif_transpose(picture) if turn in range(2, 9) else picture


@contextmanager
def pictures_of_any_size() -> Iterator[None]:
    """No picture is too large inside, in any thread: for files that are no attack."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def check_single(picture: Image.Image, path: Path) -> None:
    """Raise UserError, naming `path`, for a file of several pictures, of which one would count."""
    if picture.format in MOVING and getattr(picture, 'is_animated', False):
        raise UserError(
            f'{path} holds {picture.n_frames} pictures ({picture.format} pages or frames); '
            'expected one. Save each as a file, or all as the channels of one .npy (H, W, C).'
        )


def to_channels(picture: Picture, channels: int, path: Path) -> np.ndarray:
    """The picture as pixels (H, W, C) with C = `channels`, writable; 1 is grey, 3 RGB.

    Grey becomes RGB and RGB grey where the network needs it. Alpha is dropped, but for the
    channels 2 (grey and alpha) and 4 (RGB and alpha), where it counts as one. Raises UserError,
    naming `path`, for a picture that has not the channels or is not in the range of its type.
    """
    if isinstance(picture, np.ndarray):
        return with_channels(array_pixels(picture, path), channels, path)
    check_mode(picture.mode, path)
    if picture.mode in DEEP_MODES:
        return with_channels(deep_pixels(picture, path), channels, path)
    wanted = ({1: 'L', 3: 'RGB'} | ALPHA_COUNTS).get(channels)
    if wanted is None or (channels in ALPHA_COUNTS and picture.mode != wanted):
        raise channels_error(path, len(picture.getbands()), channels)
    if picture.mode in ('P', 'PA') and wanted != picture.mode:
        picture = picture.convert('RGBA')  # straight to RGB Pillow warns of some palettes
    return _converted(picture, wanted, channels)


def _converted(picture: Image.Image, mode: str, channels: int) -> np.ndarray:
    """(H, W, C) uint8 of a picture, converted to `mode`, writable.

    By bands of rows: Pillow's own way holds a large picture three times.
    """
    width, height = picture.size
    pixels = np.empty((height, width, channels), dtype=np.uint8)
    for top in range(0, height, BAND_ROWS):
        rows = (0, top, width, min(top + BAND_ROWS, height))
        band = picture if height <= BAND_ROWS else picture.crop(rows)
        band = band if band.mode == mode else band.convert(mode)
        pixels[top : rows[3]] = np.asarray(band).reshape(-1, width, channels)
    return pixels


def check_mode(mode: str, path: Path) -> None:
    """Raise UserError, naming `path`, for a Pillow mode that to_channels does not take."""
    if mode not in EIGHT_BIT_MODES + DEEP_MODES:
        raise UserError(
            f'{path}: picture of mode {mode}; expected grey, RGB, palette or CMYK of 8 bits a '
            'channel, grey of 16 bits, or floats. Convert it first.'
        )


def deep_pixels(picture: Image.Image, path: Path) -> np.ndarray:
    """(H, W, 1) float32 in [0, 1] of a grey picture of more than 8 bits."""
    values = np.asarray(picture)
    if picture.mode == 'F':
        return check_unit_range(values, path)[..., None]
    # Mode I is what some 16-bit files are read as; 32 bits have no range that cameras agree on.
    if values.min() < 0 or values.max() > 65535:
        raise UserError(
            f'{path}: integer pixels from {values.min()} to {values.max()}; expected 0 to 65535. '
            'Save 16 bits, or floats from 0 to 1.'
        )
    return (values.astype(np.float32) / 65535)[..., None]


def unreadable_error(path: Path, error: Exception) -> UserError:
    """Return the UserError for a file that raised `error` when it was read."""
    if isinstance(error, Image.DecompressionBombError):
        return UserError(
            f'{path} is too large: {error}. Expected at most {max_pixels():,} pixels. Cut it into '
            'parts; predict.py takes any size with --tile.',
            kind='too large',
        )
    remedy = 'Replace it, or leave it and its partner out.'
    if isinstance(error, UnidentifiedImageError) and path.suffix.lower() in ('.tif', '.tiff'):
        remedy = (
            'Of TIFFs only those of 1, 3 or 4 bands of 8 bits, or 1 of 16 bits or floats, are '
            'read; save others as .npy (H, W, C).'
        )
    kind = 'truncated' if 'truncated' in str(error) else 'unreadable'
    why = error or type(error).__name__
    return UserError(f'{path} cannot be read as a picture: {why}. {remedy}', kind)


def picture_size(picture: Picture) -> tuple[int, int]:
    """(width, height) of a picture or array."""
    return picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
