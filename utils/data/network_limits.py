"""Checks that images fit a network: large enough at its scale, with channels it can take."""

from pathlib import Path
from typing import TYPE_CHECKING

from unet import MIN_SIZE, input_side, output_side
from utils.images.arrays import can_convert, channels_error
from utils.images.decoding import DECODE_PATH, scaled_size
from utils.images.metadata import ImageMetadata
from utils.runtime.errors import UserError, first_few

from .pairing.matching import Pair

if TYPE_CHECKING:
    from .scan import DatasetScan

LARGER = 'Use a larger --scale (-s), up to 1, or larger images.'


def is_too_small(size: tuple[int, int], smallest_batch: int | None = None) -> bool:
    """Return whether an image of `size` (width, height) is too small for the network.

    smallest_batch: of training; BatchNorm needs two values a channel at the deepest level.
    """
    return min(size) < MIN_SIZE or (smallest_batch == 1 and max(size) < 2 * MIN_SIZE)


def network_size(size: tuple[int, int], scale: float, name: str) -> tuple[int, int]:
    """Return `size` (width, height) at `scale`; raise UserError, naming `name`, if too small."""
    seen = scaled_size(size, scale)
    if is_too_small(seen):
        raise UserError(
            f'{name} of {size[0]} x {size[1]} at scale {scale:g} is {seen[0]} x {seen[1]}; the '
            f'network needs {MIN_SIZE} x {MIN_SIZE} pixels. {LARGER}'
        )
    return seen


def check_sizes(
    pairs: list[Pair], sizes: list[tuple[int, int]], scale: float, smallest_batch: int | None = None
) -> None:
    """Raise UserError, naming files, for images too small for the network; `sizes` at `scale`."""
    small = [
        f'{pair.image.name} ({size[0]} x {size[1]})'
        for pair, size in zip(pairs, sizes, strict=True)
        if is_too_small(size, smallest_batch)
    ]
    if small:
        raise UserError(
            f'{len(small)} images are too small at scale {scale:g}: {first_few(small)}. The '
            f'network needs {MIN_SIZE} x {MIN_SIZE} pixels, and {2 * MIN_SIZE} in one direction to '
            f'train on one image at a time. {LARGER}'
        )


def channels_of(scan: 'DatasetScan', asked: int | None, decode: str = DECODE_PATH) -> int:
    """Return `asked`, or else the images' channels; raise UserError if some cannot be converted."""
    channels = asked or max(image.channels for _, image, _ in scan.metadata)
    files: dict[int, list[str]] = {}
    for pair, image, _ in scan.metadata:
        files.setdefault(image.channels_as(channels, decode), []).append(pair.image.name)
    if not all(can_convert(found, channels) for found in files):
        found = ', '.join(f'{len(names)} of {n} ({first_few(names)})' for n, names in files.items())
        raise UserError(
            f'images have different numbers of channels: {found}; {channels} are expected, and '
            'only grey (1) and RGB (3) are converted. Save all with the same number, or name it '
            'with --channels.'
        )
    return channels


def check_channels(
    inputs: list[tuple[Path, ImageMetadata]], channels: int, decode: str = DECODE_PATH
) -> None:
    """Raise UserError for an image whose channels the network cannot take; print conversions."""
    converted = []
    for path, metadata in inputs:
        found = metadata.channels_as(channels, decode)
        if not can_convert(found, channels):
            raise channels_error(path, found, channels)
        if (
            found != channels
            or metadata.channels > channels
            or (metadata.alpha and channels in (1, 3))
        ):
            converted.append(f'{path.name} ({metadata.mode})')
    if converted:
        into = 'grey' if channels == 1 else 'RGB, or their first 3 channels taken'
        print(f'note: {len(converted)} inputs are converted to {into}: {first_few(converted)}')


def check_variance(side: int, smallest_batch: int) -> None:
    """Raise UserError for a tile too small for BatchNorm to train on; see is_too_small."""
    if is_too_small((side, side), smallest_batch):
        raise UserError(
            f'--tile {side}: a batch of one image needs {2 * MIN_SIZE} pixels, and the last batch '
            f'of an epoch may hold one. Use --tile {2 * MIN_SIZE} or more.'
        )


def check_tile(side: int) -> None:
    """Raise UserError for a tile that is no output size of a network without padding."""
    seen = input_side(side)
    if output_side(seen) != side:
        near = [output_side(seen) - 16, output_side(seen)]
        raise UserError(
            f'--tile {side}: without padding the network gives tiles of 4, 20, 36, … pixels; the '
            f"nearest are {near[0]} and {near[1]}. Use one of them (388 is the paper's)."
        )
