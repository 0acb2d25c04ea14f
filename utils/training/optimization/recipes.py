"""Recipes: optimizer, learning-rate schedule, loss and augmentation that go together.

`fast` is the default. `classic` is the original's training, for comparison. `paper` is that of
Ronneberger, Fischer and Brox, https://arxiv.org/abs/1505.04597.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn
from torch.optim import SGD, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from utils.images.decoding import DECODE_PATH, PILLOW_DECODE

from .muon import Muon


class Schedule:
    """Sets the learning rate after each step, or after each validation by its score."""

    def __init__(self, scheduler: LambdaLR | ReduceLROnPlateau):
        self.scheduler = scheduler

    def after_step(self) -> None:
        """Count one optimizer step."""
        if isinstance(self.scheduler, LambdaLR):
            first = self.scheduler.last_epoch == 0
            with _skipped_step_allowed() if first else nullcontext():
                self.scheduler.step()

    def after_validation(self, dice: float | None) -> None:
        """Count a validation; None (nothing to score) changes nothing."""
        if isinstance(self.scheduler, ReduceLROnPlateau) and dice is not None:
            self.scheduler.step(dice)

    def state_dict(self) -> dict:
        """Return plain values that load_state_dict takes."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state_dict, after the optimizer's state was loaded.

        The learning rate becomes the schedule's for that step, which differs from the saved one
        where a resumed run gets more epochs.
        """
        by_step = self.scheduler
        by_step.load_state_dict(state)
        if isinstance(by_step, LambdaLR):
            groups = by_step.optimizer.param_groups
            rules = zip(groups, by_step.base_lrs, by_step.lr_lambdas, strict=True)
            for group, base, factor in rules:
                group['lr'] = base * factor(by_step.last_epoch)


@contextmanager
def _skipped_step_allowed() -> Iterator[None]:
    """Silence torch's warning where fp16's scaler has skipped the first step of an optimizer."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected call of .lr_scheduler.step')
        yield


@dataclass(frozen=True)
class Recipe:
    """One way to train; batch_size and learning_rate are defaults of the options."""

    batch_size: int
    learning_rate: float
    validations_per_epoch: int
    augment: str  # see data.augmentation
    dice_loss: str  # 'joint', 'per-class' or 'none', see optimization.loss
    optimizer: Callable[[nn.Module, float], Optimizer]  # of a model, at a learning rate
    schedule: Callable[[Optimizer, int], Schedule]  # of an optimizer, for so many steps
    coarse: float = 0.0  # fraction of the run's steps, the first ones, at half the resolution
    precise_statistics: bool = False  # re-estimate BatchNorm before scoring and saving
    weight_map: bool = False  # see masks.weight_map
    decode: str = DECODE_PATH  # how images are decoded and resized
    tile: int | None = None  # side of the training crops in pixels; None: whole images
    network: dict = field(default_factory=dict)  # UNet's arguments that no option sets
    max_gradient_norm: float = 1.0  # longer gradients are clipped to this


def warmup_decay(step: int, total_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up over 5 % of all steps, decay to 0."""
    rise = max(1, round(0.05 * total_steps))
    return min((step + 1) / rise, max(0.0, (total_steps - step) / max(1, total_steps - rise)))


def _warmup_then_linear(optimizer: Optimizer, total_steps: int) -> Schedule:
    return Schedule(LambdaLR(optimizer, lambda step: warmup_decay(step, total_steps)))


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
        decode=PILLOW_DECODE,
        optimizer=rmsprop,
        schedule=lambda optimizer, _: Schedule(
            ReduceLROnPlateau(optimizer, mode='max', patience=5)
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
        schedule=lambda optimizer, _: Schedule(LambdaLR(optimizer, lambda _: 1.0)),
    ),
}


def classic_with(weight_decay: float, momentum: float, max_gradient_norm: float) -> Recipe:
    """Return the classic recipe with other settings of its optimizer."""
    optimizer = partial(rmsprop, weight_decay=weight_decay, momentum=momentum)
    return replace(RECIPES['classic'], optimizer=optimizer, max_gradient_norm=max_gradient_norm)
