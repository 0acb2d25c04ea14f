"""How well outlines are met: the boundary F-score, from exact counts of outline pixels.

The outline of a class is its pixels beside one of another class, of all eight neighbours; the
picture's border is none. Precision is the part of the predicted outline that lies within a
tolerance of the true one, recall the part of the true one within it of the predicted one, and the
score is 2 P R / (P + R), as in Csurka, Larlus and Perronnin, "What is a good evaluation measure for
semantic segmentation?" (BMVC 2013), who score each image and class and take the mean. Distance is
the larger one of those in rows and columns, a square in place of their disc, so that max-pooling
finds it, on any device.

Axis letters: H and W pixels, N images, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.masks.encoding import IGNORE


def count_boundary(predicted: Tensor, truth: Tensor, n_classes: int, tolerance: int) -> Tensor:
    """Outline pixels of each class but the background, (K, 4) int64 on the same device.

    predicted, truth: (H, W) class indices below `n_classes`; where truth is IGNORE both count for
    nothing and make no outline. The four are: predicted ones that are near a true one, predicted
    ones, true ones that are near a predicted one, true ones. The background's row is 0: its
    outline is that of the others, seen from outside. tolerance: of 'near', pixels, at least 0.
    """
    predicted = torch.where(truth == IGNORE, IGNORE, predicted.to(truth.dtype))
    counts = torch.zeros(n_classes, 4, dtype=torch.int64, device=truth.device)
    pixels = torch.stack([predicted, truth]).flatten()
    present = torch.bincount(pixels, minlength=n_classes)[1:n_classes]
    for k in (present.nonzero()[:, 0] + 1).tolist():
        found, true = outline(predicted, k), outline(truth, k)
        near_true, near_found = _widened(true, tolerance), _widened(found, tolerance)
        counts[k] = torch.stack(
            [(found & near_true).sum(), found.sum(), (true & near_found).sum(), true.sum()]
        )
    return counts


def outline(labels: Tensor, k: int) -> Tensor:
    """The pixels of class k that touch another class, (H, W) bool of (H, W) class indices."""
    own = labels == k
    others = ~own & (labels != IGNORE)
    return own & _widened(others, 1)


def boundary_scores(counts: Tensor) -> Tensor:
    """The boundary F-score (…,) float64 of counts (…, 4).

    NaN where neither has an outline, 0 where one alone has.
    """
    near_true, found, near_found, true = counts.double().unbind(dim=-1)
    precision, recall = near_true / found, near_found / true
    score = 2 * precision * recall / (precision + recall)
    return torch.where((found > 0) | (true > 0), score.nan_to_num(0), score)


def _widened(pixels: Tensor, by: int) -> Tensor:
    """(H, W) bool: what is within `by` pixels of a true one, in rows and in columns."""
    if by == 0:
        return pixels
    wide = pixels.float()
    for _ in range(2):  # along the rows, then along the columns; pooling a square takes 8 x as long
        wide = F.max_pool1d(wide, 2 * by + 1, stride=1, padding=by).T
    return wide > 0
