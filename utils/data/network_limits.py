"""Checks that data fit a network: images large enough at its scale, with channels it can take.

And classes that are there at its scale.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet import MIN_SIZE, input_side, output_side
from utils.images.arrays import can_convert, channels_error
from utils.images.decoding import DECODE_PATH, WITH_ALPHA, scaled_size
from utils.images.metadata import ImageMetadata
from utils.masks.classes import format_values
from utils.masks.encoding import MaskEncoding, load_mask
from utils.masks.metadata import merge_counts
from utils.runtime.errors import UserError, first_few

from .pairing.matching import Pair

if TYPE_CHECKING:
    from .scan import DatasetScan

SCALES = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0)  # that are proposed
MASKS_TRIED = 16  # with a class, to find a scale that keeps it
FEW_PIXELS = 100  # in all masks; such a class may be a mistake
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


def check_classes_at_scale(
    scan: 'DatasetScan', masks: MaskEncoding, scale: float, training: Sequence[int]
) -> list[str]:
    """Return notes on the classes that lose over half of their share at the scale of training.

    training: positions in the scan. Masks are resized by nearest neighbour, which can leave a thin
    line out. Raises UserError if no pixel of a class is left in all training masks together.
    """
    before = merge_counts([scan.metadata[k].mask.counts for k in training])
    after = scan.pixels_at_scale(training)
    lost: list[str] = []
    notes: list[str] = []
    for k, value in enumerate(masks.values):
        pixels, left = before.get(value, 0), after.get(value, 0)
        if not pixels:
            continue
        shares = [100 * n / sum(c.values()) for n, c in ((pixels, before), (left, after))]
        if shares[1] >= shares[0] / 2:
            continue
        text = f'class {masks.titles[k]} has {pixels} pixels ({shares[0]:.2g} %) in the training '
        text += f'masks and {left} ({shares[1]:.2g} %) at --scale {scale:g}, where masks are '
        text += 'resized by nearest neighbour; to keep them'
        larger = _scale_that_keeps(scan, masks, scale, training, k)
        (notes if left else lost).append(f'{text}: --scale {larger:g}')
        if not left and pixels <= FEW_PIXELS and not masks.names:
            ignore = ','.join(format_values([v]) for v in [*masks.ignore, value])
            lost.append(f'Or, if they are a mistake: --ignore-value {ignore}')
    if lost:
        raise UserError('\n'.join(lost))
    return [f'note: {text}' for text in notes]


def _scale_that_keeps(
    scan: 'DatasetScan', masks: MaskEncoding, scale: float, training: Sequence[int], label: int
) -> float:
    """Return the smallest larger scale at which a class keeps half of its share."""
    value = masks.values[label]
    entries = sorted(
        (scan.metadata[k] for k in training), key=lambda entry: -entry.mask.counts.get(value, 0)
    )[:MASKS_TRIED]
    wanted = sum(entry.mask.counts.get(value, 0) / sum(entry.mask.counts.values())
                 for entry in entries) / 2  # fmt: skip
    for larger in SCALES:
        if scale < larger < 1:
            sizes = [scaled_size(entry.image.size, larger) for entry in entries]
            resized = (load_mask(entry.pair.mask, masks, 1, size, scan.decode)
                       for entry, size in zip(entries, sizes, strict=True))  # fmt: skip
            if sum((mask == label).float().mean().item() for mask in resized) >= wanted:
                return larger
    return 1.0


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
        if found != channels or (metadata.mode in WITH_ALPHA and channels in (1, 3)):
            converted.append(f'{path.name} ({metadata.mode})')
    if converted:
        into = 'grey' if channels == 1 else 'RGB'
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
