"""Convolutions whose gradients take less time on CPUs without AVX-512.

There oneDNN computes the weights' gradient of a 3 x 3 convolution of channels-last maps at 17 to
60 GFLOP/s, where matrix products of the same processor reach 90: 40 % of a training step
(dev/LOG.md, 2026-11-26). Axis letters: B batch, C input channels, O output channels, H, W pixels.
"""

import functools
import itertools
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of a block of windows: fewer make products slow, more leave the cache before they are multiplied.
PIXELS = 512
LIMITED = ('SSE41', 'AVX', 'AVX2', 'AVX2_VNNI', 'AVX2_VNNI_2')  # oneDNN's names without AVX-512


class Conv3x3(nn.Conv2d):
    """nn.Conv2d of 3 x 3 and stride 1, the same but for how its weights' gradient is computed."""

    def __init__(self, channels: int, out_channels: int, padding: int, bias: bool) -> None:
        super().__init__(channels, out_channels, 3, padding=padding, bias=bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Return (B, O, H', W') of input (B, C, H, W) float; H' is H with padding 1, else H - 2."""
        if not _own_gradients(self, input):
            return super().forward(input)
        return _Conv.apply(input, self.weight, self.bias, self.padding[0])


class ConvTranspose2x2(nn.ConvTranspose2d):
    """nn.ConvTranspose2d of 2 x 2 and stride 2, the same but for how its gradients are computed."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 2, stride=2)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        """Return (B, O, 2H, 2W) of input (B, C, H, W) float; output_size: torch's."""
        if output_size is not None or not _own_gradients(self, input):
            return super().forward(input, output_size)
        return _ConvTranspose.apply(input, self.weight, self.bias)


class _Conv(torch.autograd.Function):
    """A 3 x 3 convolution; the weights' gradient is a sum of products of windows and gradients."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        """Return torch's convolution."""
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep what the backward pass needs."""
        x, weight, bias, ctx.padding = inputs
        ctx.save_for_backward(x, weight)
        ctx.biases = None if bias is None else [len(bias)]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:  # type: ignore[override]
        """Return the gradients of x, weight and bias from that of the output (B, O, H', W')."""
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        own = need_weight and not torch.is_grad_enabled()  # enabled for gradients of gradients
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, ctx.biases, [1, 1], 2 * [ctx.padding], [1, 1], False, [0, 0], 1,
            [need_x, need_weight and not own, need_bias],
        )  # fmt: skip
        if own:
            of_weight = weight_gradient(x, gradient, ctx.padding)
        return of_x, of_weight, of_bias, None


class _ConvTranspose(torch.autograd.Function):
    """A 2 x 2 transposed convolution of stride 2, whose outputs each come from one input pixel."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return torch's transposed convolution."""
        return F.conv_transpose2d(x, weight, bias, stride=2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep what the backward pass needs."""
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:  # type: ignore[override]
        """Return the gradients of x, weight and bias from that of the output (B, O, 2H, 2W)."""
        x, weight = ctx.saved_tensors
        batch, channels, height, width = x.shape
        pixels = gradient.permute(0, 2, 3, 1).view(batch, height, 2, width, 2, -1)
        # One row for each input pixel: its four outputs' gradients.
        rows = pixels.transpose(2, 3).reshape(batch * height * width, -1)
        kernel = weight.permute(0, 2, 3, 1).reshape(channels, -1)  # (C, 4 O), a view
        inputs = x.permute(0, 2, 3, 1).reshape(-1, channels)
        of_x = (rows @ kernel.mT).view(batch, height, width, channels).permute(0, 3, 1, 2)
        of_weight = (inputs.mT @ rows).view(channels, 2, 2, -1).permute(0, 3, 1, 2)
        return of_x, of_weight, gradient.sum((0, 2, 3))


def weight_gradient(x: Tensor, gradient: Tensor, padding: int) -> Tensor:
    """Return the gradient (O, C, 3, 3), channels last, of a 3 x 3 convolution's weights.

    x: (B, C, H, W) float, the input. gradient: (B, O, H', W'), of the output; both channels last.
    padding: 0 or 1. Windows of about PIXELS pixels are laid out in one matrix, multiplied
    and overwritten: all of them at once would be nine times the input.
    """
    x, gradient = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)  # (B, H, W, C), (…, O)
    images, height, width, outputs = gradient.shape
    _, high, wide, channels = x.shape
    rows = max(1, min(height, PIXELS // width))
    group = max(1, min(images, PIXELS // (rows * width)))  # over 1 only for whole images
    band = x.new_zeros(group, rows + 2, wide + 2 * padding, channels)
    whole, down, right, _ = band.stride()
    # Three neighbours in a row lie side by side in memory.
    views = band.as_strided((group, rows, width, 3, 3 * channels), (whole, down, right, down, 1))
    windows = torch.empty_like(views, memory_format=torch.contiguous_format)
    total = x.new_zeros(outputs, 9 * channels)
    for image, first in itertools.product(range(0, images, group), range(0, height, rows)):
        some, count = min(group, images - image), min(rows, height - first)
        top = first - padding
        low, end = max(0, top), min(high, top + count + 2)
        band[:some, : low - top] = 0
        band[:some, low - top : end - top, padding : padding + wide] = x[
            image : image + some, low:end
        ]
        band[:some, end - top :] = 0
        windows[:some, :count] = views[:some, :count]
        taken = gradient[image : image + some, first : first + count].reshape(-1, outputs)
        total.addmm_(taken.mT, windows[:some, :count].view(-1, 9 * channels))
    return total.view(outputs, 3, 3, channels).permute(0, 3, 1, 2)


def _own_gradients(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Return whether a layer's gradients here take less time than torch's.

    Autocast has other precisions; compilers and exporters take torch's own operations only.
    """
    weight = layer.weight
    return (
        not torch.compiler.is_compiling()  # first: what follows would break a compiler's graph
        and layer.training
        and torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and weight.is_contiguous(memory_format=torch.channels_last)
        and without_avx512()
        and not torch.is_autocast_enabled('cpu')
    )


@functools.cache
def without_avx512() -> bool:
    """Return whether oneDNN has AVX2, but not AVX-512, because of the processor or a variable."""
    limit = os.environ.get('ONEDNN_MAX_CPU_ISA') or os.environ.get('DNNL_MAX_CPU_ISA') or ''
    capability = torch.backends.cpu.get_cpu_capability()
    return capability == 'AVX2' or (capability.startswith('AVX512') and limit.upper() in LIMITED)
