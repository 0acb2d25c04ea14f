"""Pictures of any size, by tiles whose middles come out as of the whole picture.

A tile starts at a multiple of 16 pixels, where the grids of all four poolings start anew, and ends
there too or at the picture's own border, whose padding it sees as the whole picture does. Within
RADIUS of an inner edge it misses what lies beyond; where two tiles overlap by OVERLAP, each is
taken where it is exact, and a few pixels in the middle are blended. Borders need no mirroring:
mirrored pixels would differ from the padding the network has learned.

Bilinear upsampling with aligned corners stretches each map by a factor of its size, so that tiles
of such a network agree with the whole only nearly.

Axis letters: C channels, H and W pixels, K classes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.runtime.errors import UserError

GRID = 16  # pixels: four halvings

# How far a pixel's class may depend on others, in pixels: two 3 x 3 convolutions at each level, on
# the way down and up, are 2 (1 + 2 + 4 + 8) 2 + 2 · 16 = 92, and where the pixel lies within
# its cells of the coarser grids adds up to 15. tests/test_tiling.py finds it by a network's answer.
RADIUS = 107

BLEND = 16  # pixels in the middle of an overlap over which one tile fades into the next

OVERLAP = 224  # the least multiple of 32 that holds RADIUS and half a blend on both sides

SIDES = (4096, 2048, 1024, 512)  # of tiles that nobody asked for

# Bytes a pixel and base channel that predicting takes at its peak, in float32; half of it in 16
# bits. Measured on a CPU as the growth of the process: 45 at width 4, 43 at 8, 38 at 16, 35 at 32,
# 36 at 64; in bfloat16 24 at 8, 21 at 16, 19 at 64. Six maps of the first level alone are 24 bytes.
PEAK_BYTES = 45

STRIP_PIXELS = 2**24  # of a result at full size that are made at a time


@dataclass(frozen=True)
class Tiling:
    """Square tiles of `side` pixels that overlap by `overlap`, at the scale the network sees.

    Both are multiples of 16, and side - overlap at least 16.
    """

    side: int
    overlap: int = OVERLAP

    def __str__(self) -> str:
        return f'tiles of {self.side} pixels that overlap by {self.overlap}'

    @classmethod
    def asked(cls, side: int, overlap: int | None = None) -> 'Tiling':
        """What --tile and --overlap say; UserError where they make no tiles.

        Without an overlap it is OVERLAP, but no more than half of the tile.
        """
        if overlap is None:
            overlap = min(OVERLAP, side // 2 // GRID * GRID)
        if side % GRID or overlap % GRID or side < 2 * GRID or not 0 <= overlap <= side - GRID:
            raise UserError(
                f'--tile {side} --overlap {overlap}: expected multiples of {GRID}, a tile of at '
                f'least {2 * GRID} pixels, and less overlap than tile. Try --tile 1024.'
            )
        return cls(side, overlap)

    def spans(self, length: int) -> list[tuple[int, int]]:
        """(start, stop) of the tiles along a side of the picture, in order, the last one shorter.

        The last one starts as far back as the grid allows, for it to be a whole tile nearly.
        """
        if length <= self.side:
            return [(0, length)]
        step = self.side - self.overlap
        last = -(-(length - self.side) // GRID) * GRID
        count = -(-(length - self.overlap) // step)
        starts = [min(k * step, last) for k in range(count)]
        return [(start, min(start + self.side, length)) for start in starts]


def peak_bytes(pixels: int, base_channels: int, wide: bool = True) -> int:
    """Bytes, about, that predicting so many pixels takes; wide: in float32, else in 16 bits."""
    return pixels * base_channels * PEAK_BYTES // (1 if wide else 2)


def fitting_tiling(
    size: tuple[int, int], base_channels: int, room: int, wide: bool = True
) -> Tiling | None:
    """None where a picture (height, width) takes no more than `room` bytes; else the tiles to take.

    These are the largest that fit in, or the smallest there are.
    """
    if peak_bytes(size[0] * size[1], base_channels, wide) <= room:
        return None
    sides = [side for side in SIDES if peak_bytes(side**2, base_channels, wide) <= room]
    return Tiling(sides[0] if sides else SIDES[-1])


def smaller_tiling(tiling: Tiling | None, size: tuple[int, int]) -> Tiling | None:
    """The next smaller tiles for a picture (height, width) that was too large; None: none are."""
    before = min(tiling.side if tiling else max(size), max(size))
    sides = [side for side in SIDES if side < before]
    return Tiling(sides[0]) if sides else None


def tiled_bands(
    predict: Callable[[Tensor], Tensor], image: Tensor, tiling: Tiling
) -> Iterator[Tensor]:
    """Bands (K, rows, W) float of a picture (C, H, W), from top to bottom, rows in all H.

    predict: gives (K, h, w) for a tile (C, h, w). One band of tiles is held at a time.
    """
    height, width = image.shape[1:]
    columns, rows = tiling.spans(width), tiling.spans(height)
    fade = min(BLEND, tiling.overlap)
    across, down = _weights(columns, fade), _weights(rows, fade)
    done, carry = 0, None
    for k, (top, bottom) in enumerate(rows):
        band = _band(predict, image[:, top:bottom], columns, across)
        band *= down[k].to(band.device)[:, None]
        if carry is not None:
            band[:, done - top : done - top + carry.shape[1]] += carry
        final = bottom if k == len(rows) - 1 else (bottom + rows[k + 1][0] - fade) // 2
        carry = band[:, final - top : final - top + fade].clone()
        yield band[:, done - top : final - top]
        done = final


def _band(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    columns: list[tuple[int, int]],
    weights: list[Tensor],
) -> Tensor:
    """(K, h, W): a row of tiles (C, h, W), each predicted, weighted and added up."""
    band = None
    for (left, right), weight in zip(columns, weights, strict=True):
        tile = predict(image[:, :, left:right])
        if band is None:
            band = tile.new_zeros(*tile.shape[:2], image.shape[2])
        band[:, :, left:right] += tile * weight.to(tile.device)
    return band


def _weights(spans: list[tuple[int, int]], fade: int) -> list[Tensor]:
    """The weight of each tile's pixels along one axis; those of all tiles add up to 1."""
    cuts = [(stop + start) / 2 for (_, stop), (start, _) in pairwise(spans)]
    weights = []
    for k, (start, stop) in enumerate(spans):
        place = torch.arange(start, stop) + 0.5
        weight = torch.ones(stop - start)
        if k > 0:
            weight *= _rise(place - cuts[k - 1], fade)
        if k < len(cuts):
            weight *= 1 - _rise(place - cuts[k], fade)
        weights.append(weight)
    return weights


def _rise(distance: Tensor, fade: int) -> Tensor:
    """From 0 to 1 over `fade` pixels around 0; a step where it is 0."""
    return (distance / max(fade, 1e-3) + 0.5).clamp(0, 1)


def resized_strips(bands: Iterable[Tensor], height: int, size: tuple[int, int]) -> Iterator[Tensor]:
    """Strips (K, rows, width) of (width, height) `size`, bilinear, of bands with `height` rows.

    bands: (K, h, w) float from top to bottom. Equals torch's interpolation of all of them, and
    holds a band and a strip of at most STRIP_PIXELS at a time.
    """
    width, full = size
    # Where each row lies among those of the bands: torch's align_corners=False.
    place = ((torch.arange(full, dtype=torch.float64) + 0.5) * (height / full) - 0.5).clamp(min=0)
    above = place.floor().long()
    below = (above + 1).clamp(max=height - 1)
    share = (place - above).float()
    at_once = max(1, STRIP_PIXELS // width)
    held, top, done = None, 0, 0
    for band in bands:
        held = band if held is None else torch.cat([held, band], dim=1)
        ready = int((below < top + held.shape[1]).sum())
        while done < ready:
            rows = slice(done, min(done + at_once, ready))
            yield _strip(held, above[rows] - top, below[rows] - top, share[rows], width)
            done = rows.stop
        # Far smaller results skip rows, perhaps to within the next band.
        first = min(int(above[done]) if done < full else top, top + held.shape[1])
        held, top = held[:, first - top :], first


def full_size_strips(values: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """(K, h, w) at (width, height) `size`, in one piece, or in strips where that is large."""
    if size[0] * size[1] > STRIP_PIXELS:
        yield from resized_strips([values], values.shape[1], size)
    else:
        yield F.interpolate(values[None], size[::-1], mode='bilinear')[0]


def _strip(held: Tensor, above: Tensor, below: Tensor, share: Tensor, width: int) -> Tensor:
    """Rows between rows of `held` (K, h, w), stretched to `width`."""
    first, last = int(above[0]), int(above[-1])
    if held.shape[2] == width and not share.any() and last - first == len(above) - 1:
        return held[:, first : last + 1]  # nothing to resize
    above, below = above.to(held.device), below.to(held.device)
    rows = torch.lerp(held[:, above], held[:, below], share.to(held.device)[:, None])
    if rows.shape[2] == width:
        return rows
    return F.interpolate(rows[None], (rows.shape[1], width), mode='bilinear')[0]
