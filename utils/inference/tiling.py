"""Tiled prediction of images of any size, with the probabilities of the whole image.

A tile starts at a multiple of 16 pixels, where the grids of all four poolings start, and ends at
one or at the image's border, where it sees the same padding as the whole image does. Within RADIUS
of an inner edge a tile's result is inexact, because it lacks the pixels beyond. Tiles that overlap
by OVERLAP are used only where they are exact, and blended over a few pixels in the middle of the
overlap. Image borders are not mirrored: a padded network has learned its own padding.

Tiles of a bilinear network agree only approximately: upsampling with aligned corners stretches each
map by a factor that depends on its size. Axis letters: C channels, H and W pixels, K classes.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from unet import UNet
from utils.runtime.errors import UserError
from utils.runtime.memory import available_prediction_memory
from utils.runtime.precision import MixedPrecision

GRID = 16  # pixels: four halvings
# Receptive field: largest distance in pixels at which an input pixel affects an output pixel. Two
# 3 x 3 convolutions at each level, on the way down and up, make 2 (1 + 2 + 4 + 8) 2 + 2 · 16 = 92;
# the pixel's position in its cells of the coarser grids adds up to 15. The tests measure it.
RADIUS = 107
BLEND = 16  # pixels in the middle of an overlap over which one tile fades into the next
OVERLAP = 224  # the least multiple of 32 that covers RADIUS and half a blend on both sides
SIDES = (4096, 2048, 1024, 512)  # of tiles chosen automatically
# Peak memory of a prediction in bytes per pixel and base channel, in float32; half of it in 16
# bits. Measured on a CPU as the growth of the process: 45 at width 4, 43 at 8, 38 at 16, 35 at 32,
# 36 at 64; in bfloat16 24 at 8, 21 at 16, 19 at 64. Six maps of the first level alone are 24 bytes.
PEAK_BYTES = 45
STRIP_PIXELS = 2**24  # largest strip of a full-size result
# Most elements of a feature map on a GPU, where kernels may count them in 32 bits. An H100 computed
# a map of 2^31 right (dev/GPU.md); not every card, library and operation promises it.
MAX_ELEMENTS = 2**31 - 1
ASK_AGAIN = (
    60.0  # seconds after which the free memory is asked for anew: other programs come and go
)


@dataclass(frozen=True)
class Tiling:
    """Square tiles that overlap, in pixels at network resolution.

    Both are multiples of GRID, and side - overlap at least GRID.
    """

    side: int
    overlap: int = OVERLAP

    def __str__(self) -> str:
        return f'tiles of {self.side} pixels with an overlap of {self.overlap}'

    @classmethod
    def from_options(cls, side: int, overlap: int | None = None) -> 'Tiling':
        """Return the tiling of --tile and --overlap; raise UserError if it is not possible."""
        if overlap is None:
            overlap = min(OVERLAP, side // 2 // GRID * GRID)
        if side % GRID or overlap % GRID or side < 2 * GRID or not 0 <= overlap <= side - GRID:
            raise UserError(
                f'--tile {side} --overlap {overlap}: expected multiples of {GRID}, a tile of at '
                f'least {2 * GRID} pixels, and a smaller overlap. Try --tile 1024.'
            )
        return cls(side, overlap)

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Return (start, stop) of the tiles along an image side; the last one is almost whole."""
        if length <= self.side:
            return [(0, length)]
        step = self.side - self.overlap
        last = -(-(length - self.side) // GRID) * GRID
        count = -(-(length - self.overlap) // step)
        starts = [min(k * step, last) for k in range(count)]
        return [(start, min(start + self.side, length)) for start in starts]


def fitting_tiling(
    size: Sequence[int], base_channels: int, room: int, float32: bool = True, channels: int = 0
) -> Tiling | None:
    """Return the largest tiles that `room` bytes hold; None for a whole image of `size` (h, w).

    float32: else the network computes in 16 bits. channels: of the largest feature map at the
    image's resolution, where its elements are limited to MAX_ELEMENTS; 0 without a limit.
    """
    pixels = room * (1 if float32 else 2) // (base_channels * PEAK_BYTES)
    if channels:
        pixels = min(pixels, MAX_ELEMENTS // channels)
    if size[0] * size[1] <= pixels:
        return None
    return Tiling(next((side for side in SIDES if side**2 <= pixels), SIDES[-1]))


class FittingTiles:
    """Chooses tiles by a device's free memory, which is asked for once a size and minute.

    models: networks that see the same tiles one after the other.
    """

    def __init__(self, models: Sequence[UNet], precision: MixedPrecision):
        self.device, self.float32 = precision.device, precision.name == 'fp32'
        self.base_channels = max(model.base_channels for model in models)
        # The last upsampled map beside the one that skips the levels below, or the logits. A CPU
        # counts elements in 64 bits.
        classes = max(model.n_classes for model in models)
        self.channels = 0 if self.device.type == 'cpu' else max(2 * self.base_channels, classes)
        self._known: dict[tuple[int, ...], tuple[float, Tiling | None]] = {}

    def choose(self, size: Sequence[int], count: int = 1) -> Tiling | None:
        """Return the tiles for `count` images of `size` (h, w), None to predict them whole."""
        found = self._known.get((*size, count))
        if found is None or time.monotonic() - found[0] > ASK_AGAIN:
            room = available_prediction_memory(self.device) or sys.maxsize  # 0: unknown
            return self.remember(self._fitting(size, room // count, count), size, count)
        return found[1]

    def remember(self, tiles: Tiling | None, size: Sequence[int], count: int = 1) -> Tiling | None:
        """Return `tiles`, after keeping them as the choice for `count` images of `size`."""
        self._known[(*size, count)] = time.monotonic(), tiles
        return tiles

    def limited(self, size: Sequence[int], tiles: Tiling) -> Tiling | None:
        """Return `tiles`, or smaller ones if their feature maps have too many elements.

        None if an image of `size` (h, w) is a single tile.
        """
        extent = [min(length, tiles.side) for length in size]
        return self._fitting(extent, sys.maxsize, 1) or (tiles if max(size) > tiles.side else None)

    def _fitting(self, size: Sequence[int], room: int, count: int) -> Tiling | None:
        channels = count * self.channels
        return fitting_tiling(size, self.base_channels, room, self.float32, channels)

    def strips(
        self,
        predict: Callable[[Tiling | None], Iterator[Tensor]],
        tiles: Tiling | None,
        size: tuple[int, int],
        rows: int,
    ) -> Iterator[Tensor]:
        """Yield strips (K, h, W), `rows` rows in total, by ever smaller tiles if memory runs out.

        predict: returns the strips of an image of `size` (h, w) by tiles. Rows are yielded once.
        """
        done = 0
        while done < rows:
            row, smaller = 0, smaller_tiling(tiles, size)
            try:
                for strip in predict(tiles):
                    row += strip.shape[1]
                    if row > done:  # earlier rows were yielded before memory ran out
                        yield strip[:, done - row :]
                        done = row
            except torch.OutOfMemoryError:
                if smaller is None:
                    raise
                height, width = size
                print(f'note: out of memory; {width} x {height} pixels are continued by {smaller}')
            else:
                return
            # Not in the except block: the exception would keep the feature maps alive.
            torch.cuda.empty_cache()  # cuBLAS and cuDNN take memory beside torch's cache
            tiles = self.remember(smaller, size)


def smaller_tiling(tiling: Tiling | None, size: Sequence[int]) -> Tiling | None:
    """Return smaller tiles than `tiling`, or than the image of `size` (height, width), if any."""
    before = min(tiling.side if tiling else max(size), max(size))
    smaller = [side for side in SIDES if side < before]
    return Tiling(smaller[0]) if smaller else None


def tiled_bands(
    predict: Callable[[Tensor], Tensor], image: Tensor, tiling: Tiling
) -> Iterator[Tensor]:
    """Yield bands (K, rows, W) float of an image (C, H, W) from top to bottom, H rows in total.

    predict: returns (K, h, w) for a tile (C, h, w). One band of tiles is in memory at a time.
    """
    height, width = image.shape[1:]
    columns, rows = tiling.spans(width), tiling.spans(height)
    fade = min(BLEND, tiling.overlap)
    across, down = _weights(columns, fade), _weights(rows, fade)
    done = 0
    carry: Tensor | None = None
    for k, (top, bottom) in enumerate(rows):
        for (left, right), weight in zip(columns, across, strict=True):
            tile = predict(image[:, top:bottom, left:right])
            if left == 0:
                band = tile.new_zeros(*tile.shape[:2], width)
            band[:, :, left:right] += tile * weight.to(tile.device)
        band *= down[k].to(band.device)[:, None]
        if carry is not None:
            band[:, done - top : done - top + carry.shape[1]] += carry
        final = bottom if k == len(rows) - 1 else (bottom + rows[k + 1][0] - fade) // 2
        carry = band[:, final - top : final - top + fade].clone()
        yield band[:, done - top : final - top]
        done = final


def _weights(spans: list[tuple[int, int]], fade: int) -> list[Tensor]:
    """Return the weights of each tile's pixels along one axis; over all tiles they sum to 1."""
    cuts = [-inf, *((stop + start) / 2 for (_, stop), (start, _) in pairwise(spans)), inf]
    weights = []
    for span, ends in zip(spans, pairwise(cuts), strict=True):
        place = torch.arange(*span) + 0.5
        # Ramps from 0 to 1 over `fade` pixels around the cuts; steps if `fade` is 0.
        rise, fall = (((place - cut) / max(fade, 1e-3) + 0.5).clamp(0, 1) for cut in ends)
        weights.append(rise * (1 - fall))
    return weights


def resized_strips(bands: Iterable[Tensor], height: int, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yield strips (K, rows, width) of bands with `height` rows, resized to (width, height) `size`.

    bands: (K, h, w) float from top to bottom. The result is torch's bilinear interpolation of all
    bands together. One band and one strip of STRIP_PIXELS are in memory at a time.
    """
    width, full = size
    # Source row of each result row, as in torch's align_corners=False.
    place = ((torch.arange(full, dtype=torch.float64) + 0.5) * (height / full) - 0.5).clamp(min=0)
    above = place.floor().long()
    below = (above + 1).clamp(max=height - 1)
    fraction = (place - above).float()
    at_once = max(1, STRIP_PIXELS // width)
    top = done = 0  # first source row in `held`, next result row
    held: Tensor | None = None
    for band in bands:
        held = band if held is None else torch.cat([held, band], dim=1)
        ready = int((below < top + held.shape[1]).sum())
        while done < ready:
            rows = slice(done, min(done + at_once, ready))
            yield _resized(held, above[rows] - top, below[rows] - top, fraction[rows], width)
            done = rows.stop
        # A much smaller result skips source rows, perhaps into the next band.
        first = min(int(above[done]) if done < full else top, top + held.shape[1])
        held, top = held[:, first - top :], first


def full_size_strips(values: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yield (K, h, w) resized to (width, height) `size`, in one piece or, if large, in strips."""
    if size[0] * size[1] > STRIP_PIXELS:
        yield from resized_strips([values], values.shape[1], size)
    else:
        yield F.interpolate(values[None], size[::-1], mode='bilinear')[0]


def _resized(held: Tensor, above: Tensor, below: Tensor, fraction: Tensor, width: int) -> Tensor:
    """Return the rows between rows `above` and `below` of `held` (K, h, w), resized to `width`."""
    first, last = int(above[0]), int(above[-1])
    if held.shape[2] == width and not fraction.any() and last - first == len(above) - 1:
        return held[:, first : last + 1]  # nothing to resize
    above, below = above.to(held.device), below.to(held.device)
    rows = torch.lerp(held[:, above], held[:, below], fraction.to(held.device)[:, None])
    if rows.shape[2] == width:
        return rows
    return F.interpolate(rows[None], (rows.shape[1], width), mode='bilinear')[0]
