"""Predictions on the pages of evaluate.py: an image with its masks, and the errors."""

from collections.abc import Mapping
from html import escape

import numpy as np
from PIL import Image

from utils.masks.encoding import IGNORE, resize_mask
from utils.masks.visualize import ERROR_COLOURS, displayable, error_map, overlay

from .page import picture

WIDTH = 360  # of an image on the page, in pixels
LEGEND = {'right background': (0, 0, 0)} | ERROR_COLOURS


class Example:
    """Pictures of one image for a page, WIDTH wide.

    image: (h, w, C), see displayable. truth: (H, W) class indices.
    """

    def __init__(self, image: np.ndarray, truth: np.ndarray, background: int | None):
        self.size = (WIDTH, max(1, round(WIDTH * truth.shape[0] / truth.shape[1])))
        self.base = displayable(image, image).resize(self.size)
        self.true_classes, self.background = truth, background

    def truth(self) -> Image.Image:
        """Return the image with its true mask."""
        plain = IGNORE if self.background is None else self.background  # untinted
        return self.tinted(np.where(self.true_classes == IGNORE, plain, self.true_classes))

    def tinted(self, mask: np.ndarray) -> Image.Image:
        """Return the image with a mask (H, W)."""
        resized = resize_mask(Image.fromarray(mask.astype(np.uint8)), self.size)
        return overlay(self.base, np.asarray(resized), self.background)

    def errors(self, predicted: np.ndarray) -> Image.Image:
        """Return where a prediction (H, W) is right or wrong."""
        drawn = error_map(self.true_classes, predicted, self.background)
        # Box filter: nearest neighbour would lose thin errors.
        return drawn.resize(self.size, Image.Resampling.BOX)


def picture_row(title: str, images: Mapping[str, Image.Image]) -> str:
    """Return a heading and pictures side by side, with their captions."""
    figures = '\n'.join(picture(drawn, name, f'{title}: {name}') for name, drawn in images.items())
    return f'<h3>{escape(title)}</h3>\n<div class="pictures">\n{figures}\n</div>'


def colour_keys() -> str:
    """Return what the colours of Example.errors mean."""
    keys = ' '.join(
        f'<span class="key" style="background: rgb{colour}"></span> {escape(name)}'
        for name, colour in LEGEND.items()
    )
    return f'<p class="note">Errors: {keys}</p>'
