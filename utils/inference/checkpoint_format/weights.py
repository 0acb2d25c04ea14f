"""Weights of a checkpoint: the network that their shapes tell, and whether they fit it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unet import UNet, default_widths
from unet.widths import COUNT, follow_below, layers
from utils.runtime.errors import UserError, first_few

from .files import COUNTER, FIRST
from .schema import MODEL, check_entries

LAST = 'outc.conv.weight'
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def infer_model(path: Path, weights: dict, described: dict | None = None) -> dict:
    """Return the arguments of UNet that shapes tell, all but padding and dropout.

    `widths` is among them only where they are not those of `base_channels`. described: arguments
    of a description, kept where shapes do not tell them. Its widths are kept for the error
    where they may be right, and an entry is missing or of another shape.

    Raises UserError for entries that are no weights of a U-Net. No memory is taken for a network.
    """
    ends = [weights.get(name) for name in (FIRST, LAST)]
    if None in [end if end is None else True for end in ends]:
        missing = FIRST if ends[0] is None else LAST
        raise UserError(
            f'{path} holds no U-Net of this kind: no {missing!r} among {first_few(weights)}. '
            'Expected a file written by train.py or by the original.'
        )
    shapes = [end.shape if isinstance(end, Tensor) and end.dim() == 4 else (0, 0) for end in ends]
    model: dict[str, Any] = {
        'n_channels': shapes[0][1],
        'n_classes': shapes[1][0],
        'bilinear': 'up1.up.weight' not in weights,
        'base_channels': shapes[0][0],
    }
    check_entries(path, model, MODEL, {}, 'the weights tell that ')
    if 'inc.double_conv.0.bias' in weights:
        model['norm'] = 'none'
    described = described or {}
    if any(model[name] != described.get(name) for name in ('bilinear', 'base_channels')):
        described = {name: value for name, value in described.items() if name != 'widths'}
    model = described | model
    widths = _infer_widths(weights, model['bilinear'])
    if widths == default_widths(model['base_channels'], model['bilinear']):
        model.pop('widths', None)
    elif widths and not _unfit(weights, _expected(model | {'widths': widths})):
        model['widths'] = widths
    return model


def _infer_widths(weights: dict, bilinear: bool) -> list[int] | None:
    """Return the widths that the filters have, None if one is missing or empty."""
    widths = [0] * COUNT
    for layer in layers(bilinear)[:-1]:
        filters = weights.get(f'{layer.name}.weight')
        if not isinstance(filters, Tensor) or filters.dim() != 4 or not filters.numel():
            return None
        widths[layer.output] = filters.shape[1 if layer.transposed else 0]
    return follow_below(widths) if bilinear else widths


def _expected(model: dict) -> dict[str, Tensor]:
    with torch.device('meta'):  # only names and shapes are needed
        return UNet(**model).state_dict()


def _unfit(weights: dict, expected: dict[str, Tensor]) -> list[str]:
    """Return the names of entries that are missing, unknown, or of other shapes and types."""
    unfit = [k for k, v in expected.items() if k not in weights or not _fits(weights[k], v, k)]
    return unfit + [k for k in weights if k not in expected]


def check_weights(path: Path, weights: dict, model: dict) -> dict[str, Tensor]:
    """Return the weights as the network's own state_dict has them; model: UNet's arguments.

    Raises UserError for missing, unknown or other entries, and for NaN and infinity.
    """
    expected = _expected(model)
    if unfit := _unfit(weights, expected):
        raise UserError(
            f'{path} looks like UNet({model}) but {len(unfit)} entries do not fit: '
            f'{first_few(unfit)}. Expected the names, shapes and types of that network.'
        )
    if broken := not_finite(weights):
        raise UserError(
            f'{path}: weights with NaN or infinity, {len(broken)} tensors: {first_few(broken)}. '
            'Their training has diverged, or the file was damaged. Use a file of an earlier epoch.'
        )
    for name in expected:
        expected[name] = weights[name]
    return expected


def not_finite(weights: dict[str, Tensor]) -> list[str]:
    """Return the names of weights with NaN or infinity, as float32, which networks compute in.

    aminmax passes both on, in a tenth of isfinite's time: 0.05 instead of 0.5 s for 31 million.
    """
    bounds = {name: torch.stack(torch.aminmax(tensor)) for name, tensor in weights.items()}
    return [name for name, bound in bounds.items() if not torch.isfinite(bound.float()).all()]


def _fits(found: object, expected: Tensor, name: str) -> bool:
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    plain = found.layout == torch.strided and found.device.type == 'cpu'
    types = (torch.int64, torch.int32, *FLOATS) if name.endswith(COUNTER) else FLOATS
    return plain and found.dtype in types
