"""Dice coefficient and Dice loss with the original's numbers, soft or hard.

Published scores and checkpoints depend on these numbers; scores from exact pixel counts are in
metrics.py. Axis letters: B batch, N images, H and W pixels, K classes (2 for a binary network).
"""
# ruff: noqa: A002  `input` is the original's argument name

from collections.abc import Sequence

from torch import Tensor

EPSILON = 1e-6


def dice_coeff(
    input: Tensor, target: Tensor, reduce_batch_first: bool = False, epsilon: float = EPSILON
) -> Tensor:
    """Return the mean Dice coefficient of soft or hard masks, a scalar in [0, 1].

    input, target: (H, W) or (N, H, W), float in [0, 1], of the same shape.
    reduce_batch_first: one coefficient for all N masks together, not the mean of N coefficients.
    epsilon: added to numerator and denominator, so that two empty masks score 1.

    Raises ValueError if the shapes differ or reduce_batch_first has no N to sum over.
    """
    if input.shape != target.shape:
        raise ValueError(f'Dice of masks of shape {tuple(input.shape)} and {tuple(target.shape)}')
    if reduce_batch_first and input.dim() != 3:
        raise ValueError(f'reduce_batch_first takes (N, H, W) masks, got {tuple(input.shape)}')
    axes = (-3, -2, -1) if reduce_batch_first else (-2, -1)
    intersection = (input * target).sum(dim=axes)
    sizes = input.sum(dim=axes) + target.sum(dim=axes)
    return ((2 * intersection + epsilon) / (sizes + epsilon)).mean()


def multiclass_dice_coeff(
    input: Tensor, target: Tensor, reduce_batch_first: bool = False, epsilon: float = EPSILON
) -> Tensor:
    """Return dice_coeff of (B, K, H, W) masks, with the classes folded into the batch.

    With reduce_batch_first and one-hot targets, this equals the mean probability of the true class.
    """
    return dice_coeff(input.flatten(0, 1), target.flatten(0, 1), reduce_batch_first, epsilon)


def dice_loss(input: Tensor, target: Tensor, multiclass: bool = False) -> Tensor:
    """Return 1 - Dice over the whole batch; masks as in multiclass_dice_coeff or dice_coeff."""
    coefficient = multiclass_dice_coeff if multiclass else dice_coeff
    return 1 - coefficient(input, target, reduce_batch_first=True)


def dice_reference(
    counts: Tensor, batch_size: int = 1, scored: Sequence[int] | None = None
) -> float | None:
    """Return the score that the original prints, for comparison with published figures.

    counts: (N, K, 3) in the order of evaluation. The coefficients of each image and scored class
    are averaged per batch, then over the batches. The last batch is dropped if it is incomplete,
    and an absent class scores 1. None if there is no complete batch.
    scored: class indices, by default, as in the original, all but class 0.
    """
    counts = counts[:, 1:] if scored is None else counts[:, scored]
    tp, fp, fn = counts.double().unbind(dim=-1)
    coefficients = (2 * tp + EPSILON) / (2 * tp + fp + fn + EPSILON)
    whole = len(counts) // batch_size * batch_size
    return coefficients[:whole].mean().item() if whole else None
