"""Networks computed by OpenVINO, on a CPU (https://docs.openvino.ai).

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

import functools
import warnings
from pathlib import Path

import openvino
import torch
from torch import Tensor

from unet import UNet
from utils.runtime.precision import MixedPrecision

# Sizes of image for which the network is kept compiled; each takes its weights' memory once more.
KEPT = 4


def converted(model: UNet) -> openvino.Model:
    """The network for images (B, C, H, W) of any size, float32 in [0, 1]; 2.5 s at width 64."""
    example = torch.zeros(1, model.n_channels, 64, 48)
    shape = openvino.PartialShape([-1, model.n_channels, -1, -1])
    with warnings.catch_warnings():
        # OpenVINO's way through torch.jit is its matter; sizes are traced, not taken as they are.
        warnings.simplefilter('ignore')
        return openvino.convert_model(model, example_input=example, input=[shape])


class OpenVinoNetwork:
    """Logits (B, K, H, W) float32 of images (B, C, H, W), float in [0, 1], on the CPU.

    model: of images of any size, or its file. Compiled for each size it meets, in 0.3 s: with sizes
    left open 8-bit convolutions are not used (1.6 s instead of 0.7 s an image of 959 x 640 at
    width 64).
    """

    def __init__(self, model: openvino.Model | Path, precision: MixedPrecision):
        self.core = openvino.Core()
        self.model = self.core.read_model(model) if isinstance(model, Path) else model
        self.options = {
            'INFERENCE_PRECISION_HINT': 'bf16' if precision.name == 'bf16' else 'f32',
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'PERFORMANCE_HINT': 'LATENCY',
        }
        self._compiled = functools.lru_cache(KEPT)(self._compile)

    def _compile(self, shape: torch.Size) -> openvino.CompiledModel:
        self.model.reshape(list(shape))
        return self.core.compile_model(self.model, 'CPU', self.options)

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W) float."""
        pixels = images.float().contiguous().numpy()
        return torch.from_numpy(self._compiled(images.shape)(pixels)[0])
