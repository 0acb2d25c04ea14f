"""Tiny data sets: bright discs on a dark, noisy background."""

import numpy as np
from PIL import Image

from utils.data.pairing.matching import Matching
from utils.data.pairing.sets import match_sets
from utils.data.scan import scan_pairs
from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import data_error

NAMES = ['a', 'b c', 'v1.2', 'größe', '07', 'unlisted']  # of pictures in lists


def disc(index, size=(48, 32), values=(0, 255), colours=3):
    """Return an image and its mask as arrays of `size` (width, height). Each class is a ring."""
    rng = np.random.default_rng(index)
    width, height = size
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0.35, 0.65, 2) * (height, width)
    distance = np.hypot(y - centre[0], x - centre[1]) / min(width, height)
    classes = np.zeros((height, width), dtype=np.int64)
    for k in range(1, len(values)):
        classes[distance < 0.4 * (len(values) - k) / (len(values) - 1)] = k
    light = 40 + 180 * classes / (len(values) - 1)
    image = light[..., None] + rng.normal(0, 12, (height, width, colours))
    mask = np.array(values)[classes]
    return image.clip(0, 255).astype(np.uint8), mask


def data_set(folder, count=8, size=(48, 32), values=(0, 255), suffix='', image_suffix='.png',
             names=None, colours=3):  # fmt: skip
    """Write `count` discs into folder/imgs and folder/masks, and return the two folders."""
    images, masks = folder / 'imgs', folder / 'masks'
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(exist_ok=True)
    for index in range(count):
        name = names[index] if names else f'disc{index:02}'
        image, mask = disc(index, size, values, colours)
        Image.fromarray(image.squeeze()).save(images / f'{name}{image_suffix}', quality=95)
        Image.fromarray(mask.astype(np.uint8)).save(masks / f'{name}{suffix}.png')
    return images, masks


def pair_files(images, masks, suffix=None):
    """Return the pairs of two folders; raise UserError with all problems."""
    matching = match_sets((images, masks), suffix, None)
    if matching.problems:
        raise data_error(matching.problems)
    return matching.pairs


def scan_all(pairs):
    """Scan pairs, of whose masks nothing is known."""
    return scan_pairs(Matching(pairs, [], ''), MaskEncoding([]), False, False)


def decode_rle(text, size):
    """Return the bool mask (H, W) of 'start length …', pixels counted from 1; size: its (W, H)."""
    mask = np.zeros(size[0] * size[1], dtype=bool)
    numbers = list(map(int, text.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        mask[start - 1 : start - 1 + length] = True
    return mask.reshape(size[::-1])
