"""Scores from exact pixel counts: count per image, add up, divide last.

So a score depends neither on the batch size nor on the number of workers or processes. A class
that is neither in the truth nor in the prediction is left out (None), not scored 1.

Axis letters: B batch, N images, H and W pixels, K classes (2 for a binary network).
"""

import torch
from torch import Tensor

from utils.masks.encoding import IGNORE
from utils.masks.values import MaskValue, value_to_json

from .dice import dice_reference

TP, FP, FN = range(3)  # the last axis of counts

RATIOS = ('dice', 'iou', 'precision', 'recall')


def count_pixels(predicted: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """True positives, false positives and false negatives, (B, K, 3) int64; as confusion_matrix."""
    return class_counts(confusion_matrix(predicted, truth, n_classes))


def class_counts(confusion: Tensor) -> Tensor:
    """True positives, false positives and false negatives (…, K, 3) of confusions (…, K, K)."""
    tp = confusion.diagonal(dim1=-2, dim2=-1)
    return torch.stack([tp, confusion.sum(dim=-2) - tp, confusion.sum(dim=-1) - tp], dim=-1)


def confusion_matrix(predicted: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Pixels of each true class (rows) by predicted class (columns), (B, K, K) int64.

    predicted, truth: (B, H, W) class indices below `n_classes`; truth may hold IGNORE, which
    counts for nothing. Does not synchronise with the device.
    """
    batch, k = truth.shape[0], n_classes
    # One more row for ignored pixels, dropped below, costs less than selecting the others.
    rows = torch.where(truth == IGNORE, k, truth.long())
    cells = (rows * k + predicted.long()).flatten(1)  # (B, H * W)
    confusion = torch.zeros(batch, (k + 1) * k, dtype=torch.int64, device=truth.device)
    confusion.scatter_add_(1, cells, torch.ones_like(cells))
    return confusion.view(batch, k + 1, k)[:, :k]


def ratios(counts: Tensor) -> dict[str, Tensor]:
    """Dice, IoU, precision and recall, each (…,) float64, of counts (…, 3); NaN for 0 / 0."""
    tp, fp, fn = counts.double().unbind(dim=-1)
    return {
        'dice': 2 * tp / (2 * tp + fp + fn),
        'iou': tp / (tp + fp + fn),
        'precision': tp / (tp + fp),
        'recall': tp / (tp + fn),
    }


def image_dice(counts: Tensor) -> Tensor:
    """Each image's Dice, the mean over its classes but the background: (N,) float64 of (N, K, 3).

    NaN for an image that has none of these, neither in the truth nor in the prediction.
    """
    return ratios(counts)['dice'][:, 1:].nanmean(dim=1)


def summarize(
    counts: Tensor, values: list[MaskValue], batch_size: int = 1, names: list[str] | None = None
) -> dict:
    """All scores of a data set as plain numbers, None where there is nothing to score.

    counts: (N, K, 3) of N images; values, names: of the K classes, to tell them apart. The keys
    `dice_dataset` … are ratios of the pixels of all images together, `dice_per_image` … means
    over images; without a class named, both are means over the classes but the background (the
    first). `classes` has a row a class. `batch_size` is for `dice_reference` alone.
    """
    pooled, each = ratios(counts.sum(dim=0)), ratios(counts)  # (K,) and (N, K)
    scores: dict = {'images': len(counts)}
    for name in RATIOS:
        scores[f'{name}_dataset'] = _mean(pooled[name][1:])
        scores[f'{name}_per_image'] = _mean(each[name][:, 1:].nanmean(dim=1))
    scores['dice_reference'] = dice_reference(counts, batch_size)
    truth = (counts[..., TP] + counts[..., FN]).sum(dim=0).double()  # (K,)
    scores['classes'] = [
        {'class': k, 'value': value_to_json(value), 'name': names[k] if names else None}
        | {'share': _mean(truth[k : k + 1] / truth.sum())}
        | {f'{name}_dataset': _mean(pooled[name][k : k + 1]) for name in RATIOS}
        | {f'{name}_per_image': _mean(each[name][:, k]) for name in RATIOS}
        for k, value in enumerate(values)
    ]
    return scores


def image_rows(counts: Tensor, ids: list[str], names: list[str] | None = None) -> list[dict]:
    """One row an image and class: id, class, name, tp, fp, fn and the four ratios."""
    each = ratios(counts)
    return [
        {'image': name, 'class': k, 'name': names[k] if names else None}
        | dict(zip(('tp', 'fp', 'fn'), counts[n, k].tolist(), strict=True))
        | {ratio: _mean(each[ratio][n, k : k + 1]) for ratio in RATIOS}
        for n, name in enumerate(ids)
        for k in range(counts.shape[1])
    ]


def format_table(scores: dict) -> str:
    """The scores as a text table of at most 80 columns, one row a class and one for their mean."""
    head = ''.join(f'{name:>8}' for name in ('Dice', 'IoU', 'precis.', 'recall'))
    lines = [
        f'{"":14}{"all pixels together":^32}{"mean over the images":^32}',
        f'{"":14}{head}{head}',
    ]
    rows = [(c['name'] or f'value {c["value"]}', c) for c in scores['classes']]
    if len(rows) > 2:  # with two, the mean over all but the background is the foreground's row
        rows.append(('foreground', scores))
    for title, row in rows:
        names = [f'{ratio}_{of}' for of in ('dataset', 'per_image') for ratio in RATIOS]
        figures = ''.join(f'{number(row[name]):>8}' for name in names)
        lines.append(f'{title:14}{figures}' if len(title) <= 14 else f'{title}\n{"":14}{figures}')
    lines.append(
        f'dice_reference {number(scores["dice_reference"])} (at scale, batch means averaged)'
    )
    return '\n'.join(line.rstrip() for line in lines)


def _mean(values: Tensor) -> float | None:
    mean = values.nanmean().item()
    return None if mean != mean else mean


def number(value: float | None) -> str:
    """A score as text; a dash where there is nothing to score."""
    return '-' if value is None else f'{value:.4f}'
