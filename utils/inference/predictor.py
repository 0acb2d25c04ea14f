"""A trained network, ready to predict: load once, then arrays in, class indices out.

    predictor = Predictor.load('checkpoints/best.pth')
    indices = predictor.predict_image(np.asarray(Image.open('car.jpg')))

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

from collections.abc import Generator, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unet import MIN_SIZE, UNet
from utils.images.arrays import array_pixels, channels_error
from utils.images.decoding import scaled_size
from utils.images.resizing import read_image, resize_image, to_unit_range
from utils.inference.backends.selection import Network, build_network
from utils.masks.encoding import MaskEncoding, encoding_of
from utils.masks.values import MaskValue
from utils.runtime.devices import choose_device
from utils.runtime.errors import UserError
from utils.runtime.memory import predicting_room
from utils.runtime.precision import Precision

from .checkpoint import load_checkpoint
from .logits import class_indices, class_probabilities, logits_of
from .tiling import (
    Tiling,
    fitting_tiling,
    full_size_strips,
    resized_strips,
    smaller_tiling,
    tiled_bands,
)

DEFAULT_SCALE = 0.5  # of the original, for files that cannot say


class Predictor:
    """Masks of images of any size.

    model: the network. scale: factor of images' width and height. masks: the encoding of the masks
    it learned from, or the value of each class alone. precision: where it runs and how, the CPU
    in float32 unless given.

    tiling: set it to take pictures by such tiles; None takes them whole, or by tiles where memory
    would not do. mirrored: set it to average with what is found in the mirrored picture.
    """

    def __init__(
        self,
        model: UNet,
        scale: float,
        masks: MaskEncoding | list[MaskValue],
        precision: Precision | None = None,
    ):
        self.precision = precision or Precision(torch.device('cpu'), amp=False)
        device = self.precision.device
        self.model = model.to(device, memory_format=torch.channels_last).eval()
        self.models = [self.model]  # whose probabilities are averaged
        self.networks: list[Network] = [self.model]  # what computes them
        self.scale, self.masks = scale, encoding_of(masks)
        self.tiling: Tiling | None = None
        self.mirrored = False

    def use_backend(self, backend: str) -> None:
        """Let a back end, not 'auto', compute all models; torch's folds BatchNorm too."""
        self.networks = [build_network(model, backend, self.precision) for model in self.models]

    @property
    def mask_values(self) -> list[MaskValue]:
        """The mask value of each class."""
        return self.masks.values

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
        """Load a checkpoint or a flat state_dict.

        scale: the checkpoint's unless given, 0.5 where it has none. classes, bilinear: what the
        caller believes; UserError where the file says otherwise.
        """
        checkpoint = load_checkpoint(path)
        model = checkpoint.model
        asked = {
            'n_classes': classes or model['n_classes'],
            'bilinear': bilinear or model['bilinear'],
        }
        wrong = [
            f'{name} is {model[name]}, not {v}' for name, v in asked.items() if model[name] != v
        ]
        if wrong:
            raise UserError(f'{path}: {" and ".join(wrong)}. Leave --classes and --bilinear out.')
        trained = checkpoint.scale
        if scale and trained and scale != trained:
            print(f'warning: {path} was trained at scale {trained:g}, predicting at {scale:g}')
        masks = checkpoint.masks or MaskEncoding(list(range(max(2, model['n_classes']))))
        scale = scale or trained or DEFAULT_SCALE
        precision = Precision(choose_device(device), amp)
        return cls(checkpoint.build_model(), scale, masks, precision)

    def threshold(self, asked: float | None) -> float:
        """The probability above which a pixel is foreground: as asked, else one half.

        Raises UserError for one asked of a network of more than two classes, where it cannot act.
        """
        classes = self.model.n_classes
        if asked is not None and classes > 2:
            raise UserError(
                f'--mask-threshold acts on 1 or 2 classes; the model has {classes}, of which the '
                'most probable is taken. Leave it out.'
            )
        return 0.5 if asked is None else asked

    @torch.inference_mode()
    def predict_batch(self, images: Tensor) -> Tensor:
        """Probabilities (B, K, H, W) float32 of images (B, C, H, W) at training scale.

        uint8, or float in [0, 1]. The average over all networks and, with `mirrored`, over the
        images and their mirror images.
        """
        images = images.to(self.precision.device, memory_format=torch.channels_last)
        images = to_unit_range(images)
        total = None
        for network in self.networks:
            for mirrored in (False, True)[: 1 + self.mirrored]:
                with self.precision.autocast():
                    logits = logits_of(network, images.flip(3) if mirrored else images)
                found = class_probabilities(logits)
                found = found.flip(3) if mirrored else found
                total = found if total is None else total.add_(found)
        return total.div_(len(self.networks) * (1 + self.mirrored))

    def predict_fitting(self, images: Tensor) -> Tensor:
        """predict_batch; of images that memory would not hold together one by one, or by tiles.

        Of two classes the second alone then.
        """
        height, width = images.shape[2:]
        if self.tiling_for((height, width), len(images)) is None:
            return self.predict_batch(images)
        return torch.stack([self._probabilities(image, (width, height)) for image in images])

    def predict_image(self, image: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        """Class indices (H, W) uint8 of an image, which is as for predict_probabilities.

        threshold: probability above which a pixel is foreground, with one or two classes.
        """
        return self.decide(self.predict_probabilities(image), threshold)

    @staticmethod
    def decide(probabilities: Tensor, threshold: float = 0.5) -> np.ndarray:
        """Class indices (H, W) uint8 of probabilities (K, H, W), as of predict_probabilities."""
        return class_indices(probabilities[None], threshold)[0].to(torch.uint8).cpu().numpy()

    def predict_probabilities(self, image: np.ndarray) -> Tensor:
        """Probabilities float32 of an image of any size: (K, H, W), on the network's device.

        image: (H, W, C) or (H, W), uint8, uint16, or float in [0, 1]. For two classes K is 1, the
        foreground, which says it all in half the work. Probabilities and not masks are resized to
        the image's size, for smooth outlines. Raises UserError for an image that is too small at
        this scale, or has not the network's channels.
        """
        pixels = array_pixels(image, Path('the image'))
        height, width, channels = pixels.shape
        if channels != self.model.n_channels:
            raise channels_error(Path('the image'), channels, self.model.n_channels)
        # torch warns of arrays that cannot be written to, as those of Pillow's pictures.
        tensor = torch.from_numpy(np.require(pixels, requirements=['C', 'W'])).permute(2, 0, 1)
        seen = self.size_seen((width, height), 'an image')
        return self._probabilities(resize_image(tensor, seen), (width, height))

    def predict_file(self, path: str | Path, threshold: float = 0.5) -> np.ndarray:
        """predict_image of a picture file; see file_probabilities."""
        return self.decide(self.file_probabilities(path), threshold)

    def file_probabilities(self, path: str | Path) -> Tensor:
        """predict_probabilities of a picture file, read as in training.

        It differs from predict_probabilities of the file's pixels where a JPEG is decoded at a
        reduced size: by half a grey level on average in what the network sees. Raises UserError
        for a file that cannot be read.
        """
        return self._probabilities(*self.read_file(Path(path)))

    def read_file(self, path: Path) -> tuple[Tensor, tuple[int, int]]:
        """A picture file as (C, h, w) at training scale, and its own (width, height).

        Raises UserError for a file that cannot be read or is too small at this scale.
        """
        image, size = read_image(path, self.model.n_channels, self.scale)
        self.size_seen(size, str(path))
        return image, size

    def size_seen(self, size: tuple[int, int], what: str) -> tuple[int, int]:
        """(width, height) in which the network sees an image of `size`; UserError if too small."""
        seen = scaled_size(size, self.scale)
        if min(seen) < MIN_SIZE:
            raise UserError(
                f'{what} of {size[0]} x {size[1]} at scale {self.scale:g} is {seen[0]} x '
                f'{seen[1]}; the network needs {MIN_SIZE} x {MIN_SIZE}. Use a larger --scale, as '
                'in training.'
            )
        return seen

    def _probabilities(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Probabilities, at (width, height) `size`, of an image (C, H, W) at training scale."""
        return torch.cat(list(self._alone(image, size)), dim=1)

    def strips(
        self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> Iterator[Iterator[Tensor]]:
        """For each image its probabilities (K, rows, W), from top to bottom.

        images: (C, h, w) each, at training scale; those of one size that stand together are
        predicted together. sizes: (width, height) to have. K is as in predict_probabilities. An
        image that memory could not hold is predicted by tiles while its strips are read.
        """
        pairs = zip(images, sizes, strict=True)
        for shape, group in groupby(pairs, key=lambda pair: pair[0].shape):
            alike = list(group)
            fit = len(alike) > 1 and self.tiling_for(shape[1:], len(alike)) is None
            together = self._together([image for image, _ in alike]) if fit else None
            for k, (image, size) in enumerate(alike):
                if together is None:
                    yield self._alone(image, size)
                else:
                    yield full_size_strips(together[k], size)

    def tiling_for(self, size: tuple[int, int], count: int = 1) -> Tiling | None:
        """Tiles for `count` images (h, w) at training scale; None takes them whole."""
        if self.tiling:
            return self.tiling if max(size) > self.tiling.side else None
        room = predicting_room(self.precision.device) // count
        wide = self.precision.name == 'fp32'
        return fitting_tiling(size, self.model.base_channels, room, wide) if room else None

    def _foreground(self, images: Tensor) -> Tensor:
        """predict_batch, of two classes the second alone."""
        probabilities = self.predict_batch(images)
        return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities

    def _together(self, images: list[Tensor]) -> Tensor | None:
        """Probabilities (B, K, h, w) of images in one batch; None where memory runs out."""
        try:
            return self._foreground(torch.stack(images))
        except torch.OutOfMemoryError:
            return None

    @torch.inference_mode()
    def _alone(self, image: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """The strips of one image; where memory runs out, by smaller and smaller tiles."""
        tiling, done = self.tiling_for(image.shape[1:]), 0
        while done < size[1]:
            done = yield from self._attempt(image, size, tiling, done)
            # Outside the handler, whose error holds on to the maps of the attempt.
            tiling = smaller_tiling(tiling, image.shape[1:])

    def _attempt(
        self, image: Tensor, size: tuple[int, int], tiling: Tiling | None, done: int
    ) -> Generator[Tensor, None, int]:
        """Strips from row `done` on; returns the rows done when memory ran out, or else all."""
        row, (height, width) = 0, image.shape[1:]
        try:
            for strip in self._strips(image, size, tiling):
                row += strip.shape[1]
                if row > done:  # else it was given before memory ran out
                    yield strip[:, done - row :]
                    done = row
        except torch.OutOfMemoryError:
            smaller = smaller_tiling(tiling, (height, width))
            if smaller is None:
                raise
            print(f'note: out of memory; {width} x {height} pixels go on by {smaller}')
        return done

    def _strips(
        self, image: Tensor, size: tuple[int, int], tiling: Tiling | None
    ) -> Iterator[Tensor]:
        if tiling is None:
            return full_size_strips(self._foreground(image[None])[0], size)
        bands = tiled_bands(lambda tile: self._foreground(tile[None])[0], image, tiling)
        return resized_strips(bands, image.shape[1], size)
