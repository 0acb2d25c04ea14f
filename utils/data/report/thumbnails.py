"""Pairs read at a small size, for the page of train.py --check --report, and their measures.

Axis letters: H and W pixels.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from utils.images.arrays import ImageRange
from utils.images.resizing import load_image
from utils.masks.encoding import MaskEncoding, load_mask
from utils.masks.values import MAX_CLASSES
from utils.masks.visualize import displayable
from utils.runtime.cgroups import available_cores
from utils.runtime.console import progress
from utils.runtime.errors import UserError

from .outlines import fit, gradient, outline

if TYPE_CHECKING:
    from ..scan import DatasetScan, PairMetadata

T = TypeVar('T')
MEASURED_SIDE = 160  # longest side in pixels; outlines and edges are still found there
COARSE = (32, 32)  # of the signature by which images are compared


@dataclass(frozen=True)
class Reader:
    """How the pictures of a data set are read.

    masks: None, or one without an encoding that fits, shows each value as a class, as far as there
        are class indices. channels: None takes those of each image.
    """

    scan: 'DatasetScan'
    masks: MaskEncoding
    channels: int | None = None
    image_range: ImageRange | None = None

    def read(self, entry: 'PairMetadata', side: int) -> tuple[Image.Image, np.ndarray]:
        """Return an RGB image and its class indices (H, W) uint8, the longest side at most `side`.

        Masks of another size are stretched. Raises UserError and OSError as load_image does.
        """
        image = entry.image
        scale, channels = min(1.0, side / max(image.size)), self.channels or image.channels
        known = self.image_range
        if image.extremes and known is None and not image.fits_default:
            low, high = image.extremes
            known = [(low, max(high, low + 1))] * channels
        loaded = load_image(entry.pair.image, channels, scale, self.scan.decode, known)
        pixels = loaded.permute(1, 2, 0).numpy()[..., :3]  # of many bands, the first three
        height, width = pixels.shape[:2]
        mask = load_mask(entry.pair.mask, self.masks, 1.0, (width, height), self.scan.decode)
        return displayable(pixels, pixels), mask.numpy()


def any_encoding(scan: 'DatasetScan') -> MaskEncoding:
    """Return an encoding that shows masks of any values, for sets in which the values are wrong."""
    return MaskEncoding(scan.values()[:MAX_CLASSES], snap=True, background=0)


class Measures(NamedTuple):
    """What is measured of one pair."""

    signature: np.ndarray  # COARSE grey levels, uint8
    contrast: float  # standard deviation of the grey levels
    shape: tuple[int, int]  # H, W
    outline: np.ndarray  # (n, 2) int16 rows and columns, see outlines.outline
    fit: float  # how well the outline lies on edges of the image, see outlines.fit
    border: float  # share of the outermost pixels that are foreground


def measure(reader: Reader, entry: 'PairMetadata') -> Measures:
    """Return the measures of a pair; raise as Reader.read."""
    image, indices = reader.read(entry, MEASURED_SIDE)
    grey = image.convert('L')
    signature = np.asarray(grey.resize(COARSE, Image.Resampling.BOX))
    contrast, points = float(np.asarray(grey).std()), outline(indices)
    edges = [indices[0], indices[-1], indices[:, 0], indices[:, -1]]
    border = np.isin(np.concatenate(edges), reader.masks.scored).mean()
    fitting = fit(gradient(image), points)
    return Measures(signature, contrast, indices.shape, points, fitting, float(border))


def in_threads(work: Callable[['PairMetadata'], T], entries: Iterable['PairMetadata'], title: str
               ) -> list[T | None]:  # fmt: skip
    """Return the results of `work` on entries, None for those whose files cannot be read now."""

    def attempt(entry: 'PairMetadata') -> T | None:
        """Return the result, None for files that cannot be read."""
        try:
            return work(entry)
        except (UserError, OSError):  # changed since the scan, which has read it
            return None

    listed = list(entries)
    with ThreadPoolExecutor(min(8, available_cores())) as threads:
        return list(progress(threads.map(attempt, listed), title, len(listed), delay=2))
