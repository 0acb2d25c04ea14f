"""Picture files and arrays as Pillow pictures, the one decode path of all programs."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import UserError

# Recorded in checkpoints.
DECODE_PATH = 'pillow, JPEG reduced as it is decoded, bicubic with antialias, uint8'
EIGHT_BIT_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'HSV', 'LAB')
UNREADABLE = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)


def open_picture(path: Path) -> Image.Image:
    """The decoded picture of a file, or of a uint8 array file (.npy, .pt, .pth).

    Raises UserError, naming the file, where it is missing, broken, or no picture.
    """
    return open_reduced(path, 1.0)[0]


def open_reduced(path: Path, scale: float) -> tuple[Image.Image, tuple[int, int], int]:
    """A picture that is at least as large as its file's at `scale`; raises as open_picture.

    Returns it, the file's (width, height), and how many times smaller it is: a JPEG comes at a
    half, a quarter or an eighth, which its blocks of frequencies give in less time than the whole
    (6.5 against 8.3 ms for a half of 1918 x 1280, and a quarter of the pixels to go on with).
    """
    try:
        if path.suffix.lower() in ('.npy', '.pt', '.pth'):
            picture = _array_picture(path)
            return picture, picture.size, 1
        picture = Image.open(path)
        size, times = picture.size, 1
        if scale < 1:
            reduced = picture.draft(None, scaled_size(size, scale))
            times = round(size[0] / reduced[1][2]) if reduced else 1
        picture.load()
    except UNREADABLE as error:
        raise UserError(f'{path} cannot be read as a picture: {error}') from error
    return picture, size, times


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(width, height) at `scale`, rounded down as the original does, but no side to nothing."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def examine_picture(path: Path) -> tuple[tuple[int, int], str]:
    """((width, height), mode) of a picture that was read to its end; raises as open_picture.

    A JPEG is decoded at an eighth of its size, which finds what is broken in a third of the time.
    """
    if path.suffix.lower() in ('.npy', '.pt', '.pth'):
        picture = open_picture(path)
        return picture.size, picture.mode
    try:
        with Image.open(path) as picture:
            facts = picture.size, picture.mode
            picture.draft('L', (1, 1))
            picture.load()
            return facts
    except UNREADABLE as error:
        raise UserError(f'{path} cannot be read as a picture: {error}') from error


def to_channels(picture: Image.Image, channels: int, path: Path) -> np.ndarray:
    """The picture as (H, W, C) uint8 with 1 (grey) or 3 (RGB) channels, writable.

    Grey becomes RGB and RGB grey where the network needs it; alpha is dropped. Raises UserError,
    naming `path`, for a depth of more than 8 bits, which a conversion would silently cut.
    """
    check_mode(picture.mode, path)
    wanted = 'L' if channels == 1 else 'RGB'
    array = np.array(picture if picture.mode == wanted else picture.convert(wanted))
    return array.reshape(*array.shape[:2], channels)


def check_mode(mode: str, path: Path) -> None:
    """Raise UserError, naming `path`, for a Pillow mode that to_channels does not take."""
    if mode not in EIGHT_BIT_MODES:
        raise UserError(
            f'{path}: picture of mode {mode}; expected 8 bits a channel (grey, RGB, palette or '
            'CMYK). Convert it first.'
        )


def read_torch_file(path: Path) -> object:
    """What torch.save wrote, on the CPU, without running code from the file.

    Raises ValueError for anything else.
    """
    import torch  # here, because pictures need no torch

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    # The reader interprets whatever bytes it is given, so any exception may come of them.
    except Exception as error:
        raise ValueError(f'not a file of torch.save: {type(error).__name__}') from error


def _array_picture(path: Path) -> Image.Image:
    """Raises ValueError for an array that is no (H, W) or (H, W, 3) uint8 picture."""
    if path.suffix.lower() == '.npy':
        array = np.load(path, allow_pickle=False)
    else:
        tensor = read_torch_file(path)
        if not hasattr(tensor, 'numpy'):
            raise ValueError(f'holds a {type(tensor).__name__}, not a tensor')
        array = tensor.numpy()
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise ValueError(
            f'array of shape {array.shape} and type {array.dtype}; expected (H, W) or '
            '(H, W, 3) uint8'
        )
    return Image.fromarray(array)
