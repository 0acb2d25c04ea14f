"""From logits to probabilities and class indices.

Axis letters: B batch, C channels, H and W pixels, K classes. K = 1 is a binary network: logits
(B, 1, H, W) of the foreground, classes 0 (background) and 1.

Networks without padding (--padding valid) use the overlap-tile strategy of
https://arxiv.org/abs/1505.04597: they see 92 pixels more on each side than they score. Beyond the
image's border these are mirrored.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from utils.data.context import with_context

# Computes logits (B, K, H, W) from images (B, C, H, W), float in [0, 1].
LogitsFunction = Callable[[Tensor], Tensor]


def class_probabilities(logits: Tensor) -> Tensor:
    """Return (B, K, H, W) float32 in [0, 1]: sigmoid of the logits for K = 1, softmax otherwise."""
    logits = logits.float()
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def class_indices(
    probabilities: Tensor, threshold: float = 0.5, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Return (B, H, W) class indices of `dtype` for (B, K, H, W) probabilities in [0, 1].

    For K = 1 and K = 2 a pixel is foreground if its probability is over `threshold`; of more
    classes the most probable one is taken.
    """
    if probabilities.shape[1] <= 2:
        return (probabilities[:, -1] > threshold).to(dtype)
    return probabilities.argmax(dim=1).to(dtype)


def class_indices_of_logits(
    logits: Tensor, n_classes: int, threshold: float = 0.5, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Return (B, H, W) class indices of `dtype` for (B, K, H, W) logits, as the original does.

    K is `n_classes`, but 1 for two classes: the difference of their logits. Near 0.5, probabilities
    in float32 are too coarse for such differences: over them, 3 of 10,000 pixels of an untrained
    network changed. Only for one class the original takes the sigmoid, too.
    """
    if n_classes == 1:
        return class_indices(class_probabilities(logits), threshold, dtype)
    if n_classes == 2:
        odds = threshold / (1 - threshold) if threshold < 1 else math.inf
        return (logits[:, 0] > (math.log(odds) if odds else -math.inf)).to(dtype)
    return logits.argmax(dim=1).to(dtype)


def logits_of(network: LogitsFunction, images: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Return logits (B, K, h, w) for images (B, C, H, W), float in [0, 1].

    network: a UNet, compiled or not, or a backend. size: (h, w), by default the images' own. For a
    network without padding the images may be larger than `size`, by with_context.
    """
    height, width = size or images.shape[-2:]
    if getattr(network, 'padding', 'same') == 'same':
        return network(images)
    if tuple(images.shape[-2:]) == (height, width):
        images = with_context(images, 0, 0, (height, width))
    images = images.contiguous(memory_format=torch.channels_last)
    return network(images)[..., :height, :width]
