"""Coarse to fine: the first steps of a run at half the images' size, for a quarter of the time.

The network is fully convolutional, so its weights serve any size; what differs between sizes are
BatchNorm's statistics, which are re-estimated before they are used. Figures are in dev/LOG.md.
"""

from torch import Tensor
from torch.nn import functional as F

from unet import MIN_SIZE

SMALLEST = 4 * MIN_SIZE  # pixels one way; smaller images have too little left to halve


def halved(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) float and masks (B, H, W) at half the size, rounded up.

    Images bilinear with antialias, masks every second pixel; both as they are where H or W is
    under 64, or images have context beside what is scored, of which halving would leave too little.
    """
    height, width = masks.shape[1:]
    if min(height, width) < SMALLEST or images.shape[2:] != masks.shape[1:]:
        return images, masks
    size = (-(-height // 2), -(-width // 2))
    smaller = F.interpolate(images, size, mode='bilinear', antialias=True)
    return smaller, masks[:, ::2, ::2]
