"""A trained network that predicts classes of images, by tiles if memory does not hold a whole one.

See docs/python.md. Axis letters: B batch, C channels, H and W pixels, K classes.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unet import UNet
from utils.data.network_limits import network_size
from utils.images.arrays import ImageRange
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE, picture_size
from utils.images.pages import Page, Source
from utils.images.resizing import change_range, read_image, to_unit_range
from utils.masks.encoding import MaskEncoding, encoding_of
from utils.masks.values import MaskValue
from utils.runtime.devices import choose_device
from utils.runtime.errors import UserError
from utils.runtime.memory import one_out_of_memory_error
from utils.runtime.precision import MixedPrecision

from . import tiling
from .backends.selection import build_network
from .checkpoint import load_checkpoint, plain_values
from .inputs import ImageInput, pages_to_predict, to_picture, to_tensor
from .logits import (
    LogitsFunction,
    class_indices,
    class_indices_of_logits,
    class_probabilities,
    logits_of,
)
from .transfer import stacked, to_device


class Predictor:
    """One or several networks whose probabilities are averaged, for images of any size.

    model: the first one, moved to the device. scale: factor of image width and height. masks:
    encoding of the training masks, or only the mask value of each class. precision: by default
    float32 on the CPU. decode: how images were decoded in training. image_range: of images of more
    than 8 bits, see arrays.unit_pixels; ranges: that of each network. models: all networks.
    networks: what computes their logits, see use_backend. tiling: tiles to predict by; None
    predicts whole images, or by tiles if memory does not hold them. mirrored: whether to average
    with the prediction for the mirror image.

    With PILLOW_DECODE prediction goes as in the original: what is averaged, blended and resized are
    the logits, and classes are of the resized ones. Else it is the probabilities. `outputs` stands
    for either.
    """

    def __init__(
        self,
        model: UNet,
        scale: float,
        masks: MaskEncoding | list[MaskValue],
        precision: MixedPrecision | None = None,
        decode: str = DECODE_PATH,
        image_range: ImageRange | None = None,
    ):
        self.decode, self.image_range = decode, image_range
        self.ranges = [image_range]
        self.scale, self.masks = scale, encoding_of(masks)
        self.precision = precision or MixedPrecision(torch.device('cpu'), amp=False)
        model = model.to(self.precision.device)
        self.model = model.to(memory_format=torch.channels_last).eval()
        self.models = [self.model]
        self.networks: list[LogitsFunction] = [self.model]
        self.tiling: tiling.Tiling | None = None
        self.mirrored = False

    @classmethod
    def load(
        cls,
        path: str | Path,
        scale: float | None = None,
        device: str = 'auto',
        amp: bool = False,
        classes: int | None = None,
        bilinear: bool = False,
    ) -> 'Predictor':
        """Load a checkpoint or a state_dict.

        scale: by default the checkpoint's; if it records none, 0.5, and a note is printed. Raises
        UserError if `classes` or `bilinear` are given and differ from the file's.
        """
        checkpoint = load_checkpoint(path)
        config, trained = checkpoint.model, checkpoint.scale
        asked = {'n_classes': classes, 'bilinear': bilinear}
        wrong = [f'{k} is {config[k]}, not {v}' for k, v in asked.items() if v and config[k] != v]
        if wrong:
            raise UserError(f'{path}: {" and ".join(wrong)}. Leave --classes and --bilinear out.')
        if scale and trained and scale != trained:
            print(f'warning: {path} was trained at scale {trained:g}, predicting at {scale:g}')
        if not (scale or trained):
            print(
                f'note: {path} does not record the scale of its training; 0.5 is used. Name '
                'another with --scale (-s).'
            )
        masks = checkpoint.masks or MaskEncoding([*plain_values(config['n_classes'])])
        precision = MixedPrecision(choose_device(device), amp)
        scale = scale or trained or 0.5
        model, known = checkpoint.build_model(), checkpoint.image_range
        return cls(model, scale, masks, precision, checkpoint.decode, known)

    def use_backend(self, backend: str) -> None:
        """Compute all models with a backend other than 'auto', see selection.build_network."""
        self.networks = [build_network(model, backend, self.precision) for model in self.models]

    @property
    def as_original(self) -> bool:
        """Whether images are decoded, and logits turned into classes, as in the original."""
        return self.decode == PILLOW_DECODE

    def threshold(self, asked: float | None) -> float:
        """Return `asked`, by default 0.5; raise UserError if asked for more than two classes."""
        if asked is not None and self.model.n_classes > 2:
            raise UserError(
                f'--mask-threshold acts on 1 or 2 classes; the model has {self.model.n_classes}, '
                'of which the most probable is taken. Leave it out.'
            )
        return 0.5 if asked is None else asked

    def predict_image(self, image: ImageInput, threshold: float = 0.5) -> np.ndarray:
        """Return class indices (H, W) uint8 for an image; see predict_probabilities.

        Of one or two classes, the foreground is where its probability is over `threshold`.
        """
        return self.classify(self._image_outputs(image), threshold)

    def predict_probabilities(self, image: ImageInput) -> Tensor:
        """Return probabilities (K, H, W) float32, on the network's device, for an image.

        image: of any size. A path or Page, a picture of Pillow, or an array (H, W, C) or (H, W) or
        a tensor (C, H, W) or (H, W) of a type of array files; without image_range, integers up to
        65535 or floats in [0, 1]. For two classes K is 1, the foreground. Outputs, not masks, are
        resized, so that outlines are smooth. Raises UserError if the image is too small at this
        scale, or has other channels or values.
        """
        return self.to_probabilities(self._image_outputs(image))

    def _image_outputs(self, image: ImageInput) -> Tensor:
        if isinstance(image, str | Path | Page):
            return self.resized_outputs(*self.read_file(_source(image)))
        channels = self.model.n_channels
        picture = to_picture(image, channels, self.decode, self.image_range)
        size = picture_size(picture)
        seen = network_size(size, self.scale, 'an image')
        tensor = to_tensor(picture, channels, self.scale, seen, self.decode, self.image_range)
        return self.resized_outputs(tensor, size)

    def predict_file(self, path: str | Path | Page, threshold: float = 0.5) -> np.ndarray:
        """Return class indices (H, W) uint8 for an image file, decoded as in training.

        (pages, H, W) for a TIFF of several pages or a volume; a Page names one of them. Where a
        JPEG is decoded at reduced size, the network's input differs from predict_image's by half a
        grey level on average. Raises UserError if the file cannot be read.
        """
        source = _source(path)
        if isinstance(source, Path):
            pages = pages_to_predict(source, lambda: self.model.n_channels)
            if pages:
                return np.stack([self.predict_file(page, threshold) for page in pages])
        return self.classify(self.resized_outputs(*self.read_file(source)), threshold)

    def classify(self, outputs: Tensor, threshold: float = 0.5) -> np.ndarray:
        """Return class indices (H, W) uint8 for outputs (K, H, W), K = 1 for two classes."""
        return self.decide(outputs, threshold)[0].cpu().numpy()

    def decide(self, outputs: Tensor, threshold: float = 0.5) -> Tensor:
        """Return class indices (1, H, W) uint8 on the device, see `classify`, without waiting."""
        return self.class_indices(outputs[None], threshold, torch.uint8)

    def class_indices(
        self, outputs: Tensor, threshold: float = 0.5, dtype: torch.dtype = torch.int64
    ) -> Tensor:
        """Return class indices (B, H, W) for outputs (B, K, H, W), K = 1 for two classes."""
        # Of two classes, outputs are of class 1, and the threshold is the foreground's.
        threshold = 1 - threshold if self.masks.inverted else threshold
        if self.as_original:
            return class_indices_of_logits(outputs, self.model.n_classes, threshold, dtype)
        return class_indices(outputs, threshold, dtype)

    def to_probabilities(self, outputs: Tensor) -> Tensor:
        """Return probabilities (K, H, W) float32 for outputs (K, H, W), K = 1 for two classes."""
        probabilities = class_probabilities(outputs[None])[0] if self.as_original else outputs
        return 1 - probabilities if self.masks.inverted else probabilities

    def read_file(self, path: Source) -> tuple[Tensor, tuple[int, int]]:
        """Return a file as (C, h, w) at network resolution, and its own (width, height)."""
        channels = self.model.n_channels
        image, size = read_image(path, channels, self.scale, self.decode, self.image_range)
        network_size(size, self.scale, str(path))
        return image, size

    @torch.inference_mode()
    def predict_batch(self, images: Tensor) -> Tensor:
        """Return outputs (B, K, H, W) float32 for images (B, C, H, W), uint8 or in [0, 1]."""
        deep = images.is_floating_point()
        images = to_unit_range(to_device(images, self.precision.device))
        known = self.ranges if deep else [self.image_range] * len(self.networks)
        networks = zip(self.networks, known, strict=False)  # int8 is one network
        passes = list(product(networks, (False, True)[: 1 + self.mirrored]))
        total = self._forward(images, *passes[0])
        for network, mirror in passes[1:]:
            total.add_(self._forward(images, network, mirror))
        return total.div_(len(passes))

    def _forward(
        self, images: Tensor, known: tuple[LogitsFunction, ImageRange | None], mirror: bool
    ) -> Tensor:
        network, own = known
        if own and self.image_range and own != self.image_range:
            images = change_range(images, self.image_range, own)
        with self.precision.autocast():
            logits = logits_of(network, images.flip(3) if mirror else images)
        outputs = logits.float() if self.as_original else class_probabilities(logits)
        return outputs.flip(3) if mirror else outputs

    def predict_fitting(self, images: Tensor) -> Tensor:
        """Return outputs of images, K = 1 for two classes, by parts if memory is small."""
        height, width = images.shape[2:]
        if self.tiling_for((height, width), len(images)) is None:
            return self._foreground(images)
        return torch.stack([self.resized_outputs(image, (width, height)) for image in images])

    def resized_outputs(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Return outputs (K, H, W) at (width, height) `size` for one image; see `strips`."""
        return torch.cat(list(self._strips(image, size)), dim=1)

    def strips(
        self, inputs: Iterable[tuple[Tensor, tuple[int, int]]]
    ) -> Iterator[Iterator[Tensor]]:
        """Yield, for each image, its outputs as strips (K, rows, W) from top to bottom.

        inputs: images (C, h, w) at network resolution, consecutive ones of one shape make a batch,
        and (width, height) of their results. For two classes K is 1, the foreground. Images too
        large for the memory are predicted while their strips are read.
        """
        for (shape, _), group in groupby(inputs, key=lambda pair: (pair[0].shape, pair[0].dtype)):
            alike, batch = list(group), None
            if len(alike) > 1 and self.tiling_for(shape[1:], len(alike)) is None:
                with suppress(torch.OutOfMemoryError), one_out_of_memory_error():
                    images = [image for image, _ in alike]
                    batch = self._foreground(stacked(images, self.precision.device))
            for k, (image, size) in enumerate(alike):
                if batch is None:
                    yield self._strips(image, size)
                else:
                    yield tiling.full_size_strips(batch[k], size)

    def tiling_for(self, size: Sequence[int], count: int = 1) -> tiling.Tiling | None:
        """Return the tiles for `count` images of `size` (h, w), None to predict them whole."""
        if self.tiling:
            return self._fitting.limited(size, self.tiling)
        return self._fitting.choose(size, count)

    @functools.cached_property
    def _fitting(self) -> tiling.FittingTiles:
        return tiling.FittingTiles(self.models, self.precision)

    def _foreground(self, images: Tensor) -> Tensor:
        """Return predict_batch(images), for two classes only the foreground: half the work.

        Its probability, or its logit less that of the background.
        """
        outputs = self.predict_batch(images)
        if outputs.shape[1] != 2:
            return outputs
        return outputs[:, 1:] - outputs[:, :1] if self.as_original else outputs[:, 1:]

    @torch.inference_mode()
    def _strips(self, image: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """Yield the strips of one image, by ever smaller tiles if memory runs out."""
        shape = (image.shape[1], image.shape[2])
        by = functools.partial(self._strips_by, image, size)
        yield from self._fitting.strips(by, self.tiling_for(shape), shape, size[1])

    def _strips_by(
        self, image: Tensor, size: tuple[int, int], tiles: tiling.Tiling | None
    ) -> Iterator[Tensor]:
        with one_out_of_memory_error():
            if tiles is None:
                yield from tiling.full_size_strips(self._foreground(image[None])[0], size)
                return
            bands = tiling.tiled_bands(lambda tile: self._foreground(tile[None])[0], image, tiles)
            yield from tiling.resized_strips(bands, image.shape[1], size)


def _source(image: str | Path | Page) -> Source:
    return image if isinstance(image, Page) else Path(image)
