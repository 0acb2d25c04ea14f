"""Which threshold of the foreground's probability scores best, all of them from one pass.

Axis letters: H and W pixels, N images, T thresholds.
"""

import torch
from torch import Tensor

from .dice_score import IGNORE
from .metrics import image_dice, ratios

THRESHOLDS = tuple(k / 20 for k in range(1, 20))  # 0.05 to 0.95


def count_thresholds(probability: Tensor, truth: Tensor) -> Tensor:
    """True positives, false positives and false negatives at each threshold, (T, 3) int64.

    probability: of the foreground, (H, W) float32; truth: (H, W) of 0, 1 and IGNORE.
    """
    bounds = torch.tensor(THRESHOLDS, device=probability.device)
    # A pixel passes as many thresholds as are below its probability.
    passed = torch.bucketize(probability.contiguous(), bounds)
    cells = torch.where(truth == IGNORE, 2, truth.long()) * (len(bounds) + 1) + passed
    pixels = torch.zeros(3 * (len(bounds) + 1), dtype=torch.int64, device=bounds.device)
    pixels.scatter_add_(0, cells.flatten(), torch.ones_like(cells).flatten())
    background, foreground, _ = pixels.view(3, -1)
    fp, tp = (part.flip(0).cumsum(0).flip(0)[1:] for part in (background, foreground))
    return torch.stack([tp, fp, foreground.sum() - tp], dim=1)


def sweep_table(counts: Tensor) -> list[dict]:
    """A row a threshold: its Dice over all pixels and as the mean over images, None for neither.

    counts: (N, T, 3).
    """
    pooled = ratios(counts.sum(dim=0))['dice']
    rows = []
    for k, threshold in enumerate(THRESHOLDS):
        one = counts[:, k : k + 1]
        # As of two classes, of which the first is the background.
        per_image = image_dice(one.expand(-1, 2, -1)).nanmean().item()
        pair = {'dice_dataset': pooled[k].item(), 'dice_per_image': per_image}
        plain = {name: None if value != value else value for name, value in pair.items()}
        rows.append({'threshold': threshold} | plain)
    return rows


def best_threshold(rows: list[dict]) -> float | None:
    """The threshold of the highest Dice over all pixels, of equals that nearest to one half."""
    scored = [row for row in rows if row['dice_dataset'] is not None]
    if not scored:
        return None
    best = max(scored, key=lambda row: (row['dice_dataset'], -abs(row['threshold'] - 0.5)))
    return best['threshold']
