"""Scores from exact pixel counts: count per image, sum, divide last.

Therefore no score depends on the batch size, the number of workers or the world size. A class that
is absent from both truth and prediction is left out (NaN or None); it does not score 1.

Axis letters: B batch, N images, H and W pixels, K classes (2 for a binary network), T thresholds.
"""

import torch
from torch import Tensor

from utils.masks.encoding import IGNORE, MaskEncoding, encoding_of
from utils.masks.values import MaskValue, value_to_json

from .dice import dice_reference

TP, FP, FN = range(3)  # positions in the last axis of counts
RATIOS = ('dice', 'iou', 'precision', 'recall')
SCORES = [f'{ratio}_{of}' for of in ('dataset', 'per_image') for ratio in RATIOS]

THRESHOLDS = tuple(k / 20 for k in range(1, 20))  # of --threshold-sweep, 0.05 to 0.95


def count_pixels(predicted: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Return (TP, FP, FN) of each image and class, (B, K, 3) int64; see confusion_matrix."""
    return class_counts(confusion_matrix(predicted, truth, n_classes))


def class_counts(confusion: Tensor) -> Tensor:
    """Return (TP, FP, FN) of each class, (..., K, 3), from confusion matrices (..., K, K)."""
    tp = confusion.diagonal(dim1=-2, dim2=-1)
    return torch.stack([tp, confusion.sum(dim=-2) - tp, confusion.sum(dim=-1) - tp], dim=-1)


def confusion_matrix(predicted: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns), (B, K, K) int64.

    predicted, truth: (B, H, W) class indices below `n_classes`. Pixels where truth is IGNORE are
    not counted. Does not synchronize with the device.
    """
    batch, k = truth.shape[0], n_classes
    # Counting ignored pixels in one more row, dropped below, is faster than selecting the others.
    rows = torch.where(truth == IGNORE, k, truth.long())
    cells = (rows * k + predicted.long()).flatten(1)  # (B, H * W)
    return histogram(cells, (k + 1) * k, copies_for(truth.device)).view(batch, k + 1, k)[:, :k]


def copies_for(device: torch.device) -> int:
    """Return how many copies of a histogram to count in.

    On a GPU, thousands of threads add at once, and those that add to one counter wait for each
    other. With 64 copies, the 32 threads of a warp, which read neighbouring pixels, never meet.
    """
    return 1 if device.type == 'cpu' else 64


def histogram(values: Tensor, size: int, copies: int) -> Tensor:
    """Count the values 0 to size - 1 in each row, (B, size) int64. values: (B, N) int64.

    copies: see copies_for; of many counters, which are rarely met twice, fewer are made.
    """
    copies = max(1, min(copies, 4096 // size))
    counts = torch.zeros(len(values), copies * size, dtype=torch.int64, device=values.device)
    if copies > 1:
        places = torch.arange(values.shape[1], device=values.device)
        values = values + places % copies * size
    counts.scatter_add_(1, values, torch.ones_like(values))
    return counts.view(len(values), copies, size).sum(dim=1)


def count_thresholds(probability: Tensor, truth: Tensor) -> Tensor:
    """Return (TP, FP, FN) of the foreground at each of THRESHOLDS, (T, 3) int64.

    probability: of the foreground, (H, W) float32. truth: (H, W) of 0, 1 and IGNORE.
    """
    bounds = torch.tensor(THRESHOLDS, device=probability.device)
    passed = torch.bucketize(probability.contiguous(), bounds)  # thresholds below the probability
    cells = torch.where(truth == IGNORE, 2, truth.long()) * (len(bounds) + 1) + passed
    size, copies = 3 * (len(bounds) + 1), copies_for(bounds.device)
    background, foreground, _ = histogram(cells.view(1, -1), size, copies).view(3, -1)
    fp, tp = (part.flip(0).cumsum(0).flip(0)[1:] for part in (background, foreground))
    return torch.stack([tp, fp, foreground.sum() - tp], dim=1)


def ratios(counts: Tensor) -> dict[str, Tensor]:
    """Return the RATIOS, each (...) float64, of counts (..., 3); 0 / 0 gives NaN."""
    tp, fp, fn = counts.double().unbind(dim=-1)
    return {
        'dice': 2 * tp / (2 * tp + fp + fn),
        'iou': tp / (tp + fp + fn),
        'precision': tp / (tp + fp),
        'recall': tp / (tp + fn),
    }


def image_dice(counts: Tensor, scored: list[int]) -> Tensor:
    """Return each image's mean Dice of the scored classes, (N,), of counts (N, K, 3)."""
    return ratios(counts)['dice'][:, scored].nanmean(dim=1)


def summarize(counts: Tensor, masks: MaskEncoding | list[MaskValue], batch_size: int = 1) -> dict:
    """Return all scores of a data set as plain numbers, None where there is nothing to score.

    counts: (N, K, 3). masks: encoding of the K classes, or only their values, class 0 being the
    background. batch_size: for `dice_reference` only.

    `dice_dataset` etc. are ratios over the pixels of all images, `dice_per_image` etc. means over
    the images; both are means over the classes except `background`, an index or None.
    `all_classes` has the means over all classes; its `iou_dataset` is the mIoU of the literature.
    `classes` has each class.
    """
    masks = encoding_of(masks)
    pooled, each = ratios(counts.sum(dim=0)), ratios(counts)  # (K,) and (N, K)
    scores: dict = {'images': len(counts), 'background': masks.background}
    scores |= _mean_scores(pooled, each, masks.scored)
    scores['all_classes'] = _mean_scores(pooled, each, [*range(counts.shape[1])])
    scores['dice_reference'] = dice_reference(counts, batch_size, masks.scored)
    values, names = masks.values, masks.names
    truth = (counts[..., TP] + counts[..., FN]).sum(dim=0).double()  # (K,)
    scores['classes'] = [
        {'class': k, 'value': value_to_json(value), 'name': names[k] if names else None}
        | {'share': mean_or_none(truth[k] / truth.sum())}
        | {f'{name}_dataset': mean_or_none(pooled[name][k]) for name in RATIOS}
        | {f'{name}_per_image': mean_or_none(each[name][:, k]) for name in RATIOS}
        for k, value in enumerate(values)
    ]
    return scores


def _mean_scores(
    pooled: dict[str, Tensor], each: dict[str, Tensor], scored: list[int]
) -> dict[str, float | None]:
    """Return the SCORES, means over the scored classes, of ratios (K,) and (N, K)."""
    dataset = {f'{name}_dataset': mean_or_none(pooled[name][scored]) for name in RATIOS}
    images = {name: each[name][:, scored].nanmean(dim=1) for name in RATIOS}
    return dataset | {f'{name}_per_image': mean_or_none(images[name]) for name in RATIOS}


def sweep_table(counts: Tensor, rand: Tensor | None = None) -> list[dict]:
    """Return a row for each of THRESHOLDS: its Dice over all pixels and its mean over images.

    counts: (N, T, 3). rand: (N, T, 2) of instances.sweep_rand, whose means are added. None where
    there is nothing to score.
    """
    pooled = ratios(counts.sum(dim=0))['dice']  # (T,)
    each = ratios(counts)['dice'].T.contiguous()  # (T, N)
    rows = [
        {'threshold': threshold, 'dice_dataset': mean_or_none(dataset)}
        | {'dice_per_image': mean_or_none(images)}
        for threshold, dataset, images in zip(THRESHOLDS, pooled, each, strict=True)
    ]
    if rand is not None:
        for row, means in zip(rows, rand.nanmean(dim=0), strict=True):
            plain, thinned = map(mean_or_none, means)
            row |= {'rand_per_image': plain, 'rand_thinned_per_image': thinned}
    return rows


def best_threshold(rows: list[dict], score: str = 'dice_dataset') -> float | None:
    """Return the threshold with the highest score, of equals the nearest to 0.5."""
    scored = [row for row in rows if row[score] is not None]
    if not scored:
        return None
    best = max(scored, key=lambda row: (row[score], -abs(row['threshold'] - 0.5)))
    return best['threshold']


def mean_or_none(values: Tensor) -> float | None:
    """Return the mean of the values that are not NaN, None if there is none."""
    mean = values.nanmean().item()
    return None if mean != mean else mean


def number(value: float | None) -> str:
    """Format a score with four digits, None as a dash."""
    return '-' if value is None else f'{value:.4f}'
