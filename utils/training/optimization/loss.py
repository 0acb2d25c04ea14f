"""The training loss, cross entropy + Dice, for binary and multiclass networks.

Axis letters: B batch, C channels, H and W pixels, K classes. A network is

- binary, K = 1: logits (B, 1, H, W), the foreground's logit; classes 0 (background) and 1;
- multiclass, K >= 2: logits (B, K, H, W), one a class.

Masks are (B, H, W) class indices of any integer type; pixels of value IGNORE do not count. The
Dice coefficients are the original's (evaluation.dice).
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.evaluation.dice import EPSILON, dice_loss
from utils.masks.encoding import IGNORE
from utils.runtime.errors import UserError


class Totals(NamedTuple):
    """Sums over the masks of a step, scalars on their device."""

    weight: Tensor  # by which the cross entropy's sum is divided
    pixels: Tensor  # that count


def segmentation_loss(
    logits: Tensor,
    masks: Tensor,
    border: Tensor | None = None,
    class_weights: Tensor | None = None,
    per_class: bool = False,
    dice: bool = True,
    totals: Totals | None = None,
) -> Tensor:
    """Return cross entropy + Dice loss, a scalar, in float32 or wider.

    logits: (B, K, H, W) float. masks: (B, H, W) class indices or IGNORE.
    border: (B, H, W) float, added to the class weights (masks.weight_map). The cross entropy is
        then the weighted sum divided by the number of pixels, as in the paper's energy.
    class_weights: (K,) float, two for K = 1, on the logits' device: weights of the cross entropy,
        which is then the weighted mean.
    per_class: average the Dice loss over the classes in the masks, background included; else, as in
        the original, K = 1 has the foreground's alone, and for K >= 2 all classes share one ratio.

    totals: of all micro-batches of a step. The result is then the share of this one in the step's
        loss, whose cross entropy is that of all images in one batch. So is the Dice loss of K >= 2
        if all classes share one ratio, but for EPSILON; the others are means of the micro-batches'
        Dice losses, weighted by the pixels that count.

    Each term is the mean over the pixels that count. Autocast is off inside: sums over an image's
    pixels exceed 65,504, the largest float16.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        labels, counts, weights = _pixel_weights(masks, class_weights)
        entropy, dice_term = _terms(logits, labels, counts, per_class)
        # A sum over a 0/1 map costs no synchronisation, unlike indexing with it.
        whole = totals.weight if totals else (weights if border is None else counts).sum()
        if border is not None:
            weights = weights + border * counts
        loss = (entropy * weights).sum() / whole.clamp(min=1e-6)
        if totals:
            dice_term = dice_term * counts.sum() / totals.pixels.clamp(min=1)
        return loss + dice_term if dice else loss


def sum_totals(
    batches: Iterable[tuple[Tensor, ...]], class_weights: Tensor | None = None
) -> Totals:
    """Return the totals of segmentation_loss for micro-batches of masks and any border weights.

    class_weights: (K,) float, on the CPU unless all masks are on one device.
    """
    weight: Tensor | int = 0
    pixels: Tensor | int = 0
    for masks, *border in batches:
        if class_weights is not None:
            class_weights = class_weights.to(masks.device, non_blocking=True)
        if masks.device.type == 'cpu':  # a histogram takes a tenth of the time of a map of weights
            histogram = torch.bincount(masks.flatten(), minlength=IGNORE)[:IGNORE]
            count = weighted = histogram.sum()
            if class_weights is not None:
                weighted = (histogram[: len(class_weights)] * class_weights).sum()
        else:  # where a histogram would wait for the device
            _, counts, weights = _pixel_weights(masks, class_weights)
            count, weighted = counts.sum(), weights.sum()
        weight = weight + (count if border else weighted)
        pixels = pixels + count
    return Totals(torch.as_tensor(weight), torch.as_tensor(pixels))


def per_class_dice_loss(probabilities: Tensor, onehot: Tensor) -> Tensor:
    """Return 1 - the mean Dice over the classes that occur in `onehot`.

    probabilities, onehot: (B, K, H, W) float in [0, 1], zero in pixels that do not count.
    """
    axes = (0, 2, 3)
    truth = onehot.sum(dim=axes)
    sizes = probabilities.sum(dim=axes) + truth
    dice = 2 * (probabilities * onehot).sum(dim=axes) / sizes.clamp(min=EPSILON)  # (K,)
    present = truth > 0
    return 1 - (dice * present).sum() / present.sum().clamp(min=1)


def loss_weights(option: str | None, shares: list[float]) -> list[float] | None:
    """Return a weight for each class from --loss-weights: 'auto', 'W,W,…' or None.

    shares: each class's fraction of all pixels, in [0, 1]. 'auto' is one over the square root of
    the share, scaled so that the mean over all pixels is 1. Raises UserError for anything else.
    """
    if option is None:
        return None
    if option == 'auto':
        roots = [share**0.5 for share in shares]
        return [1 / (root * sum(roots)) if root else 0.0 for root in roots]
    try:
        weights = [float(word) for word in option.split(',')]
    except ValueError:
        weights = []
    if len(weights) != len(shares) or not all(0 <= w < float('inf') for w in weights):
        raise UserError(
            f'--loss-weights {option}: expected auto, or {len(shares)} numbers of at least 0, one '
            f'for each class, as in {",".join(["1"] * len(shares))}'
        )
    if not any(weights):
        raise UserError(f'--loss-weights {option}: at least one must be over 0')
    return weights


def _pixel_weights(masks: Tensor, class_weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return class indices int64, which pixels count, and their class weights, each (B, H, W)."""
    counts = masks != IGNORE
    labels = torch.where(counts, masks, 0).long()
    return labels, counts, counts if class_weights is None else class_weights[labels] * counts


def _terms(
    logits: Tensor, labels: Tensor, counts: Tensor, per_class: bool
) -> tuple[Tensor, Tensor]:
    """Return cross entropy (B, H, W) and Dice loss of logits (B, K, H, W)."""
    if logits.shape[1] > 1:
        entropy = F.cross_entropy(logits, labels, reduction='none')
        onehot = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
        probabilities = logits.softmax(dim=1)
    else:
        onehot = labels.unsqueeze(1).to(logits.dtype)
        entropy = F.binary_cross_entropy_with_logits(logits, onehot, reduction='none').squeeze(1)
        probabilities = logits.sigmoid()
        if per_class:  # of background and foreground
            onehot = torch.cat([1 - onehot, onehot], dim=1)
            probabilities = torch.cat([1 - probabilities, probabilities], dim=1)
    counts = counts.unsqueeze(1)  # (B, 1, H, W)
    probabilities, onehot = probabilities * counts, onehot * counts
    if per_class:
        return entropy, per_class_dice_loss(probabilities, onehot)
    return entropy, dice_loss(probabilities, onehot, multiclass=True)
