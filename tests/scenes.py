"""Masks as public data sets draw them: objects at random places, with numbers and classes."""

import numpy as np
from PIL import Image

SIZE = (64, 96)  # height, width


def voc_palette():
    """The palette of Pascal VOC, flat: the numbers' lowest bits are the colours' highest ones."""
    colours = np.zeros((256, 3), int)
    for j in range(8):
        for band in range(3):
            colours[:, band] |= (np.arange(256) >> (3 * j + band) & 1) << (7 - j)
    return colours.ravel().tolist()


def objects(seed, count, radius=(4, 7)):
    """Return numbers (H, W) of discs at random places, 1 to `count` or less, 0 elsewhere."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    numbers = np.zeros(SIZE, int)
    for number in range(1, count + 1):
        row, column = rng.uniform(6, SIZE[0] - 6), rng.uniform(6, SIZE[1] - 6)
        numbers[np.hypot(rows - row, columns - column) <= rng.uniform(*radius)] = number
    return np.unique(numbers, return_inverse=True)[1].reshape(SIZE)  # without covered ones


def organs(seed, count=5):
    """Return numbers (H, W) of discs that keep their places."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    numbers = np.zeros(SIZE, int)
    for number in range(1, count + 1):
        row, column = rng.normal([14 + 9 * number, 85 - 17 * number % 80], 1.5)
        numbers[np.hypot(rows - row, columns - column) <= 6] = number
    return numbers


def rim(values, rim_value, width=1):
    """Return the values with a rim where they change."""
    edge = np.zeros(values.shape, bool)
    edge[1:] |= values[1:] != values[:-1]
    edge[:, 1:] |= values[:, 1:] != values[:, :-1]
    for _ in range(width - 1):
        edge[1:] |= edge[:-1].copy()
        edge[:, 1:] |= edge[:, :-1].copy()
    return np.where(edge, rim_value, values)


def save_set(folder, masks, form='grey'):
    """Write masks and images of their sizes into folder/imgs and folder/masks; return the two.

    form: grey (16 bits where they are needed), deep (16 bits), palette or colour (of Pascal VOC),
    or red (numbers in the first band of RGBA).
    """
    images, labels = folder / 'imgs', folder / 'masks'
    images.mkdir(exist_ok=True)
    labels.mkdir(exist_ok=True)
    for k, mask in enumerate(masks):
        deep = form == 'deep' or mask.max() > 255
        picture = Image.fromarray(mask.astype(np.uint16 if deep else np.uint8))
        if form in ('palette', 'colour'):
            picture.putpalette(voc_palette())
        if form == 'colour':
            picture = picture.convert('RGB')
        if form == 'red':
            black = Image.new('L', picture.size)
            picture = Image.merge(
                'RGBA', (picture, black, black, Image.new('L', picture.size, 255))
            )
        picture.save(labels / f'{k:02}.png')
        noise = np.random.default_rng(k).integers(0, 256, mask.shape, dtype=np.uint8)
        Image.fromarray(noise).save(images / f'{k:02}.png')
    return images, labels
