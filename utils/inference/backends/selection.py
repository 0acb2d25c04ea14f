"""What computes the network in prediction: torch, or a runtime that needs a package of its own.

Axis letters: B batch, C channels, H and W pixels, K classes.

torch.compile, where there is a compiler for it.

BatchNorm as part of the convolution before it: the same network, for prediction only, faster.
"""

import copy
import importlib.util
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from unet import UNet
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision

# Logits (B, K, H, W) of images (B, C, H, W), float in [0, 1].
Network = Callable[[Tensor], Tensor]

PACKAGES = {
    'onnx': ('onnx', 'onnxscript', 'onnxruntime'),
    'openvino': ('openvino',),
    'int8': ('openvino', 'nncf'),
}

# Pixels seen by the network from which OpenVINO wins back the 2.5 s in which it reads the network:
# on two cores it saved 1.3 µs a pixel at width 64, and a quarter of it at half the width.
WORTH_PIXELS = 2**21

WIDTH = 64


def choose_backend(asked: str, device: torch.device, pixels: int, model: UNet) -> str:
    """The back end of --backend for so many pixels to predict, at the network's scale.

    'auto' is OpenVINO on a CPU where it is installed and there is work enough, else torch. Raises
    UserError for one whose packages are missing, or which does not compute on this device.
    """
    if asked == 'auto':
        enough = pixels * (model.base_channels / WIDTH) ** 2 >= WORTH_PIXELS
        can = device.type == 'cpu' and model.padding == 'same'
        return 'openvino' if enough and can and not missing_packages('openvino') else 'torch'
    _check(asked, device, model, f'--backend {asked}')
    return asked


def check_int8(device: torch.device, model: UNet) -> None:
    """Raise UserError where --quantize int8 cannot be had."""
    _check('int8', device, model, '--quantize int8')


def check_padded(model: UNet, option: str) -> None:
    """Raise UserError for a network without padding, which torch alone computes."""
    if model.padding != 'same':
        raise UserError(
            f'{option} is for padded networks, and this one was trained with --padding '
            f'{model.padding}. Leave it out.'
        )


def _check(backend: str, device: torch.device, model: UNet, option: str) -> None:
    if backend in PACKAGES:
        check_padded(model, option)
    if missing := missing_packages(backend):
        raise UserError(
            f'{option} needs {" and ".join(missing)}: pip install '
            f'{" ".join(PACKAGES[backend])}. Or leave it out.'
        )
    if backend in PACKAGES and device.type != 'cpu':
        raise UserError(f'{option} computes on a CPU: say --device cpu, or leave it out')


def missing_packages(backend: str) -> list[str]:
    """The packages that a back end needs and this environment has not."""
    needed = PACKAGES.get(backend, ())
    return [name for name in needed if importlib.util.find_spec(name) is None]


def build_network(model: UNet, backend: str, precision: MixedPrecision) -> Network:
    """The network as a back end, not 'auto', computes it; the model stays as it is."""
    network = folded(model)
    if backend == 'openvino':  # imported where wanted, since they need packages of their own
        from .openvino import OpenVinoNetwork, converted

        return OpenVinoNetwork(converted(network), precision)
    if backend == 'onnx':
        from .onnx import OnnxNetwork

        return OnnxNetwork(network)
    network = network.to(precision.device, memory_format=torch.channels_last)
    if backend == 'compile':
        return compiled(network, precision.device, '--backend compile')
    return network


def compiled(model: UNet, device: torch.device, option: str = '--compile') -> nn.Module:
    """The network's forward pass, compiled; weights and their names are the model's.

    Raises UserError, at once, where torch finds no compiler that works, for the option that asked.
    """
    try:
        torch.compile(torch.nn.functional.silu)(torch.ones(8, device=device))
    # Whatever is missing, a C++ compiler, Triton or Python's headers, has its own type of error.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f'{option}: no compiler works here ({reason[0]:.200}). On a CPU torch needs a C++ '
            f'compiler (apt install g++), on a GPU Triton too. Or leave {option} out.'
        ) from error
    return torch.compile(model)


def folded(model: UNet) -> UNet:
    """A copy in evaluation mode whose convolutions scale and shift as the BatchNorm after them did.

    Equal but for rounding (4e-6 in the logits of a trained network). Measured at width 64 on two
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
