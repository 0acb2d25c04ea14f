"""Dice and the training loss, for both kinds of network.

Axis letters: B batch, C channels, H and W pixels, K classes. A network is

- binary, K = 1: logits (B, 1, H, W), the foreground's logit; classes 0 (background) and 1;
- multiclass, K >= 2: logits (B, K, H, W), one a class.

Masks are (B, H, W) class indices of any integer type; pixels of value IGNORE count for nothing.
The Dice functions give the numbers of the best-known PyTorch U-Net, because published scores and
checkpoints depend on them; scores from exact counts are in metrics.py.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255  # label of padding and of pixels nobody has labelled
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


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy + Dice loss, a scalar, in float32 or wider whatever the logits' type.

    logits: (B, K, H, W) float; masks: (B, H, W) class indices or IGNORE. Each term is the mean
    over the pixels that count. Autocast is off inside: the sums over a picture's pixels pass
    the 65,504 that half precision can hold.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        counts = masks != IGNORE
        labels = torch.where(counts, masks, 0).long()
        if logits.shape[1] == 1:
            entropy, dice = _binary_terms(logits.squeeze(1), labels, counts)
        else:
            entropy, dice = _multiclass_terms(logits, labels, counts)
        # A sum over a 0/1 map costs no synchronisation, unlike indexing with it.
        return (entropy * counts).sum() / counts.sum().clamp(min=1) + dice


def _binary_terms(logits: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy (B, H, W) and Dice loss of foreground logits (B, H, W)."""
    foreground = labels.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, foreground, reduction='none')
    return entropy, dice_loss(logits.sigmoid() * counts, foreground)


def _multiclass_terms(logits: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy (B, H, W) and Dice loss of class logits (B, K, H, W)."""
    entropy = F.cross_entropy(logits, labels, reduction='none')
    onehot = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    counts = counts.unsqueeze(1)  # (B, 1, H, W)
    return entropy, dice_loss(logits.softmax(dim=1) * counts, onehot * counts, multiclass=True)


def class_probabilities(logits: Tensor) -> Tensor:
    """(B, K, H, W) float32 in [0, 1] from logits: the sigmoid for K = 1, the softmax for more."""
    logits = logits.float()
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def class_indices(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """(B, H, W) int64 class indices from (B, K, H, W) probabilities in [0, 1].

    threshold: the probability that a pixel must pass to be foreground; it acts for K = 1 and
        K = 2, where there is one. With more classes the most probable one is taken.
    """
    if probabilities.shape[1] <= 2:
        return (probabilities[:, -1] > threshold).long()
    return probabilities.argmax(dim=1)
