"""Image files to pixels, decoded in one of two ways, the same in all programs.

DECODE_PATH is the fast way. PILLOW_DECODE is that of milesial/Pytorch-UNet: the whole picture as it
is stored, whatever its EXIF orientation. `decode` parameters take one of the two.

Pixels are uint8, or float32 in [0, 1] for files of more than 8 bits a channel, see
arrays.unit_pixels. Of these and of pictures of many bands, Pillow alone keeps a part, so that
DECODE_PATH reads them by deep_files. Axis letters: H and W pixels, C channels.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from utils.runtime.cgroups import check_size
from utils.runtime.errors import UserError

from . import arrays, deep_files, tiff, volumes
from .arrays import ARRAY_SUFFIXES, ImageRange
from .deep_files import DeepFile, opened_at
from .pages import COMPRESSED, Page, Source, file_of, kind_of
from .tiff import ORIENTATION

# Recorded in checkpoints. Those of earlier versions may name the fast way in other words.
DECODE_PATH = (
    'pillow, upright, JPEG reduced as it is decoded, bicubic with antialias, uint8 or float32 in '
    '[0, 1]'
)
PILLOW_DECODE = 'pillow'  # resizing.pixels_by_pillow follows; also of files without a record
PILLOW_NOTE = (
    'note: images are read as in milesial/Pytorch-UNet: decoded and resized whole by Pillow, their '
    'EXIF orientation not applied'
)

# Files with other suffixes are ignored in folders.
IMAGE_SUFFIXES = ARRAY_SUFFIXES | {
    '.jpg', '.jpeg', '.jfif', '.png', '.gif', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm',
    '.pbm', volumes.SUFFIX,
}  # fmt: skip
IMAGE_SUFFIXES |= {suffix + COMPRESSED for suffix in IMAGE_SUFFIXES - ARRAY_SUFFIXES}

NO_PICTURES = ARRAY_SUFFIXES | {volumes.SUFFIX}  # what Pillow does not read

EIGHT_BIT_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'HSV')
DEEP_MODES = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')  # grey of more than 8 bits
GREY_MODES = ('1', 'L', 'LA', *DEEP_MODES)
BANDS = {mode: Image.getmodebands(mode) for mode in (*EIGHT_BIT_MODES, *DEEP_MODES)}
WITH_ALPHA = ('LA', 'PA', 'RGBA')
ALPHA_COUNTS = {2: 'LA', 4: 'RGBA'}  # the mode in which alpha is one of so many channels

# What Pillow raises for files that it cannot read, found by tests/images/test_odd_files.py.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

BAND_ROWS = 1024  # rows that are converted at a time
MULTI_FRAME_FORMATS = ('GIF', 'PNG', 'TIFF', 'WEBP')  # in others, further pictures are previews

warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # twice its limit is an error

Picture = Image.Image | np.ndarray


@contextmanager
def opened(source: Source) -> Iterator[ImageFile.ImageFile]:
    """Open an image file for the block, which decodes it; UserError if it is not one picture."""
    path, page = file_of(source), None
    arrays.check_regular(path)
    with readable(source):
        if isinstance(source, Page):
            page = tiff.page_at(source)
        with opened_at(path, page and page.place) as picture:
            animated = picture.format in MULTI_FRAME_FORMATS
            if page or not (animated and getattr(picture, 'is_animated', False)):
                yield picture
                return
            several = tiff.several_error(
                path, getattr(picture, 'n_frames', 'several'), f'{picture.format} pages or frames'
            )
            if picture.format != 'TIFF':
                raise several
            page = tiff.page_at(source)
            if len(page.planes) > 1:
                raise several
            if page.first:
                yield picture
                return
        with opened_at(path, page.place) as picture:
            yield picture


@contextmanager
def readable(source: Source) -> Iterator[None]:
    """Raise a UserError for whatever the block raises because of a broken file."""
    try:
        yield
    except UNREADABLE as error:
        raise _unreadable_error(source, error) from error


def find_deep(source: Source, decode: str = DECODE_PATH) -> DeepFile | None:
    """Return the header of a file that is read by deep_files, None for others and broken ones."""
    if decode == PILLOW_DECODE and not isinstance(source, Page):
        return None
    path = file_of(source)
    if kind_of(path) in NO_PICTURES:
        return None
    arrays.check_regular(path)
    with suppress(*UNREADABLE):
        file = deep_files.find(source)
        # What Pillow cannot read at all is read nevertheless.
        if decode != PILLOW_DECODE or (file and file.page and (file.page.raw or file.planes > 1)):
            return file
    return None


def read_deep(file: DeepFile, channels: int | None = None) -> np.ndarray:
    """Return deep_files.read's pixels (H, W, C); raise UserError for a broken file too."""
    width, height = file.size
    with readable(file.source):
        if width * height > arrays.max_pixels():
            raise Image.DecompressionBombError(f'{width} x {height} pixels')
        values = (file.bands + (file.alpha is not None)) * width * height
        check_size(values * np.dtype(file.dtype).itemsize, file.path)
        pixels = deep_files.read(file, channels)
        if not pixels.size:
            raise ValueError(f'it has {width} x {height} pixels of {file.channels} channels')
        return pixels


def read_values(source: Source) -> np.ndarray | None:
    """Return the array of an array file or the slice of a volume, None for other files.

    Raises UserError, naming the file, for a broken one.
    """
    path = file_of(source)
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return arrays.read_array(path)
    if volumes.is_volume(path):
        with readable(source):
            return volumes.read_slice(source)
    return None


def open_picture(source: Source, decode: str = DECODE_PATH, channels: int | None = None) -> Picture:
    """Return an image file's decoded picture, or an array; raise as `opened`.

    The picture is upright, or with PILLOW_DECODE as it is stored. channels: see open_reduced.
    """
    if decode != PILLOW_DECODE:
        return open_reduced(source, 1.0, channels)[0]
    if (array := read_values(source)) is not None:
        return array
    if file := find_deep(source, decode):
        return read_deep(file, channels)
    with opened(source) as picture:
        picture.load()
        return picture


def open_reduced(
    source: Source, scale: float, channels: int | None = None
) -> tuple[Picture, tuple[int, int], int]:
    """Return a picture of at least `scale` times the file's size; raise as `opened`.

    channels: of the network; a deep file's array has alpha only if that makes so many.
    Returns the picture, the file's (width, height) as shown, and how many times smaller the picture
    is. A JPEG is decoded at 1/2, 1/4 or 1/8 size, which is faster (half of 1918 x 1280: 6.5 instead
    of 8.3 ms) and leaves fewer pixels to resize.
    """
    if (array := read_values(source)) is not None:
        return array, picture_size(array), 1
    if file := find_deep(source):
        return read_deep(file, channels), file.size, 1
    with opened(source) as picture:
        size = picture.size
        reduced = picture.draft(None, scaled_size(size, scale))  # None unless a JPEG
        times = round(size[0] / reduced[1][2]) if reduced else 1
        picture.load()
        # As image viewers show it.
        turned = picture.getexif().get(ORIENTATION, 1) in range(2, 9)
        shown = ImageOps.exif_transpose(picture) if turned else picture
        if not reduced:
            size = shown.size
        elif shown.size != picture.size:
            size = size[1], size[0]
        return shown, size, times


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (width, height) at `scale`, rounded down as in the original, at least 1."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


@contextmanager
def pictures_of_any_size() -> Iterator[None]:
    """Lift Pillow's size limit within the block, in all threads. Use it for trusted files only."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def to_channels(
    picture: Picture, channels: int, path: Source, image_range: ImageRange | None = None
) -> np.ndarray:
    """Return the pixels (H, W, C) of a picture, C = `channels` (1 is grey, 3 RGB), writable.

    image_range: of pictures of more than 8 bits, see arrays.unit_pixels.
    """
    return arrays.unit_pixels(to_values(picture, channels, path), path, image_range)


def to_values(picture: Picture, channels: int, path: Source) -> np.ndarray:
    """Return the values (H, W, C) of a picture, in its own type, C = `channels` (1 is grey, 3 RGB).

    Alpha is dropped, except for 2 channels (grey and alpha) and 4 (RGB and alpha). Raises UserError
    for a picture of channels that cannot be converted.
    """
    if isinstance(picture, np.ndarray):
        return arrays.with_channels(arrays.array_values(picture, path), channels, path)
    check_mode(picture.mode, path)
    if picture.mode in DEEP_MODES:
        return arrays.with_channels(np.asarray(picture)[..., None], channels, path)
    wanted = ({1: 'L', 3: 'RGB'} | ALPHA_COUNTS).get(channels)
    if wanted is None or (channels in ALPHA_COUNTS and picture.mode != wanted):
        raise arrays.channels_error(path, len(picture.getbands()), channels)
    if picture.mode in ('P', 'PA') and wanted != picture.mode:
        picture = picture.convert('RGBA')  # straight to RGB, Pillow warns of some palettes
    return _converted(picture, wanted, channels)


def _converted(picture: Image.Image, mode: str, channels: int) -> np.ndarray:
    """Convert BAND_ROWS rows at a time: Pillow alone would hold three copies of a large picture."""
    width, height = picture.size
    pixels = np.empty((height, width, channels), dtype=np.uint8)
    for top in range(0, height, BAND_ROWS):
        rows = (0, top, width, min(top + BAND_ROWS, height))
        band = picture if height <= BAND_ROWS else picture.crop(rows)
        band = band if band.mode == mode else band.convert(mode)
        pixels[top : rows[3]] = np.asarray(band).reshape(-1, width, channels)
    return pixels


def check_mode(mode: str, path: Source) -> None:
    """Raise UserError, naming `path`, for a Pillow mode that to_channels does not take."""
    if mode not in EIGHT_BIT_MODES + DEEP_MODES:
        raise UserError(
            f'{path}: picture of mode {mode}; expected grey, RGB, palette or CMYK of 8 bits a '
            'channel, grey of 16 bits, or floats. Convert it first.'
        )


def _unreadable_error(path: Source, error: Exception) -> UserError:
    if isinstance(error, Image.DecompressionBombError):
        found = str(error).rstrip('.')
        return UserError(
            f'{path} is too large: {found}. Expected at most {arrays.max_pixels():,} pixels. Cut '
            'it into parts; predict.py takes any size with --tile.',
            kind='too large',
        )
    remedy = 'Replace it, or leave it out.'
    if isinstance(error, UnidentifiedImageError):  # such as HEIC, which Pillow does not read
        remedy = 'Save it as JPEG or PNG, or leave it out.'
        if path.suffix.lower() in ('.tif', '.tiff'):
            remedy = 'Save it as another kind of TIFF, or as .npy (H, W, C).'
    kind = 'truncated' if 'truncated' in str(error) else 'unreadable'
    reason = str(error) or type(error).__name__
    return UserError(f'{path} cannot be read as a picture: {reason}. {remedy}', kind)


def picture_size(picture: Picture) -> tuple[int, int]:
    """Return the (width, height) of a picture or array."""
    return picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
