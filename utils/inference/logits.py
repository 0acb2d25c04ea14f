"""Dice and the training loss, for both kinds of network.

Axis letters: B batch, C channels, H and W pixels, K classes. A network is

- binary, K = 1: logits (B, 1, H, W), the foreground's logit; classes 0 (background) and 1;
- multiclass, K >= 2: logits (B, K, H, W), one a class.

Masks are (B, H, W) class indices of any integer type; pixels of value IGNORE count for nothing.
The Dice functions give the numbers of the best-known PyTorch U-Net, because published scores and
checkpoints depend on them; scores from exact counts are in metrics.py.

Class scores of whole pictures from networks without padding: the context they lack is mirrored.

The overlap-tile strategy of https://arxiv.org/abs/1505.04597: a network without padding sees 92
pixels more on each side than it scores. Where the picture has them they are the picture's own,
beyond its border they are its mirror image. Axis letters: B batch, C channels, H and W pixels, K
classes.
"""

import torch
from torch import Tensor, nn

from utils.data.tiles import with_context


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


def logits_of(network: nn.Module, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Logits (B, K, h, w) of `size` (h, w), that of the images unless given.

    network: a UNet, or one compiled. images: (B, C, H, W) float, of that size, or, for a network
    without padding, larger by with_context.
    """
    size = size or tuple(images.shape[-2:])
    if getattr(network, 'padding', 'same') == 'same':
        return network(images)
    if tuple(images.shape[-2:]) == tuple(size):
        images = with_context(images, 0, 0, size)
    images = images.contiguous(memory_format=torch.channels_last)
    return network(images)[..., : size[0], : size[1]]
