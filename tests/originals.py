"""What the original makes of an image, as formulas, and networks on which every detail shows.

Independent of utils: Pillow's resize of the picture in its own mode to int(scale * size), division
by 255 where a value is over 1, logits resized to the picture's size, then classes.
"""

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from unet import UNet

PILLOW = tuple(map(int, PIL.__version__.split('.')[:2]))
# Before, it resized no 16 bits, at which the original stopped.
needs_deep_resize = pytest.mark.skipif(PILLOW < (10, 3), reason='needs Pillow 10.3')


def preprocessed(image, scale):
    """Return what the original feeds its network for a Pillow image: (C, h, w)."""
    size = int(scale * image.width), int(scale * image.height)
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return pixels / 255.0 if (pixels > 1).any() else pixels


def network_input(image, scale):
    return torch.from_numpy(np.array(preprocessed(image, scale)))[None].to(torch.float32)


@torch.inference_mode()
def sensitive_network(n_classes, image, scale, seed=0):
    """A random network whose logits on this image are spread about 0: half of it is each class."""
    torch.manual_seed(seed)
    images = network_input(image, scale)
    network = UNet(images.shape[1], n_classes, base_channels=4).eval()
    last, logits = network.outc.conv, network(images)[0].flatten(1)
    last.bias -= logits.median(dim=1).values
    factor = 1 / logits.std(dim=1)
    last.bias *= factor
    last.weight *= factor[:, None, None, None]
    return network


@torch.inference_mode()
def logits_at_full_size(network, image, scale):
    """Return the original's logits (K, H, W) for a Pillow image."""
    return F.interpolate(
        network(network_input(image, scale)), image.size[::-1], mode='bilinear'
    )[0]  # fmt: skip


def original_mask(logits, threshold=0.5):
    """Return the original's class indices (H, W) for its logits at full size."""
    if len(logits) > 1:
        return logits.argmax(dim=0).numpy()
    return (logits[0].sigmoid() > threshold).numpy()


def sure(logits, threshold=0.5, tolerance=1e-4):
    """Return where another order of the sums cannot change the class: bool (H, W).

    Logits of sensitive_network have a spread of 1; on different processors they differ by 1e-5.
    """
    best = torch.sort(logits, dim=0).values
    other = best[-2] if len(logits) > 1 else torch.tensor(threshold).logit()
    return ((best[-1] - other).abs() > tolerance).numpy()


def differing(found, logits, threshold=0.5, least_sure=0.99):
    """Return the share of pixels that differ from the original's, of those that are sure."""
    certain = sure(logits, threshold)
    assert certain.mean() >= least_sure
    assert found.shape == certain.shape
    return (found != original_mask(logits, threshold))[certain].mean()
