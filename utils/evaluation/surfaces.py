"""Distances between the surfaces of true and predicted classes, exact, in pixels or millimetres.

The surface of a class is its pixels that share an edge with a pixel outside of it: of another class
or beyond the edge of the image. From each pixel of one surface, the distance to the nearest pixel
of the other is measured, centre to centre. Hausdorff 95 is the 95th percentile of these distances,
interpolated, from truth to prediction or from prediction to truth, whichever is larger; the average
symmetric surface distance is the mean of all distances of both directions. As MONAI's
HausdorffDistanceMetric(percentile=95) and SurfaceDistanceMetric; definitions and their choice:
Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods 21 (2024).

Axis letters: H and W pixels, K classes, S pixels of a surface.
"""

import numpy as np

from utils.masks.encoding import IGNORE

FAR = np.inf


def surface_distances(
    predicted: np.ndarray,
    truth: np.ndarray,
    n_classes: int,
    spacing: tuple[float, float] = (1.0, 1.0),
    background: int | None = 0,
) -> np.ndarray:
    """Return Hausdorff 95 and average symmetric surface distance of each class, (K, 2) float64.

    predicted, truth: (H, W) uint8 class indices; where truth is IGNORE, neither has a surface.
    spacing: distances between rows and between columns. Infinite where only one of both has the
    class; NaN where neither has it, and for `background`.
    """
    found = np.full((n_classes, 2), np.nan)
    known = truth != IGNORE
    for k in range(n_classes):
        surfaces = [_surface(labels == k, known) for labels in (truth, predicted)]
        there = [len(surface) > 0 for surface in surfaces]
        if k == background or not any(there):
            continue
        if not all(there):
            found[k] = FAR
            continue
        each = [_nearest(surfaces[a], surfaces[1 - a], spacing) for a in (0, 1)]
        found[k] = max(np.percentile(far, 95) for far in each), np.concatenate(each).mean()
    return found


def _surface(own: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return row and column of the surface pixels of `own` (H, W) bool, (S, 2)."""
    outside = np.pad(~own & known, 1, constant_values=True)
    near = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    return np.argwhere(own & known & near)


def _nearest(points: np.ndarray, others: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Return the distance of each point to the nearest of `others`, (S,); both (S, 2).

    First the nearest in each column, by two passes over the rows, then the nearest of the columns
    from the point outwards, as far as a nearer one is possible. Without a library: points are
    pixels of outlines, and good predictions are a few pixels away.
    """
    corner = np.minimum(points.min(axis=0), others.min(axis=0))
    points, others = points - corner, others - corner
    height, width = np.maximum(points.max(axis=0), others.max(axis=0)) + 1
    index = np.arange(height, dtype=np.float64)[:, None]
    above, below = np.full((2, height, width), [[[-FAR]], [[FAR]]])
    above[tuple(others.T)] = below[tuple(others.T)] = others[:, 0]
    np.maximum.accumulate(above, axis=0, out=above)
    below[:] = np.minimum.accumulate(below[::-1], axis=0)[::-1]
    vertical = (spacing[0] * np.minimum(index - above, below - index)) ** 2
    rows, columns = points.T
    best = vertical[rows, columns]
    active = np.arange(len(points))
    for distance in range(1, int(width)):
        aside = (spacing[1] * distance) ** 2
        active = active[best[active] > aside]
        if not len(active):
            break
        for column in (columns[active] - distance, columns[active] + distance):
            inside = (column >= 0) & (column < width)
            chosen = active[inside]
            value = vertical[rows[chosen], column[inside]] + aside
            best[chosen] = np.minimum(best[chosen], value)
    return np.sqrt(best)
