"""Array files (.npy, .pt, .pth) to pixels, and pixels to the channels of a network.

Pixels are (H, W, C): uint8, or float32 in [0, 1] for types of more than 8 bits. No array file is
ever unpickled. Axis letters: H and W pixels, C channels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from utils.runtime.errors import UserError
from utils.runtime.torch_files import check_size, read_torch_file

ARRAY_SUFFIXES = {'.npy', '.pt', '.pth'}
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of R, G and B: luma of ITU-R BT.601, as in Pillow


def max_pixels() -> float:
    """Return the size limit of an image, against decompression bombs: Pillow's, 178,956,970."""
    return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float('inf')


def read_array(path: Path) -> np.ndarray:
    """Return the array of a file; raise UserError, naming the file, if that is not possible."""
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


def array_pixels(array: np.ndarray, path: Path) -> np.ndarray:
    """Return the pixels (H, W, C) of an array (H, W) or (H, W, C), scaled by its dtype.

    bool and uint8 become uint8 in [0, 255], uint16 is divided by 65535, floats are unchanged.
    Raises UserError, naming `path`, for other dtypes and shapes, and for floats outside [0, 1].
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
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return array.astype(np.float32) / 65535
    if array.dtype.kind != 'f':
        raise UserError(
            f'{path}: pixels of type {array.dtype}; expected uint8, uint16, bool, or floats in '
            '[0, 1]. Save one of these types.'
        )
    return check_unit_range(array.astype(np.float32), path)


def check_unit_range(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Return float pixels unchanged; raise UserError, naming `path`, if any is outside [0, 1]."""
    low, high = pixels.min(), pixels.max()  # NaN if any pixel is
    if not (low >= 0 and high <= 1):
        raise UserError(
            f'{path}: floating-point pixels from {low:g} to {high:g}; expected 0 to 1. Divide all '
            'files by the same number, the highest value of their type or camera.'
        )
    return pixels


def with_channels(pixels: np.ndarray, channels: int, path: Path) -> np.ndarray:
    """Return the pixels (H, W, C) as grey (1) or RGB (3); raise UserError for other conversions."""
    found = pixels.shape[2]
    if found == channels:
        return pixels
    if not can_convert(found, channels):
        raise channels_error(path, found, channels)
    if channels == 3:
        return pixels.repeat(3, axis=2)
    if pixels.dtype == np.uint8:
        return np.array(Image.fromarray(pixels).convert('L'))[..., None]
    return (pixels @ np.array(GREY_WEIGHTS, dtype=np.float32))[..., None]


def can_convert(found: int, channels: int) -> bool:
    """Return whether an image of `found` channels can be given `channels`: only grey and RGB."""
    return found == channels or {found, channels} == {1, 3}


def channels_error(path: Path, found: int, channels: int) -> UserError:
    """Return the UserError for an image whose channels the network cannot take."""
    return UserError(
        f'{path} has {found} channel{"s" * (found != 1)}; the network takes {channels}, and only '
        f'grey (1) and RGB (3) are converted. Use images of {channels} channels, saved as .npy '
        '(H, W, C) if no image format holds them, or train with --channels.'
    )
