"""Probabilities for image tensors, predicted by tiles where memory does not hold a whole image.

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby, product

import torch
from torch import Tensor

from unet import UNet
from utils.images.resizing import to_unit_range
from utils.runtime.memory import available_prediction_memory
from utils.runtime.precision import MixedPrecision

from .backends.selection import build_network
from .logits import LogitsFunction, class_probabilities, logits_of
from .tiling import (
    Tiling,
    fitting_tiling,
    full_size_strips,
    resized_strips,
    smaller_tiling,
    tiled_bands,
)


class TensorPredictor:
    """One or several networks whose probabilities are averaged.

    model: the first one, moved to the device. precision: by default float32 on the CPU. models: all
    of them. networks: what computes their logits, see use_backend. tiling: tiles to predict by;
    None predicts whole images, or by tiles if memory does not hold them. mirrored: whether to
    average with the prediction for the mirror image.
    """

    def __init__(self, model: UNet, precision: MixedPrecision | None = None):
        self.precision = precision or MixedPrecision(torch.device('cpu'), amp=False)
        model = model.to(self.precision.device)
        self.model = model.to(memory_format=torch.channels_last).eval()
        self.models = [self.model]
        self.networks: list[LogitsFunction] = [self.model]
        self.tiling: Tiling | None = None
        self.mirrored = False

    def use_backend(self, backend: str) -> None:
        """Compute all models with a backend other than 'auto'; 'torch' folds BatchNorm."""
        self.networks = [build_network(model, backend, self.precision) for model in self.models]

    @torch.inference_mode()
    def predict_batch(self, images: Tensor) -> Tensor:
        """Return probabilities (B, K, H, W) float32 for images (B, C, H, W), uint8 or in [0, 1]."""
        images = images.to(self.precision.device, memory_format=torch.channels_last)
        images = to_unit_range(images)
        passes = list(product(self.networks, (False, True)[: 1 + self.mirrored]))
        total = self._forward(images, *passes[0])
        for network, mirror in passes[1:]:
            total.add_(self._forward(images, network, mirror))
        return total.div_(len(passes))

    def _forward(self, images: Tensor, network: LogitsFunction, mirror: bool) -> Tensor:
        with self.precision.autocast():
            logits = logits_of(network, images.flip(3) if mirror else images)
        probabilities = class_probabilities(logits)
        return probabilities.flip(3) if mirror else probabilities

    def predict_fitting(self, images: Tensor) -> Tensor:
        """Return predict_batch(images); if memory is too small, by parts, with K = 1 for 2 classes."""
        height, width = images.shape[2:]
        if self.tiling_for((height, width), len(images)) is None:
            return self.predict_batch(images)
        return torch.stack([self.resized_probabilities(image, (width, height)) for image in images])

    def resized_probabilities(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Return probabilities (K, H, W) at (width, height) `size` for one image; see `strips`."""
        return torch.cat(list(self._strips(image, size)), dim=1)

    def strips(
        self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> Iterator[Iterator[Tensor]]:
        """Yield, for each image, its probabilities as strips (K, rows, W) from top to bottom.

        images: (C, h, w) each, at network resolution; consecutive ones of one shape make a batch.
        sizes: (width, height) of the results. For two classes K is 1, the foreground. Images too
        large for the memory are predicted while their strips are read.
        """
        pairs = zip(images, sizes, strict=True)
        for shape, group in groupby(pairs, key=lambda pair: pair[0].shape):
            alike = list(group)
            batch = None
            if len(alike) > 1 and self.tiling_for(shape[1:], len(alike)) is None:
                with suppress(torch.OutOfMemoryError):
                    batch = self._foreground(torch.stack([image for image, _ in alike]))
            for k, (image, size) in enumerate(alike):
                if batch is None:
                    yield self._strips(image, size)
                else:
                    yield full_size_strips(batch[k], size)

    def tiling_for(self, size: Sequence[int], count: int = 1) -> Tiling | None:
        """Return the tiles for `count` images of `size` (h, w), None to predict them whole."""
        if self.tiling:
            return self.tiling if max(size) > self.tiling.side else None
        room = available_prediction_memory(self.precision.device) // count
        float32 = self.precision.name == 'fp32'
        return fitting_tiling(size, self.model.base_channels, room, float32) if room else None

    def _foreground(self, images: Tensor) -> Tensor:
        """Return predict_batch(images), for two classes only the foreground: half the work."""
        probabilities = self.predict_batch(images)
        return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities

    @torch.inference_mode()
    def _strips(self, image: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """Yield the strips of one image, by ever smaller tiles if memory runs out."""
        height, width = image.shape[1:]
        tiling, done = self.tiling_for((height, width)), 0
        while done < size[1]:
            row, smaller = 0, smaller_tiling(tiling, (height, width))
            try:
                for strip in self._strips_by(tiling, image, size):
                    row += strip.shape[1]
                    if row > done:  # earlier rows were yielded before memory ran out
                        yield strip[:, done - row :]
                        done = row
            except torch.OutOfMemoryError:
                if smaller is None:
                    raise
                print(f'note: out of memory; {width} x {height} pixels are continued by {smaller}')
            # Not in the except block: the exception would keep the feature maps alive.
            tiling = smaller

    def _strips_by(
        self, tiling: Tiling | None, image: Tensor, size: tuple[int, int]
    ) -> Iterator[Tensor]:
        if tiling is None:
            return full_size_strips(self._foreground(image[None])[0], size)
        bands = tiled_bands(lambda tile: self._foreground(tile[None])[0], image, tiling)
        return resized_strips(bands, image.shape[1], size)
