"""Dice coefficient and Dice loss with the original's numbers, soft or hard.

Published scores and checkpoints depend on these numbers; scores from exact pixel counts are in
metrics.py. Axis letters: B batch, N images, H and W pixels, K classes (2 for a binary network).
"""
# ruff: noqa: A002  `input` is the original's argument name

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.images.resizing import to_unit_range
from utils.inference.logits import logits_of
from utils.runtime.console import progress
from utils.runtime.errors import ClassIndexError

EPSILON = 1e-6


class ShapeError(ValueError, AssertionError):
    """Masks of shapes that have no Dice coefficient; the original asserts."""


def dice_coeff(
    input: Tensor, target: Tensor, reduce_batch_first: bool = False, epsilon: float = EPSILON
) -> Tensor:
    """Return the mean Dice coefficient of soft or hard masks, a scalar in [0, 1].

    input, target: (H, W) or (N, H, W), float in [0, 1], of the same shape.
    reduce_batch_first: one coefficient for all N masks together, not the mean of N coefficients.
    epsilon: added to numerator and denominator, so that two empty masks score 1.

    Raises ShapeError if the shapes differ or reduce_batch_first has no N to sum over.
    """
    if input.shape != target.shape:
        raise ShapeError(f'Dice of masks of shape {tuple(input.shape)} and {tuple(target.shape)}')
    if reduce_batch_first and input.dim() != 3:
        raise ShapeError(f'reduce_batch_first takes (N, H, W) masks, got {tuple(input.shape)}')
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


@torch.inference_mode()
def mean_batch_dice(
    network: nn.Module, batches: Iterable[dict[str, Tensor]], device: torch.device, amp: bool
) -> Tensor:
    """Return the original's validation score, a scalar in [0, 1], and set the training mode.

    It is dice_reference of the network's hard masks, but counts incomplete batches like others.
    batches: 'image' (B, C, H, W), uint8 or float in [0, 1], and 'mask' (B, H, W) class indices.
    amp: compute in the mixed precision that is torch's default for the device.
    A binary network's foreground is where its probability is over 0.5. No batch scores 0.

    Raises ClassIndexError, also an AssertionError, for other class indices than the network's.
    """
    scores = []
    network.eval()
    try:
        for batch in progress(batches, 'Evaluation', unit='batch'):
            images = batch['image'].to(device, memory_format=torch.channels_last)
            masks = batch['mask'].to(device, torch.long)
            with torch.autocast(device.type, enabled=amp):
                logits = logits_of(network, to_unit_range(images), masks.shape[1:])
            scores.append(_hard_dice(logits, masks))
    finally:
        network.train()
    return torch.stack(scores).mean() if scores else torch.zeros((), device=device)


def _hard_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean Dice of each image and class but the background, from (B, K, H, W)."""
    count = max(2, logits.shape[1])
    low, high = int(masks.min()), int(masks.max())
    if low < 0 or high >= count:
        raise ClassIndexError(
            f'masks have class indices {low} to {high}; expected 0 to {count - 1}, those of the '
            'network'
        )
    classes = logits.argmax(dim=1) if logits.shape[1] > 1 else (logits[:, 0].sigmoid() > 0.5).long()
    predicted, truth = (F.one_hot(of, count).movedim(-1, 1).float() for of in (classes, masks))
    return multiclass_dice_coeff(predicted[:, 1:], truth[:, 1:])
