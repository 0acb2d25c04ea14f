"""Importance of the channels of a network.

Each measure has one form: `measure(model, batches, criterion)` returns for each group (see
surgery.groups) a float64 tensor with one importance per channel, at least 0, on the CPU.
Axis letters: B batch, C channels, H and W pixels.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from unet import UNet
from unet.widths import Layer, layers
from utils.inference.logits import logits_of

Importance = dict[int, Tensor]
# Images (B, C, H, W) float in [0, 1], masks (B, H, W) of class indices or IGNORE.
Batches = Iterable[tuple[Tensor, Tensor]]
Criterion = Callable[[Tensor, Tensor], Tensor]  # the loss, a scalar, of logits and masks


def taylor(model: UNet, batches: Batches, criterion: Criterion) -> Importance:
    """Return |sum of activation x gradient| of each channel, averaged over the images.

    That is, to first order, how much the loss changes if the channel's map becomes zero
    (https://arxiv.org/abs/1611.06440). The network is in evaluation mode meanwhile, so the batches
    do not change its statistics. A batch's loss counts once for each image, as a mean over images
    does. Raises ValueError without images.
    """
    modules = dict(model.named_modules())
    sums: Importance = {}
    mode, images = model.training, 0
    model.eval()
    handles = [
        modules[layer.activation].register_forward_hook(partial(_watch, sums, layer.output))
        for layer in layers(model.bilinear)[:-1]
    ]
    try:
        for pictures, masks in batches:
            logits = logits_of(model, pictures, (masks.shape[1], masks.shape[2]))
            loss = criterion(logits, masks) * len(pictures)
            # Of the parameters one is enough to reach all maps: no .grad is touched.
            torch.autograd.grad(loss, next(model.parameters()))
            images += len(pictures)
    finally:
        for handle in handles:
            handle.remove()
        model.train(mode)
    if not images:
        raise ValueError('no images to measure importance on')
    return {group: total.cpu() / images for group, total in sorted(sums.items())}


def _watch(
    sums: Importance, group: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    """Add |sum of output x gradient| of each image to sums[group] in the backward pass."""
    values = output.detach()  # `output` itself would be in a circle with its hook, and stay
    exact = torch.promote_types(values.dtype, torch.float32)

    def add(gradient: Tensor) -> None:
        """Add what the gradient (B, C, H, W) of the output says."""
        product = values.to(exact) * gradient.to(exact)
        product = product.sum((2, 3), dtype=torch.float64).abs().sum(0)
        sums[group] = sums[group] + product if group in sums else product

    output.register_hook(add)


def batchnorm_scale(
    model: UNet, batches: Batches = (), criterion: Criterion | None = None
) -> Importance:
    """Return |BatchNorm's scale| of each channel (https://arxiv.org/abs/1708.06519).

    Upsampled maps have no BatchNorm: theirs is the norm of the channel's filter, scaled so that the
    group's mean is that of all BatchNorms. Raises ValueError for a network without BatchNorm.
    """
    if model.norm != 'batch':
        raise ValueError('a network without BatchNorm has no scales to measure importance by')
    modules = dict(model.named_modules())
    described = layers(model.bilinear)[:-1]
    found = {
        layer.output: modules[layer.norm].weight.detach().double().abs().cpu()
        for layer in described
        if layer.norm
    }
    mean = torch.cat([*found.values()]).mean()
    for layer in described:
        if layer.norm is None:
            norms = _filters(modules, layer).square().sum((0, 2, 3)).sqrt()
            found[layer.output] = norms * mean / norms.mean().clamp(min=1e-12)
    return dict(sorted(found.items()))


def magnitude(model: UNet, batches: Batches = (), criterion: Criterion | None = None) -> Importance:
    """Return the norm of all weights that go with each channel, relative to the group's mean.

    These are its filter and its columns in the layers that take it, so that a channel of an encoder
    block has those in the decoder, too (https://arxiv.org/abs/2301.12900).
    """
    modules = dict(model.named_modules())
    described = layers(model.bilinear)
    every = {group: torch.arange(width) for group, width in enumerate(model.widths)}
    squares = {
        layer.output: _filters(modules, layer).square().sum((0, 2, 3)) for layer in described[:-1]
    }
    for layer in described[1:]:
        start, taken = 0, _filters(modules, layer).square().sum((1, 2, 3))
        for group in layer.inputs:
            squares[group] = squares[group] + taken[start : start + len(every[group])]
            start += len(every[group])
    norms = {group: total.sqrt() for group, total in sorted(squares.items())}
    return {group: norm / norm.mean().clamp(min=1e-12) for group, norm in norms.items()}


def _filters(modules: dict[str, nn.Module], layer: Layer) -> Tensor:
    """Return the weight of a layer as (inputs, outputs, h, w), float64, on the CPU."""
    weight = modules[layer.name].weight.detach().double().cpu()  # type: ignore[operator,union-attr]
    return weight if layer.transposed else weight.transpose(0, 1)


MEASURES = {'taylor': taylor, 'batchnorm': batchnorm_scale, 'magnitude': magnitude}
