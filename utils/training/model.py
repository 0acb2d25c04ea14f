"""The network that a run trains, a new one or one that goes on from weights, and its loss."""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from unet import UNet
from utils.inference.checkpoint import Checkpoint
from utils.runtime.errors import UserError
from utils.training.optimization.loss import loss_weights, segmentation_loss
from utils.training.optimization.recipes import Recipe

from .data import TrainingData


def network_config(args: argparse.Namespace, recipe: Recipe, source: Checkpoint | None) -> dict:
    """UNet's padding, norm and dropout: as asked, or --load's, or the recipe's.

    Raises UserError for a padding or norm that is not that of the weights to start from.
    """
    usual = {'padding': 'same', 'norm': 'batch', 'dropout': 0.0}
    config = usual | (recipe.network if source is None else source.model)
    config = {name: config[name] for name in usual}
    for name in usual:
        asked = getattr(args, name)
        if asked is None:
            continue
        if source and name != 'dropout' and asked != config[name]:
            raise UserError(
                f'--{name} is {asked}, but {args.load} has {config[name]}. Leave it out.'
            )
        config[name] = asked
    return config


def build_model(
    args: argparse.Namespace, config: dict, data: TrainingData, source: Checkpoint | None
) -> UNet:
    """A new network, or the source's with a new last layer where the classes differ.

    config: of network_config.
    """
    torch.manual_seed(args.seed)
    values = len(data.dataset.mask_values)
    if source is None:
        n_classes = 1 if args.classes == 1 else values
        width = args.base_channels or 64
        return UNet(data.dataset.channels, n_classes, args.bilinear, width, **config)
    has = source.model
    if args.bilinear and not has['bilinear']:
        raise UserError(f'--bilinear, but {args.load} has transposed convolutions. Leave it out.')
    if args.base_channels not in (None, has['base_channels']):
        raise UserError(
            f'--base-channels is {args.base_channels}, but {args.load} has '
            f'{has["base_channels"]}. Leave it out.'
        )
    had = source.model['n_classes']
    binary = args.classes == 1 or (args.classes is None and had == 1 and values == 2)
    n_classes = 1 if binary else values
    model = UNet(**(source.model | config | {'n_classes': n_classes}))
    weights = dict(source.weights)
    if had != n_classes:
        weights |= {k: v for k, v in model.state_dict().items() if k.startswith('outc.')}
        print(
            f'note: the weights are for {had} classes and the masks have {n_classes}: '
            'the last layer starts anew'
        )
    model.load_state_dict(weights)
    return model


def build_loss(
    args: argparse.Namespace, recipe: Recipe, data: TrainingData, device: torch.device
) -> Callable[..., Tensor]:
    """The loss of logits, masks and, with a weight map, border weights, as asked for."""
    counts = data.dataset.scan.counts
    # Ignored values are in no class.
    pixels = [counts.get(value, 0) for value in data.dataset.mask_values]
    weights = loss_weights(args.loss_weights, [count / sum(pixels) for count in pixels])
    kind = args.dice_loss or recipe.dice_loss
    options = {
        'class_weights': weights and torch.tensor(weights, device=device),
        'per_class': kind == 'per-class',
        'dice': kind != 'none',
    }

    def loss(logits: Tensor, masks: Tensor, border: Tensor | None = None) -> Tensor:
        """segmentation_loss of a batch."""
        return segmentation_loss(logits, masks, border=border, **options)

    return loss
