"""Whether the images of a data set fit a network: their channels and sizes.

What the inputs of predict.py hold, and whether a network can take them.
"""

from pathlib import Path

from unet import MIN_SIZE
from utils.images.arrays import channels_error
from utils.images.decoding import WITH_ALPHA
from utils.images.metadata import ImageMetadata
from utils.runtime.errors import UserError, first_few

from .pairing import Pair
from .scan import DatasetScan


def check_sizes(
    pairs: list[Pair],
    sizes: list[tuple[int, int]],
    scale: float,
    smallest_batch: int | None = None,
) -> None:
    """Raise UserError, naming files, for images too small for the network at this scale.

    sizes: (width, height) at `scale`. smallest_batch: of training, where BatchNorm needs two
    values a channel at the deepest level; None for prediction.
    """
    small = [i for i, size in enumerate(sizes) if min(size) < MIN_SIZE]
    if smallest_batch == 1 and not small:
        small = [i for i, (w, h) in enumerate(sizes) if max(w, h) < 2 * MIN_SIZE]
    if small:
        names = first_few(f'{pairs[i].image.name} ({sizes[i][0]} x {sizes[i][1]})' for i in small)
        raise UserError(
            f'{len(small)} images are too small at scale {scale:g}: {names}. The network '
            f'needs {MIN_SIZE} x {MIN_SIZE} pixels, and {2 * MIN_SIZE} one way to train on '
            'one image at a time. Use a larger --scale (-s), up to 1, or larger images.'
        )


def channels_of(scan: DatasetScan, asked: int | None) -> int:
    """The channels to train with: as asked, or what the images have, RGB where some are grey.

    Raises UserError, naming files, where images have channels that cannot be converted.
    """
    channels = asked or max(fact.image.channels for fact in scan.metadata)
    files: dict[int, list[str]] = {}
    for pair, fact in zip(scan.pairs, scan.metadata, strict=True):
        files.setdefault(fact.image.channels_as(channels), []).append(pair.image.name)
    odd = [n for n in files if n != channels and {n, channels} != {1, 3}]
    if odd:
        found = ', '.join(f'{len(names)} of {n} ({first_few(names)})' for n, names in files.items())
        raise UserError(
            f'images have different numbers of channels: {found}; {channels} are expected, and '
            'only grey (1) and RGB (3) are converted. Save all with the same number, or name it '
            'with --channels.'
        )
    return channels


def check_channels(inputs: list[tuple[Path, ImageMetadata]], channels: int) -> None:
    """Raise UserError for a picture whose channels the network cannot take; say of conversions."""
    converted = []
    for path, fact in inputs:
        has = fact.channels_as(channels)
        if has != channels and {has, channels} != {1, 3}:
            raise channels_error(path, has, channels)
        if has != channels or (fact.mode in WITH_ALPHA and channels in (1, 3)):
            converted.append(f'{path.name} ({fact.mode})')
    if converted:
        into = 'grey' if channels == 1 else 'RGB'
        print(f'note: {len(converted)} inputs are taken as {into}: {first_few(converted)}')
