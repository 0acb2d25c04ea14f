"""Dice and the training loss, for both kinds of network.

Axis letters: B batch, C channels, H and W pixels, K classes. A network is

- binary, K = 1: logits (B, 1, H, W), the foreground's logit; classes 0 (background) and 1;
- multiclass, K >= 2: logits (B, K, H, W), one a class.

Masks are (B, H, W) class indices of any integer type; pixels of value IGNORE count for nothing.
The Dice functions give the numbers of the best-known PyTorch U-Net, because published scores and
checkpoints depend on them; scores from exact counts are in metrics.py.

Scores from exact pixel counts: count per image, add up, divide last.

So a score depends neither on the batch size nor on the number of workers or processes. A class
that is neither in the truth nor in the prediction is left out (None), not scored 1.

Axis letters: B batch, N images, H and W pixels, K classes (2 for a binary network).
"""

from torch import Tensor

EPSILON = 1e-6


def dice_coeff(
    input: Tensor,  # noqa: A002  the name users of the original pass
    target: Tensor,
    reduce_batch_first: bool = False,
    epsilon: float = EPSILON,
) -> Tensor:
    """Mean Dice coefficient of soft or hard masks, a scalar in [0, 1].

    input, target: (H, W) or (N, H, W), float in [0, 1], of one shape.
    reduce_batch_first: sum over N before the ratio (one coefficient for all masks together)
        instead of averaging N coefficients.
    epsilon: added above and below, so that two empty masks score 1.

    Raises ValueError where shapes differ or there is no N to sum over.
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
    input: Tensor,  # noqa: A002
    target: Tensor,
    reduce_batch_first: bool = False,
    epsilon: float = EPSILON,
) -> Tensor:
    """dice_coeff with the classes folded into the batch.

    input, target: (B, K, H, W), float in [0, 1]. With reduce_batch_first and one-hot targets all
    classes share one ratio, which is then the mean probability of the true class.
    """
    return dice_coeff(input.flatten(0, 1), target.flatten(0, 1), reduce_batch_first, epsilon)


def dice_loss(input: Tensor, target: Tensor, multiclass: bool = False) -> Tensor:  # noqa: A002
    """1 - Dice coefficient over the whole batch; shapes as in the coefficient's function."""
    coefficient = multiclass_dice_coeff if multiclass else dice_coeff
    return 1 - coefficient(input, target, reduce_batch_first=True)


def dice_reference(counts: Tensor, batch_size: int = 1) -> float | None:
    """The score that the best-known PyTorch U-Net prints, to compare figures with it.

    counts: (N, K, 3) in the order of evaluation. The coefficient of each image and class but the
    background is averaged over a batch, then over batches; the last, incomplete batch is dropped,
    and an absent class scores 1. None where there is no whole batch.
    """
    tp, fp, fn = counts[:, 1:].double().unbind(dim=-1)  # (N, K - 1)
    coefficients = (2 * tp + EPSILON) / (2 * tp + fp + fn + EPSILON)
    whole = len(counts) // batch_size * batch_size
    return coefficients[:whole].mean().item() if whole else None
