"""Inference backends: PyTorch, torch.compile, ONNX Runtime, OpenVINO; BatchNorm folding."""

import copy
import importlib.util
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from unet import UNet, default_widths
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision

PACKAGES: dict[str, tuple[str, ...]] = {
    'onnx': ('onnx', 'onnxscript', 'onnxruntime'),
    'openvino': ('openvino',),
    'int8': ('openvino', 'nncf'),
}

# Pixels at network resolution from which OpenVINO makes up for the 2.5 s it takes to convert the
# network: on two cores it saved 1.3 µs per pixel at this width, a quarter of that at half of it.
WORTH_PIXELS = 2**21
WIDTH = 64


def choose_backend(
    asked: str, device: torch.device, pixels: int, *models: UNet, as_original: bool = False
) -> str:
    """Return the backend of --backend, or 'int8' of --quantize, to predict so many pixels.

    models: one, or several whose probabilities are averaged. 'auto' is OpenVINO for enough pixels
    at network resolution on a CPU, if it is installed, else torch. as_original: the predictor's;
    'auto' then is 'unfolded', so that masks are the original's: BatchNorm folded changed up to 9
    of 1,000,000 pixels. Raises UserError for missing
    packages, and a device or network without support.
    """
    if asked == 'auto' and as_original:
        return 'unfolded'
    if asked == 'auto':
        padded = all(model.padding == 'same' for model in models)
        if device.type != 'cpu' or not padded or missing_packages('openvino'):
            return 'torch'
        # Each network is converted, so what counts is their mean.
        costs = [
            model.multiply_adds((16, 16))
            / model.multiply_adds((16, 16), default_widths(WIDTH, model.bilinear))
            for model in models
        ]
        return 'openvino' if pixels * sum(costs) / len(costs) >= WORTH_PIXELS else 'torch'
    option = '--quantize int8' if asked == 'int8' else f'--backend {asked}'
    if asked in PACKAGES:
        for model in models:
            check_padded(model, option)
        if missing := missing_packages(asked):
            raise UserError(
                f'{option} needs {" and ".join(missing)}: pip install '
                f'{" ".join(PACKAGES[asked])}. Or leave it out.'
            )
        if device.type != 'cpu':
            raise UserError(f'{option} needs a CPU. Use --device cpu, or leave it out.')
    return asked


def check_padded(model: UNet, option: str) -> None:
    """Raise UserError for a network without padding, which only torch supports."""
    if model.padding != 'same':
        raise UserError(
            f'{option} needs a padded network; this one was trained with --padding '
            f'{model.padding}. Leave it out.'
        )


def missing_packages(backend: str) -> list[str]:
    """Return the packages that a backend needs and that are not installed."""
    return [name for name in PACKAGES[backend] if importlib.util.find_spec(name) is None]


def build_network(
    model: UNet, backend: str, precision: MixedPrecision
) -> Callable[[Tensor], Tensor]:
    """Return a LogitsFunction: a copy of the network on a backend other than 'auto'.

    BatchNorm is folded, except by 'unfolded': torch, with the model's own logits to the last bit.
    """
    if backend == 'unfolded' and precision.name == 'fp32':
        return model
    network = copy.deepcopy(model).eval() if backend == 'unfolded' else fold_batchnorm(model)
    if backend == 'openvino':  # imported here, because these backends need their own packages
        from .openvino import OpenVinoNetwork, convert

        return OpenVinoNetwork(convert(network), precision)
    if backend == 'onnx':
        from .onnx import OnnxNetwork

        return OnnxNetwork(network)
    network = cast_convolutions(network.to(precision.device), precision)
    network = network.to(memory_format=torch.channels_last)
    if backend == 'compile':
        return compiled(network, precision.device, '--backend compile')
    return network


def compiled(model: nn.Module, device: torch.device, option: str = '--compile') -> nn.Module:
    """Return the network with its forward pass compiled; it shares the model's weights.

    Raises UserError, naming the option, if torch finds no working compiler.
    """
    try:
        torch.compile(torch.nn.functional.silu)(torch.ones(8, device=device))
    # A missing C++ compiler, missing Triton and missing Python headers raise different types.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f'{option}: no working compiler ({reason[0]:.200}). On a CPU torch needs a C++ '
            f'compiler (apt install g++), on a GPU also Triton. Or leave {option} out.'
        ) from error
    # Kernels for each size of images: for any size, which torch chooses at the second one, they
    # were a third slower than these on an H100, and slower than no compiler (dev/GPU.md).
    return torch.compile(model, dynamic=False)  # type: ignore[return-value]  # gives a Module


def cast_convolutions(network: UNet, precision: MixedPrecision) -> UNet:
    """Return the network, its convolutions' weights and biases cast to the precision.

    Autocast would cast them for each batch; its logits are equal to the last bit. Other layers stay
    in float32, because autocast does not cast them.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.to(precision.dtype)
    return network


def fold_batchnorm(model: UNet) -> UNet:
    """Return a copy in evaluation mode with each BatchNorm folded into the convolution before it.

    Logits are equal except for rounding (4e-6 for a trained network). Measured at width 64 on two
    cores: 0.67 times the time at 192 x 128 pixels, 0.73 at 959 x 640.
    """
    model = copy.deepcopy(model).eval()
    for block in model.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for k, (layer, norm) in enumerate(pairwise(block)):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block[k], block[k + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
    return model
