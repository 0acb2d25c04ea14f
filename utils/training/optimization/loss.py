"""The training loss, cross entropy + Dice loss, for binary and multiclass networks.

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

from utils.evaluation.dice import EPSILON
from utils.masks.encoding import IGNORE
from utils.runtime.errors import UserError

TINY = 1e-15  # keeps logarithms finite; far below the probability of a class in a pixel


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
    per_class: the Dice loss is the mean of -ln Dice over the classes in the masks, background
        included; else, as in the original, 1 - Dice, for K = 1 of the foreground alone, and for
        K >= 2 all classes share one ratio.

    totals: of all micro-batches of a step. The result is then the share of this one in the step's
        loss, whose cross entropy is that of all images in one batch. So is the Dice loss of K >= 2
        if all classes share one ratio, but for EPSILON; the others are means of the micro-batches'
        Dice losses, weighted by the pixels that count.

    Each term is the mean over the pixels that count. Autocast is off inside: sums over an image's
    pixels exceed 65,504, the largest float16.
    """
    with torch.autocast(logits.device.type, enabled=False):
        half = logits.dtype in (torch.float16, torch.bfloat16)
        # Each class's map in one piece: sums over channels last took twice as long on a CPU.
        logits = logits.to(
            torch.float32 if half else logits.dtype, memory_format=torch.contiguous_format
        )
        counts = masks != IGNORE
        pixels = counts.sum().to(logits.dtype)  # costs no synchronisation, unlike indexing
        whole, weights = pixels, None
        if class_weights is not None:
            weights = _weights(masks, class_weights)
            whole = weights.sum() if border is None else pixels
        if border is not None:
            weights = border + (1 if weights is None else weights)
        entropy, dice_term = _terms(logits, masks, counts, pixels, per_class)
        weighted = entropy if weights is None else entropy * weights
        loss = weighted.sum() / (totals.weight if totals else whole).clamp(min=1e-6)
        if totals:
            dice_term = dice_term * pixels / totals.pixels.clamp(min=1)
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
            count = weighted = (masks != IGNORE).sum()
            if class_weights is not None:
                weighted = _weights(masks, class_weights).sum()
        weight = weight + (count if border else weighted)
        pixels = pixels + count
    return Totals(torch.as_tensor(weight), torch.as_tensor(pixels))


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


def _weights(masks: Tensor, class_weights: Tensor) -> Tensor:
    """Return the class weight of each pixel (B, H, W), 0 where it does not count."""
    return F.pad(class_weights, (0, IGNORE + 1 - len(class_weights)))[masks.int()]


def _terms(
    logits: Tensor, masks: Tensor, counts: Tensor, pixels: Tensor, per_class: bool
) -> tuple[Tensor, Tensor]:
    """Return cross entropy (B, H, W), 0 where pixels do not count, and Dice loss.

    logits: (B, K, H, W). masks, counts: (B, H, W). pixels: the sum of counts.
    """
    if logits.shape[1] == 1:
        truth = (masks == 1).to(logits.dtype)
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction='none')
        probabilities = logits.sigmoid()
        if per_class:  # of background and foreground
            probabilities = torch.cat([1 - probabilities, probabilities], dim=1)
        sums = _class_sums(probabilities, probabilities, masks, counts, 0 if per_class else 1)
        entropy = entropy * counts
    else:
        log_probabilities = logits.log_softmax(dim=1)
        # Of two-dimensional masks it takes int64 alone; that costs 25 bytes a pixel.
        entropy = F.nll_loss(log_probabilities, masks.long(), ignore_index=IGNORE, reduction='none')
        of_truth = (-entropy).exp()
        if not per_class:  # one ratio for all classes, whose probabilities add up to 1
            return entropy, _dice_loss((of_truth * counts).sum(), 2 * pixels)
        sums = _class_sums(log_probabilities.exp(), of_truth.unsqueeze(1), masks, counts, 0)
    return entropy, _present_dice_loss(*sums) if per_class else _dice_loss(*sums[:2]).squeeze()


def _class_sums(
    probabilities: Tensor, of_truth: Tensor, masks: Tensor, counts: Tensor, first: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of the Dice coefficients of K classes, each (K,).

    They are: a class's probabilities in its own pixels; its probabilities in all pixels that count,
    and the number of its own; that number.

    probabilities: (B, K, H, W), of the classes from `first`. of_truth: (B, 1 or K, H, W), equal to
        them in pixels of the class. masks, counts: (B, H, W).
    """
    last = first + probabilities.shape[1]
    classes = torch.arange(first, last, dtype=masks.dtype, device=masks.device)
    own = masks.unsqueeze(1) == classes.view(-1, 1, 1)  # (B, K, H, W), a byte each
    axes = (0, 2, 3)
    truth = own.sum(dim=axes)
    both = torch.where(own, of_truth, 0).sum(dim=axes)
    return both, (probabilities * counts.unsqueeze(1)).sum(dim=axes) + truth, truth


def _dice_loss(both: Tensor, sizes: Tensor) -> Tensor:
    """Return the original's Dice loss (evaluation.dice.dice_loss) from its sums."""
    return 1 - (2 * both + EPSILON) / (sizes + EPSILON)


def _present_dice_loss(both: Tensor, sizes: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of -ln Dice over the classes that occur, from sums (K,).

    The gradient of a Dice coefficient vanishes with the probabilities of its class, and rare ones
    were never learned (dev/LOG.md). Its logarithm pulls at a class as much while that is unknown,
    however few its pixels, and as 1 - Dice does when Dice is near 1.
    """
    present = truth > 0
    losses = sizes.clamp(min=TINY).log() - (2 * both + TINY).log()
    return (losses * present).sum() / present.sum().clamp(min=1)
