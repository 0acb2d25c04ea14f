"""The preprocessing of milesial/Pytorch-UNet: Pillow resizes the completely decoded picture.

Its pixels are the original's to the last bit, which the fast path of `resizing` does not promise.
Axis letters: C channels, h and w pixels at scale.
"""

import numpy as np
from PIL import Image

from utils.runtime.errors import ScaleError

BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST


def resized(
    picture: Image.Image, scale: float, method: Image.Resampling, name: object = 'a picture'
) -> np.ndarray:
    """Return a picture at `scale` as a new array (h, w) or (h, w, C) of its mode's dtype.

    Sizes are rounded down. Pillow resizes palette and one-bit pictures by nearest neighbour,
    whatever the method. Raises ScaleError, also an AssertionError, naming `name`, if no pixel is
    left.
    """
    width, height = int(scale * picture.width), int(scale * picture.height)
    if width < 1 or height < 1:
        raise ScaleError(
            f'{name} of {picture.width} x {picture.height} at scale {scale:g} has no pixel '
            'left. Use a larger scale.'
        )
    try:
        return np.array(picture.resize((width, height), method))
    except ValueError:
        if not picture.mode.startswith('I;16'):
            raise
        # Before 10.3, Pillow resized no 16 bits, and the original stopped at them.
        return np.array(picture.convert('I').resize((width, height), method)).clip(0, 65535)


def image_array(picture: Image.Image, scale: float) -> np.ndarray:
    """Return a picture at `scale` as (C, h, w), C = 1 for grey.

    If any value is over 1, float64 and divided by 255; else of its mode's dtype and as it is.
    """
    pixels = resized(picture, scale, BICUBIC)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return pixels / 255.0 if (pixels > 1).any() else pixels
