"""Differences of Dice between two networks, with paired bootstrap intervals.

The images are resampled, and both networks are scored on the same resampled images. What makes an
image difficult for both is then no part of the interval.

Axis letters: N images, K classes.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..intervals import central_interval, resamples, widened_level
from ..metrics import image_dice, ratios

Interval = tuple[float, float]

AT_A_TIME = 100  # resamples, for memory: 4 MB with 5,000 images


class Difference(NamedTuple):
    """A score of two networks. None where there is nothing to score."""

    first: float | None
    other: float | None
    interval: Interval | None  # of the difference; None for fewer than two images with the score

    @property
    def value(self) -> float | None:
        """How much higher the other network's score is."""
        known = self.first is not None and self.other is not None
        return self.other - self.first if known else None  # type: ignore[operator]

    @property
    def better(self) -> int:
        """1 if the other network is better, -1 if the first one is, 0 if that may be chance.

        A difference that is zero as it is printed, in hundredths of a point, makes none better.
        """
        if not self.interval or not self.value or not round(self.value, 4):
            return 0
        low, high = self.interval
        return (low > 0) - (high < 0)


class Differences(NamedTuple):
    """The Dice of two networks; see metrics.summarize for the means."""

    per_image: Difference  # mean over the images
    dataset: Difference  # all pixels together
    classes: list[Difference]  # mean over the images, of each class


def paired_differences(first: Tensor, other: Tensor, scored: list[int]) -> Differences:
    """Return the differences of two networks on the same images.

    first, other: pixel counts (N, K, 3) of metrics.count_pixels. scored: classes of the means. An
    image without a class, true or predicted, has no Dice of it, as in metrics: it is left out of
    this network's mean, and the other one's mean has it if that predicts the class.
    """
    images, n_classes, _ = first.shape
    each = np.stack([_image_scores(counts, scored) for counts in (first, other)])  # (2, N, 1 + K)
    known = ~np.isnan(each)
    pixels = np.stack([counts.double().numpy() for counts in (first, other)])  # (2, N, K, 3)
    # Sums over resampled images are products with how often each image was drawn.
    columns = np.concatenate(
        [np.where(known, each, 0), known, pixels.reshape(2, images, -1)], axis=2
    )

    def scores(times: np.ndarray) -> np.ndarray:
        """Return Dice (2, R, 1 + K + 1) for images drawn `times` (R, N): mean, classes, pooled."""
        total, present, counts = np.split(times @ columns, [1 + n_classes, 2 + 2 * n_classes], 2)
        pooled = _pooled_dice(counts.reshape(2, len(times), n_classes, 3)[:, :, scored])
        with np.errstate(invalid='ignore'):
            return np.concatenate([total / present, pooled[..., None]], axis=2)

    found = scores(np.ones((1, images)))[:, 0]
    drawn = (np.bincount(positions, minlength=images) for positions in resamples(images))
    moved = []  # (R, 1 + K + 1)
    while part := list(islice(drawn, AT_A_TIME)):
        first_scores, other_scores = scores(np.stack(part).astype(np.float64))
        moved += list(other_scores - first_scores)
    differences = np.array(moved)
    scored_images = [*known.sum(axis=1).min(axis=0).tolist(), images]
    results = [
        Difference(_number(pair[0]), _number(pair[1]), _interval(differences[:, k], count))
        for k, (pair, count) in enumerate(zip(found.T, scored_images, strict=True))
    ]
    return Differences(results[0], results[-1], results[1:-1])


def _image_scores(counts: Tensor, scored: list[int]) -> np.ndarray:
    """Return each image's mean Dice and that of each class, (N, 1 + K); NaN without the class."""
    mean = image_dice(counts, scored)[:, None].numpy()
    return np.concatenate([mean, ratios(counts)['dice'].numpy()], axis=1)


def _pooled_dice(counts: np.ndarray) -> np.ndarray:
    """Return the mean Dice (...) over the classes that are there, of counts (..., K, 3)."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    size = 2 * tp + fp + fn
    dice = np.divide(2 * tp, size, out=np.zeros_like(size), where=size > 0)
    with np.errstate(invalid='ignore'):
        return dice.sum(axis=-1) / (size > 0).sum(axis=-1)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _interval(values: np.ndarray, images: int) -> Interval | None:
    """Return the interval of resampled differences (R,) of so many images with the score."""
    values = values[~np.isnan(values)]
    return central_interval(values, widened_level(images)) if images > 1 else None
