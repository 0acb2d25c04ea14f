"""What a training run saves and restores: model, optimizer, schedule, gradient scaler, position."""

from dataclasses import dataclass

from torch.optim import Optimizer

from unet import UNet
from utils.runtime.precision import MixedPrecision

from .optimization.recipes import Schedule

# The position's fields and their keys in last.pth, the keys of its first version.
POSITION = {
    'epoch': 'epoch',
    'step_in_epoch': 'batch',
    'step': 'step',
    'best_dice': 'best',
    'validations_since_best': 'since_best',
}


@dataclass
class TrainState:
    """Everything that decides how training continues, except data and settings.

    `step` counts optimizer steps; `epoch` counts finished epochs.
    """

    model: UNet
    optimizer: Optimizer
    schedule: Schedule
    precision: MixedPrecision
    epochs: int  # to train in all
    steps_per_epoch: int
    validations_per_epoch: int = 1
    early_stop: int | None = None  # validations without a better Dice that end the run
    epoch: int = 0
    step_in_epoch: int = 0  # steps done of the epoch after those
    step: int = 0
    best_dice: float | None = None
    validations_since_best: int = 0
    first_step: int = 0  # where this process began, not saved
    last_rate: float = 0.0  # learning rate of the latest step, not saved

    def state_dict(self) -> dict:
        """Return plain values and tensors that load_state_dict takes, without the weights."""
        return {
            'optimizer': self.optimizer.state_dict(),
            'schedule': self.schedule.state_dict(),
            'scaler': self.precision.scaler.state_dict(),
            'precision': self.precision.name,
            'checkpointing': self.model.checkpointing,
        } | {key: getattr(self, name) for name, key in POSITION.items()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state_dict; the model's weights are loaded already."""
        self.optimizer.load_state_dict(state['optimizer'])
        self.schedule.load_state_dict(state['schedule'])
        self.precision.scaler.load_state_dict(state['scaler'])
        self.model.use_checkpointing(state['checkpointing'])
        for name, key in POSITION.items():
            setattr(self, name, state[key])
        self.first_step = self.step

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, from its first epoch on."""
        return self.epochs * self.steps_per_epoch

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self.optimizer.param_groups[0]['lr']

    def finished(self) -> bool:
        """Return whether all epochs are done, or Dice has not risen in --early-stop validations."""
        stalled = self.early_stop and self.validations_since_best >= self.early_stop
        return self.epoch >= self.epochs or (bool(stalled) and self.best_dice is not None)

    def advance(self) -> None:
        """Count one optimizer step, and let the schedule set the rate of the next."""
        self.last_rate = self.learning_rate
        self.schedule.after_step()
        self.step += 1
        self.step_in_epoch += 1

    def epoch_unfinished(self) -> bool:
        """Return whether the current epoch has steps left."""
        return self.step_in_epoch < self.steps_per_epoch

    def end_epoch(self) -> None:
        """Count the epoch."""
        self.epoch, self.step_in_epoch = self.epoch + 1, 0

    def validation_due(self) -> bool:
        """Return whether to validate after the latest step."""
        due = validation_steps(self.steps_per_epoch, self.validations_per_epoch)
        return self.step_in_epoch in due

    def is_best(self, dice: float | None) -> bool:
        """Count a validation; return whether its Dice (None: nothing to score) is the highest."""
        if dice is None or (self.best_dice is not None and dice <= self.best_dice):
            self.validations_since_best += 1
            return False
        self.best_dice, self.validations_since_best = dice, 0
        return True


def validation_steps(steps: int, validations: int) -> set[int]:
    """Return the steps of an epoch after which to validate, evenly spaced, the last included."""
    validations = min(steps, validations)
    return {round(steps * k / validations) for k in range(1, validations + 1)}
