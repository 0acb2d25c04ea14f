"""Shapes to pixels: polygons by the even-odd rule, runs exactly.

A pixel belongs to a polygon if its centre does. Where an outline runs through a centre, left and
upper sides belong to it, so that a polygon of whole numbers covers [x0, x1) and polygons side by
side neither overlap nor leave gaps. Lines there and back, by which some tools join the parts of an
object or its holes, have no area and leave no trace. Axis letters: H and W pixels.
"""

import io

import numpy as np
from PIL import Image

from utils.images.decoding import UNREADABLE
from utils.runtime.errors import UserError

from .records import AnnotatedPicture, Outlines, Runs, Shape

Window = tuple[slice, slice]  # of rows and columns
ELLIPSE_POINTS = 360  # the polygon is nearer than 0.05 pixels up to a radius of 1,300


def draw(
    picture: AnnotatedPicture, size: tuple[int, int], values: dict[str, int]
) -> tuple[np.ndarray, int, list[Shape]]:
    """Return the mask (H, W) uint8, how many pixels two classes claim, and shapes without pixels.

    size: (width, height). values: of the labels. Of several classes on a pixel the last counts.
    """
    mask = np.zeros(size[::-1], dtype=np.uint8)
    claimed = np.zeros(size[::-1], dtype=bool)
    empty = []
    for shape in picture.shapes:
        value, found = values[shape.label], False
        for window, inside in _areas(shape.area, size, picture.relative):
            found = found or bool(inside.any())
            before = mask[window]
            if value:  # background that is drawn over a class makes a hole and is meant
                claimed[window] |= inside & (before != 0) & (before != value)
            before[inside] = value
        if not found:
            empty.append(shape)
    return mask, int(np.count_nonzero(claimed)), empty


def _areas(
    area: Outlines | Runs, size: tuple[int, int], relative: bool
) -> list[tuple[Window, np.ndarray]]:
    """Return windows of the picture, and which of their pixels are inside, (h, w) bool."""
    if isinstance(area, Runs):
        found = [_run_area(area, size)]
    else:
        found = [fill_polygon(ring * (size if relative else 1), size) for ring in area.rings]
    return [part for part in found if part is not None]


def fill_polygon(ring: np.ndarray, size: tuple[int, int]) -> tuple[Window, np.ndarray] | None:
    """Return the window of a polygon (N, 2) and its pixels (h, w) bool; None if it has none.

    Each edge flips all pixels to the right of where it crosses the middle of a row; what is
    flipped an odd number of times is inside.
    """
    (left, top), (right, bottom) = (
        np.clip(np.ceil(corner - 0.5), 0, size).astype(np.int64)
        for corner in (ring.min(axis=0), ring.max(axis=0))
    )
    if left >= right or top >= bottom:
        return None
    ends = np.stack([ring, np.roll(ring, -1, axis=0)])  # (2, N, 2)
    down = ends[0, :, 1] <= ends[1, :, 1]  # an edge gives the same numbers in either direction
    (x0, y0), (x1, y1) = np.where(down[:, None], ends, ends[::-1]).transpose(0, 2, 1)
    first, last = (np.clip(np.ceil(y - 0.5), top, bottom).astype(np.int64) for y in (y0, y1))
    counts = last - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])  # horizontal edges have no rows
    column = np.clip(np.ceil(x0[edge] + (row + 0.5 - y0[edge]) * slope - 0.5), left, right)
    flips = np.zeros((bottom - top, right - left + 1), dtype=np.uint8)
    np.add.at(flips, (row - top, column.astype(np.int64) - left), 1)
    inside = np.cumsum(flips[:, :-1], axis=1, dtype=np.uint8) & 1
    return (slice(top, bottom), slice(left, right)), inside.astype(bool)


def _run_area(runs: Runs, size: tuple[int, int]) -> tuple[Window, np.ndarray] | None:
    (width, height), (left, top) = runs.size or size, runs.corner
    pixels = np.zeros(width * height, dtype=bool)
    inside = np.repeat(np.arange(len(runs.counts)) % 2 == 1, runs.counts)
    pixels[: len(inside)] = inside
    box = pixels.reshape(width, height).T if runs.by_column else pixels.reshape(height, width)
    rows = slice(min(max(-top, 0), height), max(min(height, size[1] - top), 0))
    columns = slice(min(max(-left, 0), width), max(min(width, size[0] - left), 0))
    box = box[rows, columns]
    if not box.size:
        return None
    y, x = top + rows.start, left + columns.start
    return (slice(y, y + box.shape[0]), slice(x, x + box.shape[1])), box


def runs_of(pixels: np.ndarray, corner: tuple[int, int] = (0, 0)) -> Runs:
    """Return the runs of a mask (H, W) bool whose upper left pixel is at `corner` (x, y)."""
    flat = np.concatenate([[False], pixels.ravel()])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(starts, prepend=0, append=pixels.size)
    return Runs(counts.astype(np.int64), (pixels.shape[1], pixels.shape[0]), corner)


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0
) -> Outlines:
    """Return an ellipse as a polygon; degrees: turned clockwise around its centre."""
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    ring = np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1)
    return Outlines((_turned(ring, degrees) + centre,))


def rectangle(
    low: tuple[float, float], high: tuple[float, float], degrees: float = 0.0,
    pivot: tuple[float, float] | None = None,
) -> Outlines:  # fmt: skip
    """Return a rectangle of two corners, turned clockwise around its centre, or `pivot`."""
    (x0, y0), (x1, y1) = low, high
    ring = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)
    around = np.array(pivot or ((x0 + x1) / 2, (y0 + y1) / 2))
    return Outlines((_turned(ring - around, degrees) + around if degrees else ring,))


def _turned(ring: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return ring @ np.array([[cos, sin], [-sin, cos]])  # clockwise, as y points downwards


def bitmap_pixels(data: bytes, what: str, by_alpha: bool = False) -> np.ndarray:
    """Return which pixels of a picture file's bytes are set, (H, W) bool: its alpha, if it varies.

    by_alpha: alpha over 0 wherever the file has alpha, even if all pixels are set.
    Raises UserError for bytes that are no picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            bands = np.asarray(picture.convert('RGBA') if picture.mode != 'RGBA' else picture)
            has_alpha = 'A' in picture.getbands() or 'transparency' in picture.info
    except UNREADABLE as error:
        raise UserError(f'{what} is no picture: {error}', 'broken annotation') from error
    alpha = bands[..., 3]
    if by_alpha and has_alpha:
        return (alpha > 0).astype(bool)
    colour = bands[..., :3].max(axis=2)
    return (alpha > 127 if alpha.min() != alpha.max() else colour > 0).astype(bool)
