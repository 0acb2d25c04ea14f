"""The range of values of deep images (over 8 bits a channel): which values become 0 and 1.

Cameras fill 10, 11 or 12 of 16 bits, and floats have any unit. One range for all images of a run,
measured over its training images, keeps their brightness comparable. Checkpoints hold it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from utils.runtime.cgroups import available_cores
from utils.runtime.errors import UserError

from .arrays import ImageRange, range_error
from .decoding import PILLOW_DECODE, open_reduced, to_values
from .metadata import ImageMetadata
from .pages import Source
from .tiff import no_data_value

PERCENTILES = (0.5, 99.5)  # a few dead or saturated pixels do not count
MOST_IMAGES = 64  # to measure over; 64 TIFFs of 1918 x 1280 take 1.7 s on two cores, PNGs 9 s
MOST_PIXELS = 2**16  # of one image, from a regular grid


def range_of_data(
    images: Sequence[tuple[Source, ImageMetadata]],
    training: Sequence[int],
    channels: int,
    asked: Sequence[float] | None = None,
) -> tuple[ImageRange | None, str]:
    """Return the range of a data set's deep images, None without any, and a line that tells it.

    training: positions of the images to measure it over, unless it is `asked` for.
    """
    deep = [images[k][0] for k in training if images[k][1].deep]
    deep = deep or [path for path, image in images if image.deep]
    if not deep:
        changes_nothing = (
            'note: no image has more than 8 bits a channel: --image-range changes nothing'
        )
        return None, changes_nothing if asked else ''
    if asked:
        low, high = asked
        found: ImageRange = [(low, high)] * channels
        return found, describe_range(found, 'of --image-range')
    floats = [image for _, image in images if image.deep and image.floats]
    integers = [image for _, image in images if image.deep and not image.floats]
    if floats and integers and all(image.fits_default for image in floats):
        return None, (
            f'note: {len(integers)} images hold 16 bits and {len(floats)} hold floats from 0 to 1, '
            'which have no common range: 16 bits are divided by 65535'
        )
    deep = deep[:: -(-len(deep) // MOST_IMAGES)]
    found = measure_range(deep, channels)
    low, high = PERCENTILES
    return found, describe_range(
        found, f'{low:g} and {high:g} percentile of {len(deep)} training images'
    )


def measure_range(paths: Sequence[Source], channels: int) -> ImageRange:
    """Return the percentiles of each channel over files of more than 8 bits.

    channels: of the network. The result depends on nothing but the files. A channel whose
    percentiles are equal has its lowest and highest value, a constant one ends 1 above its value.
    """
    with ThreadPoolExecutor(min(8, available_cores())) as threads:
        samples = np.concatenate(list(threads.map(partial(_sample, channels=channels), paths)))
    found = np.percentile(samples, PERCENTILES, axis=0).T
    flat = found[:, 0] == found[:, 1]
    found[flat] = np.stack([samples.min(axis=0), samples.max(axis=0)], axis=1)[flat]
    found[found[:, 0] == found[:, 1], 1] += 1
    return [(low, high) for low, high in found.tolist()]


def _sample(path: Source, channels: int) -> np.ndarray:
    """Return values (n, C) of pixels of a file, at most MOST_PIXELS, without those of no data."""
    values = to_values(open_reduced(path, 1.0, channels)[0], channels, path)
    step = int(np.ceil(np.sqrt(values.shape[0] * values.shape[1] / MOST_PIXELS)))
    pixels = values[::step, ::step].reshape(-1, channels).astype(np.float64)
    known = (pixels != no_data_value(path)).any(axis=1)
    return pixels[known] if known.any() else pixels


def check_range_option(asked: Sequence[float] | None, decode: str) -> None:
    """Raise UserError for --image-range with the original's way of reading images."""
    if asked and decode == PILLOW_DECODE:
        raise UserError(
            'the recipe reads images as the original does, without a range of values. Leave '
            '--image-range out, or use another --recipe.'
        )


def check_values(images: Sequence[tuple[Source, ImageMetadata]]) -> None:
    """Raise UserError for the first image with values that need a range, where there is none."""
    for path, image in images:
        if image.extremes and not image.fits_default:
            raise range_error(image.extremes, image.floats, path)


def widest_range(ranges: Sequence[ImageRange]) -> ImageRange | None:
    """Return the smallest range that holds all of the ranges; None if there are none."""
    if not ranges:
        return None
    channels = zip(*ranges, strict=True)
    return [(min(low for low, _ in c), max(high for _, high in c)) for c in map(list, channels)]


def describe_range(image_range: ImageRange, origin: str) -> str:
    """Return a line for the terminal; origin: where the range is from."""
    pairs = [f'{low:g} to {high:g}' for low, high in image_range]
    alike = len(set(pairs)) == 1
    values = pairs[0] if alike else ', '.join(f'{p} (channel {k + 1})' for k, p in enumerate(pairs))
    return f'images of more than 8 bits: values that become 0 to 1, {origin}: {values}'
