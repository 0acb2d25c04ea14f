"""The learning rate of each step, also of a run that is resumed with another number of epochs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

WARM_UP = 0.05  # of a plan's steps
# Of the recipe's learning rate, from which a finished run decays again; see dev/LOG.md.
SECOND_PEAK = 0.1


@dataclass(frozen=True)
class Plan:
    """A rise to a peak and a linear decay to 0 at the end of the run.

    `start` and `steps` count from the start of the run; `before` and `peak` are factors of the
    recipe's learning rate, 0 to 1. A run has a new plan each time that it is resumed with another
    number of epochs.
    """

    start: int  # the first step of this plan
    steps: int  # of the whole run
    rise: int  # steps from `before` to `peak`; 0 begins at `peak`
    before: float  # of the latest step before this plan
    peak: float
    fewest: int  # `steps` of the shortest plan of the run so far; its coarse steps depend on it

    def factor(self, step: int) -> float:
        """Return the factor of a step; 0 from the end on, that of `start` before it."""
        left = self.steps - self.start
        done = max(0, step - self.start)  # LambdaLR asks for step 0 first
        decay = self.peak * (left - done) / max(1, left - self.rise)
        if done < self.rise:
            decay = min(decay, self.before + (self.peak - self.before) * (done + 1) / self.rise)
        return max(0.0, decay)

    def changed(self, step: int, steps: int) -> 'Plan':
        """Return the plan of a run of `steps` steps in all, of which `step` are done.

        It decays from the rate of the latest step. A rate that has decayed to less than SECOND_PEAK
        rises to that first; one that was still rising goes on to its peak.
        """
        if steps == self.steps:
            return self
        before = self.factor(step - 1) if step > self.start else self.before
        left, fewest = steps - step, min(steps, self.fewest)
        rising = self.start + self.rise - step
        if rising > 0:
            return Plan(step, steps, rising, before, self.peak, fewest)
        peak = max(before, SECOND_PEAK)
        rise = max(1, round(WARM_UP * left)) if before < peak else 0
        return Plan(step, steps, rise, before, peak, fewest)

    def describe(self, rate: float) -> str:
        """Return what the learning rate does from here; rate: that of the recipe."""
        now, peak = f'{self.before * rate:.3g}', f'{self.peak * rate:.3g}'
        count = f'{self.rise} step{"s" if self.rise > 1 else ""}'
        rises = f' rises to {peak} in {count}, then' if self.rise else ''
        return f'the learning rate, {now} so far,{rises} decays to 0 at step {self.steps}'


def first_plan(steps: int) -> Plan:
    """Return the plan of a new run of so many steps: warm-up over 5 % of them, decay to 0."""
    return Plan(0, steps, max(1, round(WARM_UP * steps)), 0.0, 1.0, steps)


class Schedule:
    """Sets the learning rate after each step, or after each validation by its score."""

    def __init__(
        self, scheduler: LambdaLR | ReduceLROnPlateau, plan: Plan, follows_plan: bool = False
    ) -> None:
        self.scheduler, self.plan, self.follows_plan = scheduler, plan, follows_plan

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
        where a resumed run gets another number of epochs.
        """
        by_step = self.scheduler
        by_step.load_state_dict(state)
        if isinstance(by_step, LambdaLR):
            groups = by_step.optimizer.param_groups
            rules = zip(groups, by_step.base_lrs, by_step.lr_lambdas, strict=True)
            for group, base, factor in rules:
                group['lr'] = base * factor(by_step.last_epoch)

    def describe_change(self, rate: float) -> str:
        """Return what a plan that begins now does to the learning rate; rate: the recipe's."""
        return (
            self.plan.describe(rate) if self.follows_plan else 'the learning rate goes on as before'
        )


def follow_plan(optimizer: Optimizer, plan: Plan) -> Schedule:
    """Return the schedule of a recipe whose learning rate is that of the plan."""
    # A lambda, not plan.factor: LambdaLR would save the attributes of anything but a function.
    return Schedule(LambdaLR(optimizer, lambda step: plan.factor(step)), plan, follows_plan=True)


@contextmanager
def _skipped_step_allowed() -> Iterator[None]:
    """Silence torch's warning where fp16's scaler has skipped the first step of an optimizer."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected call of .lr_scheduler.step')
        yield
