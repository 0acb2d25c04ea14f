"""Pictures to look at: overlays of masks on images, and sheets of samples.

Axis letters: C channels, H and W pixels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from utils.images.decoding import DEEP_MODES, Picture

from .encoding import IGNORE, class_colour

SHEET_WIDTH = 320  # pixels of one picture on a sample sheet

MARGIN = 8

# Told apart by the colour-blind too (Okabe and Ito's colours); black is background, rightly so.
ERROR_COLOURS = {
    'right': (200, 200, 200), 'too much': (230, 159, 0), 'missed': (0, 114, 255),
    'another class': (204, 121, 167), 'ignored': (64, 64, 64),
}  # fmt: skip


def colour_mask(indices: np.ndarray) -> np.ndarray:
    """Class indices (H, W) as colours (H, W, 3) uint8: black background, white foreground.

    With more than two classes each has a colour of its own; IGNORE is dark grey.
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    classes = range(256) if ((indices > 1) & (indices != IGNORE)).any() else (0,)
    for index in classes:
        table[index] = class_colour(index)
    if len(classes) == 1:
        table[1] = 255
    table[IGNORE] = 64
    return table[indices]


def displayable(picture: Picture, pixels: np.ndarray) -> Image.Image:
    """An RGB picture to look at: the file's own where it is one of 8 bits, else its pixels.

    pixels: (H, W, C) uint8, or float in [0, 1]; of other than three channels the first is grey.
    """
    if isinstance(picture, Image.Image) and picture.mode not in DEEP_MODES:
        mode = 'RGBA' if picture.mode in ('P', 'PA') else 'RGB'  # Pillow warns of some palettes
        return picture.convert(mode).convert('RGB')
    if pixels.dtype != np.uint8:
        pixels = (pixels * 255).round().astype(np.uint8)
    shown = pixels if pixels.shape[2] == 3 else pixels[..., :1].repeat(3, axis=2)
    return Image.fromarray(shown)


def overlay(image: Image.Image, indices: np.ndarray, opacity: float = 0.5) -> Image.Image:
    """The image with every class but 0 tinted and outlined; indices (H, W) of the image's size."""
    pixels = np.asarray(image.convert('RGB')).astype(np.float32)
    colours = np.array([class_colour(k) for k in range(256)], dtype=np.float32)[indices]
    tinted = (indices > 0)[..., None] * opacity
    blend = pixels * (1 - tinted) + colours * tinted
    edges = np.zeros(indices.shape, dtype=bool)
    edges[1:] |= indices[1:] != indices[:-1]
    edges[:, 1:] |= indices[:, 1:] != indices[:, :-1]
    blend[edges] = (255, 255, 0)
    return Image.fromarray(blend.round().astype(np.uint8))


def error_map(truth: np.ndarray, predicted: np.ndarray) -> Image.Image:
    """Where a prediction is right and how it is wrong, in ERROR_COLOURS.

    truth, predicted: (H, W) class indices; truth may hold IGNORE.
    """
    colours = np.zeros((*truth.shape, 3), dtype=np.uint8)
    where = {
        'right': (predicted == truth) & (truth > 0),
        'too much': (predicted > 0) & (truth == 0),
        'missed': (predicted == 0) & (truth > 0),
        'another class': (predicted != truth) & (predicted > 0) & (truth > 0),
        'ignored': truth == IGNORE,
    }
    for name, pixels in where.items():
        colours[pixels] = ERROR_COLOURS[name]
    return Image.fromarray(colours)


def sample_sheet(samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Image.Image:
    """One row a sample: image (C, H, W), truth (H, W) and prediction (H, W) indices.

    Images are uint8, or float in [0, 1].
    """
    rows = []
    for image, truth, prediction in samples:
        pixels = image.transpose(1, 2, 0)
        masks = [Image.fromarray(colour_mask(indices)) for indices in (truth, prediction)]
        height = max(1, round(SHEET_WIDTH * truth.shape[0] / truth.shape[1]))
        three = [displayable(pixels, pixels), *masks]
        rows.append([p.resize((SHEET_WIDTH, height)) for p in three])
    heights = [row[0].height for row in rows]
    sheet = Image.new(
        'RGB',
        (3 * SHEET_WIDTH + 4 * MARGIN, sum(heights) + MARGIN * (len(rows) + 1)),
        (128, 128, 128),
    )
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (MARGIN + column * (SHEET_WIDTH + MARGIN), top))
        top += height + MARGIN
    return sheet


def show_or_save(image: Image.Image, indices: np.ndarray, title: str, path: Path) -> bool:
    """Show image, mask and overlay in a window; without a display, save them to `path`.

    Returns whether a window was shown.
    """
    import matplotlib.pyplot as plt  # here: 1.3 s that only --viz should pay

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout='constrained')
    pictures = [image, colour_mask(indices), overlay(image, indices)]
    for axis, picture, name in zip(axes, pictures, ('image', 'mask', 'overlay'), strict=True):
        axis.imshow(picture, cmap='gray')
        axis.set_title(name)
        axis.set_axis_off()
    figure.suptitle(title)
    # In a terminal without a display matplotlib falls back to a backend that draws to files only.
    window = plt.get_backend().lower() not in ('agg', 'pdf', 'ps', 'svg', 'cairo', 'template')
    if window:
        plt.show()
    else:
        figure.savefig(path)
        print(f'no display: {path} written instead of a window', file=sys.stderr)
    plt.close(figure)
    return window
