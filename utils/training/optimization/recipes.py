"""Recipes: optimizer, learning-rate schedule, loss and augmentation that go together.

`fast` is the default. `classic` is the original's training, for comparison. `paper` is that of
Ronneberger, Fischer and Brox, https://arxiv.org/abs/1505.04597.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn
from torch.optim import SGD, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from utils.images.decoding import DECODE_PATH, PILLOW_DECODE

from .muon import Muon
from .schedule import Plan, Schedule, follow_plan


@dataclass(frozen=True)
class Recipe:
    """One way to train; batch_size and learning_rate are defaults of the options."""

    batch_size: int
    learning_rate: float
    validations_per_epoch: int
    augment: str  # see data.augmentation
    dice_loss: str  # 'joint', 'per-class' or 'none', see optimization.loss
    optimizer: Callable[[nn.Module, float], Optimizer]  # of a model, at a learning rate
    schedule: Callable[[Optimizer, Plan], Schedule]
    coarse: float = 0.0  # fraction of the run's steps, the first ones, at half the resolution
    deep_supervision: bool = False  # of new networks with padding 'same'
    precise_statistics: bool = False  # re-estimate BatchNorm before scoring and saving
    weight_map: bool = False  # see masks.weight_map
    decode: str = DECODE_PATH  # how images are decoded and resized
    tile: int | None = None  # side of the training crops in pixels; None: whole images
    network: dict = field(default_factory=dict)  # UNet's arguments that no option sets
    max_gradient_norm: float = 1.0  # longer gradients are clipped to this


def rmsprop(
    model: nn.Module, learning_rate: float, weight_decay: float = 1e-8, momentum: float = 0.999
) -> Optimizer:
    """Return the original's optimizer, by default with its settings."""
    return RMSprop(
        model.parameters(), learning_rate, weight_decay=weight_decay, momentum=momentum,
        foreach=True,
    )  # fmt: skip


RECIPES = {
    'fast': Recipe(
        batch_size=2,
        learning_rate=2e-3,
        validations_per_epoch=1,
        augment='full',
        dice_loss='per-class',
        coarse=0.125,
        deep_supervision=True,
        precise_statistics=True,
        optimizer=Muon,
        schedule=follow_plan,
    ),
    # The original counts the steps between validations from the start of the run; here they are
    # spread evenly over each epoch.
    'classic': Recipe(
        batch_size=1,
        learning_rate=1e-5,
        validations_per_epoch=5,
        augment='none',
        dice_loss='joint',
        decode=PILLOW_DECODE,
        optimizer=rmsprop,
        schedule=lambda optimizer, plan: Schedule(
            ReduceLROnPlateau(optimizer, mode='max', patience=5), plan
        ),
    ),
    # The paper gives momentum, batch size and tile, but no learning rate, and no gradient clipping,
    # which all recipes do. Its images had 512 x 512 pixels, its first level 64 channels.
    'paper': Recipe(
        batch_size=1,
        learning_rate=1e-3,
        validations_per_epoch=1,
        augment='elastic',
        dice_loss='none',
        weight_map=True,
        tile=388,
        network={'padding': 'valid', 'norm': 'none', 'dropout': 0.5},
        optimizer=lambda model, learning_rate: SGD(
            model.parameters(), learning_rate, momentum=0.99
        ),
        schedule=lambda optimizer, plan: Schedule(LambdaLR(optimizer, lambda _: 1.0), plan),
    ),
}


def classic_with(weight_decay: float, momentum: float, max_gradient_norm: float) -> Recipe:
    """Return the classic recipe with other settings of its optimizer."""
    optimizer = partial(rmsprop, weight_decay=weight_decay, momentum=momentum)
    return replace(RECIPES['classic'], optimizer=optimizer, max_gradient_norm=max_gradient_norm)
