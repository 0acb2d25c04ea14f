"""Recipes: optimizer, learning-rate schedule, loss and augmentation that go together.

`fast` is the default. `classic` is the original's training, for comparison. `paper` is that of
Ronneberger, Fischer and Brox, https://arxiv.org/abs/1505.04597.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from .muon import Muon

MAX_GRADIENT_NORM = 1.0  # all recipes clip to this


class Schedule:
    """Sets the learning rate after each step, or after each validation by its score."""

    def __init__(
        self,
        by_step: lr_scheduler.LambdaLR | None = None,
        by_score: lr_scheduler.ReduceLROnPlateau | None = None,
    ):
        self.by_step, self.by_score = by_step, by_score
        scheduler = by_step or by_score
        if scheduler is None:
            raise ValueError('a schedule goes by steps or by scores; neither was given')
        self._scheduler = scheduler

    def after_step(self) -> None:
        """Count one optimizer step."""
        if self.by_step:
            self.by_step.step()

    def after_validation(self, dice: float | None) -> None:
        """Count a validation; None (nothing to score) changes nothing."""
        if self.by_score and dice is not None:
            self.by_score.step(dice)

    def state_dict(self) -> dict:
        """Return plain values that load_state_dict takes."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state_dict, after the optimizer's state was loaded.

        The learning rate becomes the schedule's for that step, which differs from the saved one
        where a resumed run gets more epochs.
        """
        self._scheduler.load_state_dict(state)
        if self.by_step:
            by_step = self.by_step
            for group, base, factor in zip(
                by_step.optimizer.param_groups, by_step.base_lrs, by_step.lr_lambdas, strict=True
            ):
                group['lr'] = base * factor(by_step.last_epoch)


@dataclass(frozen=True)
class Recipe:
    """One way to train; batch_size and learning_rate are defaults of the options."""

    batch_size: int
    learning_rate: float
    validations_per_epoch: int
    augment: str  # see data.augmentation
    dice_loss: str  # 'joint', 'per-class' or 'none', see optimization.loss
    coarse: float  # fraction of the run's steps, the first ones, at half the resolution
    precise_statistics: bool  # re-estimate BatchNorm before scoring and saving
    optimizer: Callable[[nn.Module, float], Optimizer]  # of a model, at a learning rate
    schedule: Callable[[Optimizer, int], Schedule]  # of an optimizer, for so many steps
    weight_map: bool = False  # see masks.weight_map
    tile: int | None = None  # side of the training crops in pixels; None: whole images
    network: dict = field(default_factory=dict)  # UNet's arguments that no option sets


def warmup_decay(step: int, total_steps: int, warmup: float = 0.05) -> float:
    """Return the learning rate's factor: linear warm-up over `warmup` of all steps, decay to 0."""
    rise = max(1, round(warmup * total_steps))
    return min((step + 1) / rise, max(0.0, (total_steps - step) / max(1, total_steps - rise)))


def _rmsprop(model: nn.Module, learning_rate: float) -> Optimizer:
    return torch.optim.RMSprop(
        model.parameters(), lr=learning_rate, weight_decay=1e-8, momentum=0.999, foreach=True
    )


def _sgd(model: nn.Module, learning_rate: float) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.99)


def _constant(optimizer: Optimizer, total_steps: int) -> Schedule:
    del total_steps
    return Schedule(by_step=lr_scheduler.LambdaLR(optimizer, lambda _: 1.0))


def _plateau(optimizer: Optimizer, total_steps: int) -> Schedule:
    del total_steps  # this one goes by the score
    return Schedule(by_score=lr_scheduler.ReduceLROnPlateau(optimizer, mode='max', patience=5))


def _warmup_then_linear(optimizer: Optimizer, total_steps: int) -> Schedule:
    factor = partial(warmup_decay, total_steps=total_steps)
    return Schedule(by_step=lr_scheduler.LambdaLR(optimizer, factor))


RECIPES = {
    'fast': Recipe(
        batch_size=2,
        learning_rate=2e-3,
        validations_per_epoch=1,
        augment='full',
        dice_loss='per-class',
        coarse=0.125,
        precise_statistics=True,
        optimizer=Muon,
        schedule=_warmup_then_linear,
    ),
    # The original counts the steps between validations from the start of the run; here they are
    # spread evenly over each epoch.
    'classic': Recipe(
        batch_size=1,
        learning_rate=1e-5,
        validations_per_epoch=5,
        augment='none',
        dice_loss='joint',
        coarse=0.0,
        precise_statistics=False,
        optimizer=_rmsprop,
        schedule=_plateau,
    ),
    # The paper gives momentum, batch size and tile, but no learning rate, and no gradient clipping,
    # which all recipes do. Its images had 512 x 512 pixels, its first level 64 channels.
    'paper': Recipe(
        batch_size=1,
        learning_rate=1e-3,
        validations_per_epoch=1,
        augment='elastic',
        dice_loss='none',
        coarse=0.0,
        precise_statistics=False,
        weight_map=True,
        tile=388,
        network={'padding': 'valid', 'norm': 'none', 'dropout': 0.5},
        optimizer=_sgd,
        schedule=_constant,
    ),
}
