"""A trained network, ready to predict: load once, then arrays in, class indices out.

    predictor = Predictor.load('checkpoints/best.pth')
    indices = predictor.predict_image(np.asarray(Image.open('car.jpg')))

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unet import MIN_SIZE, UNet

from .checkpoint import load_checkpoint
from .data_loading import read_image, resize_image, to_unit_range
from .decoding import scaled_size
from .device import Precision, choose_device
from .dice_score import class_indices, class_probabilities
from .errors import UserError
from .mask_values import Value

DEFAULT_SCALE = 0.5  # of the original, for files that cannot say


class Predictor:
    """Masks of images of any size.

    model: the network. scale: factor of images' width and height. mask_values: the value of each
    class in the masks it learned from. precision: where it runs and how, the CPU in float32
    unless given.
    """

    def __init__(
        self,
        model: UNet,
        scale: float,
        mask_values: list[Value],
        precision: Precision | None = None,
    ):
        self.precision = precision or Precision(torch.device('cpu'), amp=False)
        device = self.precision.device
        self.model = model.to(device, memory_format=torch.channels_last).eval()
        self.scale, self.mask_values = scale, mask_values

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
        values = checkpoint.mask_values or list(range(max(2, model['n_classes'])))
        scale = scale or trained or DEFAULT_SCALE
        precision = Precision(choose_device(device), amp)
        return cls(checkpoint.build_model(), scale, values, precision)

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
        """Probabilities (B, K, H, W) float32 of images (B, C, H, W) uint8 at training scale."""
        images = images.to(self.precision.device, memory_format=torch.channels_last)
        with self.precision.autocast():
            logits = self.model(to_unit_range(images))
        return class_probabilities(logits)

    def predict_image(self, image: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        """Class indices (H, W) uint8 of an image (H, W, C) or (H, W) uint8 of any size.

        threshold: probability above which a pixel is foreground, with one or two classes.
        Probabilities and not masks are resized to the image's size, for smooth outlines.
        Raises UserError for an image that is too small at this scale.
        """
        height, width = image.shape[:2]
        # torch warns of arrays that cannot be written to, as those of Pillow's pictures.
        tensor = torch.from_numpy(np.require(image, requirements=['C', 'W']))
        tensor = tensor.view(height, width, -1).permute(2, 0, 1)
        size = self._size_seen((width, height), 'an image')
        return self._predict(resize_image(tensor, size), (width, height), threshold)

    def predict_file(self, path: str | Path, threshold: float = 0.5) -> np.ndarray:
        """predict_image of a picture file, read as in training; UserError for one it cannot read.

        It differs from predict_image of the file's pixels where a JPEG is decoded at a reduced
        size: by half a grey level on average in what the network sees.
        """
        image, size = read_image(Path(path), self.model.n_channels, self.scale)
        self._size_seen(size, str(path))
        return self._predict(image, size, threshold)

    def _size_seen(self, size: tuple[int, int], what: str) -> tuple[int, int]:
        """(width, height) in which the network sees an image of `size`; UserError if too small."""
        seen = scaled_size(size, self.scale)
        if min(seen) < MIN_SIZE:
            raise UserError(
                f'{what} of {size[0]} x {size[1]} at scale {self.scale:g} is {seen[0]} x '
                f'{seen[1]}; the network needs {MIN_SIZE} x {MIN_SIZE}. Use a larger --scale, as '
                'in training.'
            )
        return seen

    @torch.inference_mode()
    def _predict(self, image: Tensor, size: tuple[int, int], threshold: float) -> np.ndarray:
        """Class indices, at (width, height) `size`, of (C, H, W) uint8 at training scale."""
        probabilities = self.predict_batch(image[None])
        if probabilities.shape[1] == 2:  # the foreground says it all, in half the work
            probabilities = probabilities[:, 1:]
        probabilities = F.interpolate(probabilities, size[::-1], mode='bilinear')
        return class_indices(probabilities, threshold)[0].to(torch.uint8).cpu().numpy()
