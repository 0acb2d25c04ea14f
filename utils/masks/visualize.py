"""Pictures for people: coloured masks, overlays, error maps and sample sheets.

Axis letters: C channels, H and W pixels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from utils.images.decoding import DEEP_MODES, Picture

from .encoding import CLASS_COLOURS, IGNORE

# Of a sample sheet: the width of a picture, half the space around it, and the colour of the space.
SHEET_WIDTH, HALF_MARGIN, SHEET_COLOUR = 320, 4, (128, 128, 128)

# Colours that colour-blind people can tell apart (Okabe and Ito); correct background is black.
ERROR_COLOURS = {
    'right': (200, 200, 200), 'too much': (230, 159, 0), 'missed': (0, 114, 255),
    'another class': (204, 121, 167), 'ignored': (64, 64, 64),
}  # fmt: skip


def colour_mask(indices: np.ndarray) -> np.ndarray:
    """Return colours (H, W, 3) uint8: two classes black and white, more in CLASS_COLOURS."""
    table = CLASS_COLOURS.copy()
    if not ((indices > 1) & (indices != IGNORE)).any():
        table[1] = 255
    table[IGNORE] = 64  # dark grey
    return table[indices]


def displayable(picture: Picture, pixels: np.ndarray) -> Image.Image:
    """Return an RGB picture: `picture` if it has 8 bits per channel, else made from `pixels`.

    pixels: (H, W, C) uint8, or float in [0, 1]; higher values are scaled to 1. Unless C is 3,
    the first channel is shown as grey.
    """
    if isinstance(picture, Image.Image) and picture.mode not in DEEP_MODES:
        mode = 'RGBA' if picture.mode in ('P', 'PA') else 'RGB'  # Pillow warns of some palettes
        return picture.convert(mode).convert('RGB')
    if pixels.dtype != np.uint8:
        pixels = (pixels * (255 / max(1, pixels.max()))).round().astype(np.uint8)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., :1].repeat(3, axis=2))


def overlay(
    image: Image.Image, indices: np.ndarray, background: int | None = 0, opacity: float = 0.5
) -> Image.Image:
    """Return the image with all classes but the background tinted, and with yellow edges.

    indices: (H, W), of the image's size; IGNORE is not tinted. opacity: of the tint, 0 to 1.
    """
    pixels = np.asarray(image.convert('RGB')).astype(np.float32)
    tint = ((indices != _index(background)) & (indices != IGNORE))[..., None] * opacity
    blend = pixels * (1 - tint) + CLASS_COLOURS[indices] * tint
    edges = np.zeros(indices.shape, dtype=bool)
    edges[1:] |= indices[1:] != indices[:-1]
    edges[:, 1:] |= indices[:, 1:] != indices[:, :-1]
    blend[edges] = (255, 255, 0)
    return Image.fromarray(blend.round().astype(np.uint8))


def error_map(truth: np.ndarray, predicted: np.ndarray, background: int | None = 0) -> Image.Image:
    """Return a picture in ERROR_COLOURS of where class indices (H, W) are right or wrong."""
    colours = np.zeros((*truth.shape, 3), dtype=np.uint8)
    found, there = predicted != _index(background), truth != _index(background)
    where = {
        'right': (predicted == truth) & there,
        'too much': found & ~there,
        'missed': ~found & there,
        'another class': (predicted != truth) & found & there,
        'ignored': truth == IGNORE,
    }
    for name, pixels in where.items():
        colours[pixels] = ERROR_COLOURS[name]
    return Image.fromarray(colours)


def _index(background: int | None) -> int:
    """Return the class index of the background; one that no pixel has for none."""
    return -1 if background is None else background


def sample_sheet(samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Image.Image:
    """Return a sheet with a row for each sample: image, true mask and predicted mask.

    Images are (C, H, W), uint8 or float in [0, 1]; masks are (H, W) class indices.
    """
    rows = []
    for image, *masks in samples:
        pixels = image.transpose(1, 2, 0)
        pictures = [displayable(pixels, pixels), *(Image.fromarray(colour_mask(m)) for m in masks)]
        height, width = masks[0].shape
        size = (SHEET_WIDTH, max(1, round(SHEET_WIDTH * height / width)))
        framed = [ImageOps.expand(p.resize(size), HALF_MARGIN, SHEET_COLOUR) for p in pictures]
        rows.append(np.hstack([np.asarray(picture) for picture in framed]))
    return ImageOps.expand(Image.fromarray(np.vstack(rows)), HALF_MARGIN, SHEET_COLOUR)


def has_display() -> bool:
    """Return whether matplotlib can open windows."""
    import matplotlib as mpl  # late, as in show_or_save

    # Without a display, matplotlib falls back to a backend that only writes files.
    return mpl.get_backend().lower() not in ('agg', 'pdf', 'ps', 'svg', 'cairo', 'template')


def show_or_save(
    image: Image.Image, indices: np.ndarray, title: str, path: Path, background: int | None = 0
) -> bool:
    """Show image, mask and overlay in a window; save them and return False without a display."""
    import matplotlib.pyplot as plt  # late: the import takes 1.3 s, and only --viz needs it

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout='constrained')
    pictures = [image, colour_mask(indices), overlay(image, indices, background)]
    for axis, picture, name in zip(axes, pictures, ('image', 'mask', 'overlay'), strict=True):
        axis.imshow(picture, cmap='gray')
        axis.set_title(name)
        axis.set_axis_off()
    figure.suptitle(title, parse_math=False)  # a name with two $ is no formula
    window = has_display()
    if window:
        plt.show()
    else:
        figure.savefig(path)
        print(f'no display: {path} written instead of a window', file=sys.stderr)
    plt.close(figure)
    return window
