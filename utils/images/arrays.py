"""Array files (.npy, .pt, .pth) to pixels, and pixels to the channels a network takes.

Pixels are (H, W, C), uint8, or float32 in [0, 1] for types of more than 8 bits. No array file is
ever unpickled. Axis letters: H and W pixels, C channels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from utils.runtime.errors import UserError
from utils.runtime.files import read_torch_file

ARRAYS = {'.npy', '.pt', '.pth'}

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as Pillow's


def max_pixels() -> float:
    """Pillow's limit, 178,956,970 unless lifted; a larger file is an attack on the memory."""
    return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float('inf')


def read_array(path: Path) -> np.ndarray:
    """The array of a file; raises UserError, naming it, where it is missing, broken or another."""
    try:
        array = _numpy_file(path) if path.suffix.lower() == '.npy' else _torch_file(path)
        if array.ndim < 2 or 0 in array.shape or array.shape[0] * array.shape[1] > max_pixels():
            raise ValueError(
                f'array of shape {array.shape}; expected (H, W) or (H, W, C) of 1 to '
                f'{max_pixels():,} pixels'
            )
        return np.array(array)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise UserError(
            f'{path} cannot be read as a picture: {error}. Save it with np.save or torch.save as '
            'one plain array, or leave it out.',
            kind='unreadable',
        ) from error


def _numpy_file(path: Path) -> np.ndarray:
    try:
        # Mapped, so that a header that promises more than the file holds costs no memory.
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # the header is read as Python text, so any may come of it
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
    """(H, W, C) pixels of an array (H, W) or (H, W, C), scaled by its type.

    bool and uint8 become uint8 in [0, 255], uint16 is divided by 65535, floats stay as they are.
    Raises UserError, naming `path`, for other types and shapes, and floats outside [0, 1].
    """
    if array.ndim == 2:
        array = array[..., None]
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
    """The float pixels themselves; UserError, naming `path`, where some are not in [0, 1]."""
    low, high = pixels.min(), pixels.max()  # NaN if there is one
    if not (low >= 0 and high <= 1):
        raise UserError(
            f'{path}: floating-point pixels from {low:g} to {high:g}; expected 0 to 1. Divide all '
            'files by the same number, the largest value their type or camera can give.'
        )
    return pixels


def with_channels(pixels: np.ndarray, channels: int, path: Path) -> np.ndarray:
    """Pixels (H, W, C) with C = `channels`: grey becomes RGB and RGB grey.

    Raises UserError, naming `path`, for any other difference.
    """
    has = pixels.shape[2]
    if has == channels:
        return pixels
    if has == 1 and channels == 3:
        return pixels.repeat(3, axis=2)
    if has == 3 and channels == 1:
        if pixels.dtype == np.uint8:
            return np.array(Image.fromarray(pixels).convert('L'))[..., None]
        return (pixels @ GREY_WEIGHTS)[..., None]
    raise channels_error(path, has, channels)


def channels_error(path: Path, has: int, channels: int) -> UserError:
    """What to say of a file whose channels the network cannot take."""
    return UserError(
        f'{path} has {has} channel{"s" * (has != 1)}; the network takes {channels}, and only grey '
        f'(1) and RGB (3) are converted. Give pictures of {channels} channels, as .npy (H, W, C) '
        'where no picture format holds them, or train with --channels.'
    )
