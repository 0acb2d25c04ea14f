"""Array files (.npy, .pt, .pth) to values, and values to the channels and the range of a network.

Values are (H, W, C) of the file's type. Pixels are uint8, or float32 in [0, 1] for other types. No
array file is ever unpickled. Axis letters: H and W pixels, C channels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from utils.runtime.cgroups import check_size
from utils.runtime.errors import UserError
from utils.runtime.torch_files import read_torch_file

from .pages import Source

ARRAY_SUFFIXES = {'.npy', '.pt', '.pth'}
TYPES = ('uint8', 'uint16', 'int16', 'int32', 'uint32', 'float16', 'float32', 'float64')
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of R, G and B: luma of ITU-R BT.601, as in Pillow


# The values that become 0 and 1, (low, high) of each channel of the network.
ImageRange = Sequence[tuple[float, float]]


def max_pixels() -> float:
    """Return the size limit of an image, against decompression bombs: Pillow's, 178,956,970."""
    return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float('inf')


def check_regular(path: Path) -> None:
    """Raise UserError for what is there but no file: reading a pipe would never end."""
    if path.exists() and not path.is_file():
        raise UserError(f'{path} is not a file; expected a picture. Remove it.')


def read_array(path: Path) -> np.ndarray:
    """Return the array of a file; raise UserError, naming the file, if that is not possible."""
    check_regular(path)
    try:
        array = _numpy_file(path) if path.suffix.lower() == '.npy' else _torch_file(path)
        if array.ndim < 2 or 0 in array.shape or array.shape[0] * array.shape[1] > max_pixels():
            raise ValueError(
                f'array of shape {array.shape}; expected (H, W) or (H, W, C) of 1 to '
                f'{max_pixels():,} pixels'
            )
        check_size(array.nbytes, path)  # a copy takes that, whatever the file holds
        return np.array(array)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise UserError(
            f'{path} cannot be read as a picture: {error or type(error).__name__}. Save one plain '
            'array with np.save or torch.save, or leave the file out.',
            kind='unreadable',
        ) from error


def _numpy_file(path: Path) -> np.ndarray:
    try:
        # Memory-mapped: a header that claims more than the file holds then allocates nothing.
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy parses the header as Python, which may raise anything
        raise ValueError(f'not a file of np.save: {error}') from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f'holds {type(array).__name__}, not one array')
    return array


def _torch_file(path: Path) -> np.ndarray:
    tensor = read_torch_file(path)
    if not hasattr(tensor, 'detach'):
        raise ValueError(f'holds a {type(tensor).__name__}, not a tensor')
    try:
        return tensor.detach().numpy()
    except (TypeError, RuntimeError) as error:  # bfloat16, sparse and others
        raise ValueError(f'a tensor that is no plain array: {error}') from error


def array_values(array: np.ndarray, path: Source) -> np.ndarray:
    """Return an array (H, W) or (H, W, C) as (H, W, C), bool as uint8 0 and 255, others unchanged.

    Raises UserError, naming `path`, for other types than TYPES and other shapes.
    """
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3:
        raise UserError(
            f'{path}: array of shape {array.shape}; expected one picture, (H, W) or (H, W, C)'
        )
    if array.shape[0] < 16 <= array.shape[2]:
        raise UserError(
            f'{path}: array of shape {array.shape} looks like (C, H, W); expected (H, W, C). Save '
            'np.moveaxis(array, 0, -1).'
        )
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.name not in TYPES:
        raise UserError(
            f'{path}: pixels of type {array.dtype}; expected {", ".join(TYPES)} or bool. Save one '
            'of these types.'
        )
    return array


def array_pixels(
    array: np.ndarray, path: Source, image_range: ImageRange | None = None
) -> np.ndarray:
    """Return an array as unit_pixels; raises UserError as array_values does."""
    return unit_pixels(array_values(array, path), path, image_range)


def unit_pixels(
    values: np.ndarray, path: Source, image_range: ImageRange | None = None
) -> np.ndarray:
    """Return pixels (H, W, C) of uint8 unchanged, of other types as float32 in [0, 1].

    image_range: the values that become 0 and 1, of each channel; values beyond are clipped. None is
    0 to 65535 for integers and 0 to 1 for floats, and raises UserError, naming `path`, for values
    beyond. So do NaN and infinity in any case.
    """
    if values.dtype == np.uint8:
        return values
    floats = values.dtype.kind == 'f'
    if image_range is None:
        found = extremes(values, path)
        if not fits_default(found, floats):
            raise range_error(found, floats, path)
        image_range = [(0, 1 if floats else 65535)]
    elif floats:
        check_finite(values, path)
    low, high = np.array(image_range, dtype=np.float64).T
    # float32 does not hold integers of 32 bits.
    pixels = values.astype(np.result_type(values.dtype, np.float32))
    if low.any():
        pixels -= low.astype(pixels.dtype)
    if (high - low != 1).any():
        pixels /= (high - low).astype(pixels.dtype)
    return pixels.clip(0, 1, out=pixels).astype(np.float32, copy=False)


def extremes(values: np.ndarray, path: Source) -> tuple[float, float]:
    """Return the lowest and highest value; raise UserError, naming `path`, for NaN and infinity."""
    if values.dtype.kind == 'f':
        check_finite(values, path)
    return values.min().item(), values.max().item()


def check_finite(values: np.ndarray, path: Source) -> None:
    """Raise UserError, naming `path`, if values are NaN or infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        bad = finite.size - np.count_nonzero(finite)
        raise UserError(
            f'{path}: {bad} of {finite.size} values are NaN or infinite; expected numbers. Replace '
            'them, for instance by the lowest value: np.nan_to_num in Python, gdal_fillnodata for '
            'a GeoTIFF.'
        )


def fits_default(found: Sequence[float], floats: bool) -> bool:
    """Return whether lowest and highest value need no range: 0 to 65535, floats 0 to 1."""
    low, high = found
    return low >= 0 and high <= (1 if floats else 65535)


def range_error(found: Sequence[float], floats: bool, path: Source) -> UserError:
    """Return the UserError for an image of values that need a range, where there is none."""
    low, high = found
    kind, most = ('floating-point', 1) if floats else ('integer', 65535)
    return UserError(
        f'{path}: {kind} pixels from {low:g} to {high:g}; expected 0 to {most}, because the '
        'network has no range of values. Train one with --image-range LOW,HIGH, and not with '
        '--recipe classic; or divide all files by one number.'
    )


def with_channels(values: np.ndarray, channels: int, path: Source) -> np.ndarray:
    """Return values (H, W, C) as grey (1) or RGB (3), in their own type.

    Raises UserError for other conversions.
    """
    found = values.shape[2]
    if found == channels:
        return values
    if not can_convert(found, channels):
        raise channels_error(path, found, channels)
    if channels == 3:
        return values.repeat(3, axis=2)
    if values.dtype == np.uint8:
        return np.array(Image.fromarray(values).convert('L'))[..., None]
    grey = values @ np.array(GREY_WEIGHTS, dtype=np.result_type(values.dtype, np.float32))
    return (grey.round() if values.dtype.kind in 'ui' else grey).astype(values.dtype)[..., None]


def can_convert(found: int, channels: int) -> bool:
    """Return whether an image of `found` channels can be given `channels`: only grey and RGB."""
    return found == channels or {found, channels} == {1, 3}


def channels_error(path: Source, found: int, channels: int) -> UserError:
    """Return the UserError for an image whose channels the network cannot take."""
    return UserError(
        f'{path} has {found} channel{"s" * (found != 1)}; the network takes {channels}, and only '
        f'grey (1) and RGB (3) are converted. Use images of {channels} channels, saved as .npy '
        '(H, W, C) if no image format holds them, or train with --channels.'
    )
