"""Crowded grey cells under a microscope, hard to tell apart where they touch."""

import numpy as np
from PIL import Image

SPACING = 26.0  # mean distance between the centres of cells, in pixels
LINE = 1.0  # half the width of the background line between touching cells, in pixels


def render_cells(seed: int, index: int, size: tuple[int, int]) -> list[Image.Image]:
    """Return a grey image and its mask: 255 on cells, 0 elsewhere and where two cells touch."""
    rng = np.random.default_rng((seed, index, 7))
    width, height = size

    def waves(length: float, deviation: float) -> np.ndarray:
        """Return smooth noise float32 (H, W) of this wave length in pixels."""
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
        noise = np.fft.irfft2(spectrum * np.exp(-((frequency * length) ** 2)), (height, width))
        return (deviation * noise / noise.std()).astype(np.float32)

    # A jittered grid across the borders, with gaps; rows are (row, column).
    rows, columns = (np.arange(-SPACING / 2, side + SPACING, SPACING) for side in (height, width))
    centres = np.stack(np.meshgrid(rows, columns, indexing='ij'), axis=-1).reshape(-1, 2)
    centres += rng.normal(0, SPACING / 6, centres.shape)
    centres = centres[rng.random(len(centres)) < 0.86]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    # Distort space before distances are taken: outlines are not polygons.
    y, x = y + waves(20, 2.5), x + waves(20, 2.5)
    near = np.full((3, height, width), np.inf, dtype=np.float32)  # distances of three cells
    owner = np.zeros((height, width), dtype=np.int64)
    radii = SPACING * rng.uniform(0.5, 0.68, len(centres))
    for k, (row, column) in enumerate(centres):
        distance = np.hypot(y - row, x - column) - radii[k]
        owner = np.where(distance < near[0], k, owner)
        near = np.sort(np.concatenate([near, distance[None]]), axis=0)[:3]
    gap = (near[1] - near[0]) / 2  # distance from the line between the two nearest cells
    mask = np.where((near[0] < 0) & (gap > LINE), 255, 0)
    light = rng.uniform(125, 165, len(centres))[owner] + waves(5, 9)
    depth = 26 + waves(10, 9)  # the line is clearer here, fainter there
    light -= np.where(near[1] < 2, depth * np.exp(-((gap / 1.1) ** 2)), 0)
    edge = 1 / (1 + np.exp(np.clip(near[0] / 0.9, -30, 30)))
    ground = 70 + waves(30, 8)
    image = ground + (light - ground) * edge + rng.normal(0, 9, (height, width))
    return [Image.fromarray(a.clip(0, 255).astype(np.uint8)) for a in (image, mask)]
