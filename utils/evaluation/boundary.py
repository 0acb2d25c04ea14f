"""Boundary F-score, from exact counts of outline pixels.

The outline of a class is its pixels with a pixel of another class among their eight neighbours; the
image border is no outline. Precision is the fraction of the predicted outline within a tolerance of
the true one, recall the opposite. 2 P R / (P + R) is averaged over images and classes: Csurka,
Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?" (BMVC 2013).
They take distances in a disc; here it is a square, which max-pooling computes on any device.

Axis letters: H and W pixels, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.masks.encoding import IGNORE


def count_boundary(
    predicted: Tensor, truth: Tensor, n_classes: int, tolerance: int, background: int | None = 0
) -> Tensor:
    """Count the outline pixels of each class, (K, 4) int64 on the same device.

    predicted, truth: (H, W) class indices below `n_classes`. Pixels where truth is IGNORE are not
    counted and make no outline. tolerance: in pixels, at least 0.

    The four counts: predicted outline near the true one, predicted outline, true outline near the
    predicted one, true outline. The row of class `background` is 0: its outline is that of the
    others.
    """
    predicted = torch.where(truth == IGNORE, IGNORE, predicted.to(truth.dtype))
    counts = torch.zeros(n_classes, 4, dtype=torch.int64, device=truth.device)
    pixels = torch.stack([predicted, truth]).flatten()
    present = torch.bincount(pixels, minlength=n_classes)[:n_classes]
    for k in present.nonzero()[:, 0].tolist():
        if k == background:
            continue
        found, true = outline(predicted, k), outline(truth, k)
        near_true, near_found = _dilate(true, tolerance), _dilate(found, tolerance)
        parts = [found & near_true, found, true & near_found, true]
        counts[k] = torch.stack([part.sum() for part in parts])
    return counts


def outline(labels: Tensor, k: int) -> Tensor:
    """Return the outline of class k, (H, W) bool, from class indices (H, W)."""
    own = labels == k
    return own & _dilate(~own & (labels != IGNORE), 1)


def boundary_scores(counts: Tensor) -> Tensor:
    """Return the boundary F-score, (...) float64, of counts (..., 4).

    NaN if neither truth nor prediction has an outline, 0 if only one has.
    """
    near_true, found, near_found, true = counts.double().unbind(dim=-1)
    precision, recall = near_true / found, near_found / true
    score = 2 * precision * recall / (precision + recall)
    return torch.where((found > 0) | (true > 0), score.nan_to_num(0), score)


def _dilate(pixels: Tensor, distance: int) -> Tensor:
    if distance == 0:
        return pixels
    wide = pixels.float()
    for _ in range(2):  # rows, then columns: 8 times as fast as pooling over a square
        wide = F.max_pool1d(wide, 2 * distance + 1, stride=1, padding=distance).T
    return wide > 0
