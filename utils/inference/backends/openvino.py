"""The OpenVINO backend, on a CPU (https://docs.openvino.ai)."""

import functools
import warnings
from pathlib import Path

import openvino
import torch
from torch import Tensor

from unet import UNet
from utils.runtime.precision import MixedPrecision

# Image shapes whose compiled network is kept; each needs the memory of the weights once more.
MAX_COMPILED = 4


def convert(model: UNet) -> openvino.Model:
    """Convert a network for images of any number and size; takes 2.5 s at width 64."""
    example = torch.zeros(1, model.n_channels, 64, 48)
    shape = openvino.PartialShape([-1, model.n_channels, -1, -1])
    with warnings.catch_warnings():
        # OpenVINO uses deprecated torch.jit; the traced sizes of the example are not kept.
        warnings.simplefilter('ignore')
        return openvino.convert_model(model, example_input=example, input=[shape])


class OpenVinoNetwork:
    """A LogitsFunction that computes float32 logits on the CPU.

    model: a converted network, or its file. It is compiled for each shape of images, in 0.3 s,
    because OpenVINO uses no 8-bit convolutions for dynamic shapes (1.6 s instead of 0.7 s for an
    image of 959 x 640 at width 64).
    """

    def __init__(self, model: openvino.Model | Path, precision: MixedPrecision):
        self.core = openvino.Core()
        self.model = self.core.read_model(model) if isinstance(model, Path) else model
        self.options = {
            'INFERENCE_PRECISION_HINT': 'bf16' if precision.name == 'bf16' else 'f32',
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'PERFORMANCE_HINT': 'LATENCY',
        }
        self._compiled = functools.lru_cache(MAX_COMPILED)(self._compile)

    def _compile(self, shape: torch.Size) -> openvino.CompiledModel:
        self.model.reshape(list(shape))
        return self.core.compile_model(self.model, 'CPU', self.options)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits, see LogitsFunction."""
        pixels = images.float().contiguous().numpy()
        return torch.from_numpy(self._compiled(images.shape)(pixels)[0])
