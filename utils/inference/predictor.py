"""A trained network that predicts class indices for images, see docs/python.md.

Axis letters: C channels, H and W pixels, K classes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unet import UNet
from utils.data.input_checks import network_size
from utils.images.arrays import array_pixels, channels_error
from utils.images.resizing import read_image, resize_image
from utils.masks.encoding import MaskEncoding, encoding_of
from utils.masks.values import MaskValue
from utils.runtime.devices import choose_device
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision

from .checkpoint import load_checkpoint
from .logits import class_indices
from .tensor_predictor import TensorPredictor


class Predictor(TensorPredictor):
    """A TensorPredictor that reads and resizes images, of any size, and knows the mask encoding.

    scale: factor of image width and height. masks: encoding of the training masks, or only the
    mask value of each class. model, precision: see TensorPredictor.
    """

    def __init__(
        self,
        model: UNet,
        scale: float,
        masks: MaskEncoding | list[MaskValue],
        precision: MixedPrecision | None = None,
    ):
        super().__init__(model, precision)
        self.scale, self.masks = scale, encoding_of(masks)

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

        scale: by default the checkpoint's, or 0.5 if it has none. Raises UserError if `classes` or
        `bilinear` are given and differ from the file's.
        """
        checkpoint = load_checkpoint(path)
        model, trained = checkpoint.model, checkpoint.scale
        asked = {'n_classes': classes, 'bilinear': bilinear}
        wrong = [f'{k} is {model[k]}, not {v}' for k, v in asked.items() if v and model[k] != v]
        if wrong:
            raise UserError(f'{path}: {" and ".join(wrong)}. Leave --classes and --bilinear out.')
        if scale and trained and scale != trained:
            print(f'warning: {path} was trained at scale {trained:g}, predicting at {scale:g}')
        masks = checkpoint.masks or MaskEncoding(list(range(max(2, model['n_classes']))))
        precision = MixedPrecision(choose_device(device), amp)
        return cls(checkpoint.build_model(), scale or trained or 0.5, masks, precision)

    def threshold(self, asked: float | None) -> float:
        """Return `asked`, by default 0.5; raise UserError if asked for more than two classes."""
        if asked is not None and self.model.n_classes > 2:
            raise UserError(
                f'--mask-threshold acts on 1 or 2 classes; the model has {self.model.n_classes}, '
                'of which the most probable is taken. Leave it out.'
            )
        return 0.5 if asked is None else asked

    def predict_image(self, image: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        """Return class indices (H, W) uint8 for an image; see predict_probabilities.

        Of one or two classes, the foreground is where its probability is over `threshold`.
        """
        return self.classify(self.predict_probabilities(image), threshold)

    def predict_probabilities(self, image: np.ndarray) -> Tensor:
        """Return probabilities (K, H, W) float32, on the network's device, for an image.

        image: (H, W, C) or (H, W), uint8, uint16, or float in [0, 1], of any size. For two classes
        K is 1, the foreground. Probabilities, not masks, are resized, so that outlines are smooth.
        Raises UserError if the image is too small at this scale or has other channels.
        """
        pixels = array_pixels(image, Path('the image'))
        height, width, channels = pixels.shape
        if channels != self.model.n_channels:
            raise channels_error(Path('the image'), channels, self.model.n_channels)
        # torch warns about read-only arrays, such as those of Pillow's images.
        tensor = torch.from_numpy(np.require(pixels, requirements=['C', 'W'])).permute(2, 0, 1)
        seen = network_size((width, height), self.scale, 'an image')
        return self.resized_probabilities(resize_image(tensor, seen), (width, height))

    def predict_file(self, path: str | Path, threshold: float = 0.5) -> np.ndarray:
        """Return class indices (H, W) uint8 for an image file, decoded as in training.

        Where a JPEG is decoded at reduced size, the network's input differs from predict_image's by
        half a grey level on average. Raises UserError if the file cannot be read.
        """
        return self.classify(self.resized_probabilities(*self.read_file(Path(path))), threshold)

    @staticmethod
    def classify(probabilities: Tensor, threshold: float = 0.5) -> np.ndarray:
        """Return class indices (H, W) uint8 for probabilities (K, H, W)."""
        return class_indices(probabilities[None], threshold)[0].to(torch.uint8).cpu().numpy()

    def read_file(self, path: Path) -> tuple[Tensor, tuple[int, int]]:
        """Return a file as (C, h, w) at network resolution, and its own (width, height)."""
        image, size = read_image(path, self.model.n_channels, self.scale)
        network_size(size, self.scale, str(path))
        return image, size


def average_predictors(predictors: list[Predictor], names: list[str]) -> Predictor:
    """Return the first predictor, changed to average the probabilities of all.

    Raises UserError, with `names`, if they take different images or predict different classes.
    """
    first = predictors[0]
    for other, name in zip(predictors[1:], names[1:], strict=True):
        compared = {
            'channels': (first.model.n_channels, other.model.n_channels),
            'outputs': (first.model.n_classes, other.model.n_classes),
            'mask values': (first.mask_values, other.mask_values),
            'class names': (first.masks.names, other.masks.names),
            'scale': (first.scale, other.scale),
        }
        wrong = [f'{what} {one} and {two}' for what, (one, two) in compared.items() if one != two]
        if wrong:
            raise UserError(
                f'{names[0]} and {name} cannot be averaged: {", ".join(wrong)}. Use networks with '
                'the same classes, channels and scale (--scale sets one scale for all).'
            )
    first.models = [predictor.model for predictor in predictors]
    first.networks = list(first.models)
    return first
