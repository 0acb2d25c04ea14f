"""What a training run saves and restores: model, optimizer, schedule, gradient scaler, position."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from unet import UNet
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision

from .optimization.schedule import Schedule

# The position's fields and their keys in last.pth, the keys of its first version.
POSITION = {
    'epoch': 'epoch',
    'step_in_epoch': 'batch',
    'step': 'step',
    'best_dice': 'best',
    'validations_since_best': 'since_best',
}


# Names in the states of torch's optimizers and schedules that depend on its version.
TORCHS_OWN = (
    'foreach maximize capturable differentiable fused decoupled_weight_decay initial_lr centered '
    '_step_count _is_initial _get_lr_called_within_step _last_lr mode_worse default_min_lr'
).split()


@dataclass
class TrainState:
    """Everything that decides how training continues, except data and settings.

    `step` counts optimizer steps; `epoch` counts finished epochs.
    """

    model: UNet
    optimizer: Optimizer
    schedule: Schedule
    precision: MixedPrecision
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
            'plan': asdict(self.schedule.plan),
            'scaler': self.precision.scaler.state_dict(),
            'precision': self.precision.name,
            'checkpointing': self.model.checkpointing,
        } | {key: getattr(self, name) for name, key in POSITION.items()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a state_dict; the model's weights are loaded already.

        Raises UserError, and changes nothing, for states of another optimizer or schedule.
        """
        self._check(state)
        self.optimizer.load_state_dict(state['optimizer'])
        self.schedule.load_state_dict(state['schedule'])
        self.precision.scaler.load_state_dict(state['scaler'])
        self.model.use_checkpointing(state['checkpointing'])
        for name, key in POSITION.items():
            setattr(self, name, state[key])
        self.first_step = self.step

    def _check(self, state: dict) -> None:
        """Raise UserError unless the states to load are like those of this run."""
        fresh = self.state_dict()
        groups = {'groups': fresh['optimizer']['param_groups']}
        wrong = (
            misfit({'groups': state['optimizer'].get('param_groups')}, groups, 'optimizer')
            or misfit(state['schedule'], fresh['schedule'], 'schedule')
            or misfit(state['scaler'], fresh['scaler'], 'scaler')
            or misfit_moments(state['optimizer'].get('state'), self.optimizer)
        )
        if wrong:
            raise UserError(
                f'the last.pth of the run to resume is damaged or of another program: {wrong} is '
                "not what this run's has. Start a new run from its weights with --load."
            )

    @property
    def total_steps(self) -> float:
        """Optimizer steps of the whole run, from its first epoch on; infinite while not known."""
        steps = self.schedule.plan.steps
        return math.inf if steps is None else steps

    @property
    def epochs(self) -> int | None:
        """Epochs to train in all; None with --epochs auto, until validation stalls."""
        steps = self.schedule.plan.steps
        return None if steps is None else -(-steps // self.steps_per_epoch)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self.optimizer.param_groups[0]['lr']

    def finished(self) -> bool:
        """Return whether all epochs are done, or Dice has not risen in --early-stop validations."""
        stalled = self.early_stop and self.validations_since_best >= self.early_stop
        done = self.epochs is not None and self.epoch >= self.epochs
        return done or (bool(stalled) and self.best_dice is not None)

    def decay_begins(self, dice: float | None) -> bool:
        """Count a validation; return whether --epochs auto ends the run after it, by a decay."""
        return self.schedule.decays_after(self.step, dice, self.steps_per_epoch)

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


def misfit(saved: object, fresh: object, name: str) -> str | None:
    """Return the name of a saved value that is of another kind than the fresh one, None if none is.

    Entries of torch's own that one version writes and another does not are left to torch.
    """
    if isinstance(fresh, dict):
        if not isinstance(saved, dict):
            return name
        missing = [key for key in fresh if key not in saved and key not in TORCHS_OWN]
        if missing:
            return f'{name}.{missing[0]}'
        pairs = [(saved[key], fresh[key], f'{name}.{key}') for key in fresh if key in saved]
    elif isinstance(fresh, list | tuple):
        if not isinstance(saved, list | tuple) or len(saved) != len(fresh):
            return name
        pairs = [(s, f, f'{name}.{k}') for k, (s, f) in enumerate(zip(saved, fresh, strict=True))]
    else:
        number = isinstance(saved, int | float) and not isinstance(saved, bool) and saved == saved
        usual = isinstance(fresh, int | float) and not isinstance(fresh, bool)
        fits = number if usual else type(saved) is type(fresh)
        fits = fits and (not name.rpartition('.')[0].endswith('.params') or saved == fresh)
        return None if fits else name
    return next(filter(None, (misfit(*pair) for pair in pairs)), None)


def misfit_moments(saved: object, optimizer: Optimizer) -> str | None:
    """Return the name of what is wrong with the state of an optimizer's parameters, or None.

    Each is a tensor of its parameter's shape, or a number; parameters of a group have equal ones.
    """
    if not isinstance(saved, dict):
        return 'optimizer.state'
    number = 0
    for group in optimizer.param_groups:
        names = set()
        for parameter in group['params']:
            state = saved.get(number, {})
            if not isinstance(state, dict) or not all(
                _is_moment(value, parameter) for value in state.values()
            ):
                return f'optimizer.state.{number}'
            names.add(tuple(sorted((str(k), _kind(value)) for k, value in state.items())))
            number += 1
        if len(names) > 1:
            return f'optimizer.state of the parameters up to {number - 1}'
    return None if all(key in range(number) for key in saved) else 'optimizer.state'


def _kind(value: object) -> str:
    return f'{value.dtype}, scalar {not value.dim()}' if isinstance(value, Tensor) else 'number'


def _is_moment(value: object, parameter: Tensor) -> bool:
    if not isinstance(value, Tensor):
        return value is None or isinstance(value, int | float)
    plain = value.layout == torch.strided and value.device.type == 'cpu'
    return plain and value.is_floating_point() and value.shape in (parameter.shape, ())


def validation_steps(steps: int, validations: int) -> set[int]:
    """Return the steps of an epoch after which to validate, evenly spaced, the last included."""
    validations = min(steps, validations)
    return {round(steps * k / validations) for k in range(1, validations + 1)}
