"""How well the outline of a mask lies on edges of an image.

Axis letters: H and W pixels.
"""

import numpy as np
from PIL import Image

MOST_POINTS, FEWEST_POINTS = 1000, 20  # of an outline
SHIFT = 6  # pixels to each side, of images of thumbnails.MEASURED_SIDE
BRIGHTEST = 98  # percentile of the gradient at which it is cut, so that a few glints do not rule


def gradient(image: Image.Image) -> np.ndarray:
    """Return the length of the gradient of an RGB image, (H, W) float32, cut at BRIGHTEST."""
    pixels = np.asarray(image, dtype=np.float32)
    rows, columns = np.zeros_like(pixels), np.zeros_like(pixels)
    rows[1:-1] = pixels[2:] - pixels[:-2]
    columns[:, 1:-1] = pixels[:, 2:] - pixels[:, :-2]
    lengths = np.hypot(rows, columns).sum(axis=2)
    return np.minimum(lengths, np.percentile(lengths, BRIGHTEST))


def outline(indices: np.ndarray) -> np.ndarray:
    """Return rows and columns of pixels on both sides of outlines, (n, 2) int16, evenly chosen.

    The border of the image is left out; it has no gradient.
    """
    edge = np.zeros(indices.shape, dtype=bool)
    apart = indices[1:] != indices[:-1]
    edge[1:] |= apart
    edge[:-1] |= apart
    apart = indices[:, 1:] != indices[:, :-1]
    edge[:, 1:] |= apart
    edge[:, :-1] |= apart
    edge[[0, -1]] = edge[:, [0, -1]] = False
    points = np.argwhere(edge).astype(np.int16)
    return points[:: -(-len(points) // MOST_POINTS) or 1]


def fit(edges: np.ndarray, points: np.ndarray) -> float:
    """Return the mean gradient on an outline divided by that on the outline moved by SHIFT.

    edges: of `gradient`. The outline is moved to eight sides. A mask of another image has about 1,
    the right mask more. NaN for an outline that is too short, or too near to the border.
    """
    if len(points) < FEWEST_POINTS:
        return float('nan')
    height, width = edges.shape
    moved = []
    for angle in np.arange(8) * np.pi / 4:
        step = np.round([SHIFT * np.sin(angle), SHIFT * np.cos(angle)]).astype(np.int16)
        rows, columns = (points + step).T
        inside = (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
        if inside.mean() >= 0.3:
            moved.append(edges[rows[inside], columns[inside]].mean())
    here = edges[points[:, 0], points[:, 1]].mean()
    return float(here / max(1e-3, np.mean(moved))) if moved else float('nan')
