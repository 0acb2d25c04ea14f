"""The learning rate of each step, in runs of known length, until a plateau, and resumed ones."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

WARM_UP = 0.05  # of a plan's steps

# Of --epochs auto: reasons, and what is not measured, are in dev/LOG.md, 2026-11-27. Errors are
# 1 - Dice of validations.
DECAY = 0.5  # steps of the decay, as part of those before it
MARGIN = 0.05  # the error of the last third of the validations has stalled if it fell by less
LONGEST = 100  # times the shortest time before the decay, after which it begins in any case,
FEWEST_VALIDATIONS = 10  # unless there were fewer validations


@dataclass(frozen=True)
class Plan:
    """A rise to a peak, steps at the peak, and a linear decay to 0 at the end of the run.

    `start`, `falls` and `steps` count from the start of the run; `before` and `peak` are factors of
    the recipe's learning rate, 0 to 1. A run has a new plan each time that it is resumed with
    another --epochs. `steps` is None with --epochs auto, until validation stalls.
    """

    start: int  # the first step of this plan
    steps: int | None  # of the whole run
    rise: int  # steps from `before` to `peak`; 0 begins at `peak`
    before: float  # of the latest step before this plan
    peak: float
    fewest: int  # `steps` of the shortest plan of the run so far; its coarse steps depend on it
    falls: int  # the first step of the decay; the earliest one while `steps` is None
    scores: tuple[float, ...] = ()  # Dice of each validation while `steps` is None

    def factor(self, step: int) -> float:
        """Return the factor of a step; 0 from the end on, that of `start` before it."""
        done, level = max(0, step - self.start), self.peak  # LambdaLR asks for step 0 first
        if self.steps is not None and step >= self.falls:
            level *= (self.steps - step) / max(1, self.steps - self.falls)
        if done < self.rise:
            level = min(level, self.before + (self.peak - self.before) * (done + 1) / self.rise)
        return max(0.0, level)

    def changed(self, step: int, steps: int) -> 'Plan':
        """Return the plan of a run of `steps` steps in all, of which `step` are done.

        It decays from the rate of the latest step, or, if that is higher, from the rate that a run
        of this length has here, to which it rises first. A rise that was interrupted is finished.
        """
        if steps == self.steps:
            return self
        before = self.factor(step - 1) if step > self.start else self.before
        fewest, rise, peak = min(steps, self.fewest), self.start + self.rise - step, self.peak
        if rise <= 0:
            peak = max(before, first_plan(steps).factor(step))
            rise = max(1, round(WARM_UP * (steps - step))) if before < peak else 0
        return Plan(step, steps, rise, before, peak, fewest, step + rise)

    def reopened(self, step: int, shortest: int) -> 'Plan':
        """Return the plan of --epochs auto for a run of known length, of which `step` are done.

        The rate rises to the recipe's. shortest: steps that the run then has at least.
        """
        before, new = self.factor(step - 1), open_plan(shortest)
        fewest = min(self.fewest, shortest)
        return replace(new, start=step, before=before, fewest=fewest, falls=step + new.falls)

    def validated(self, step: int, dice: float | None, steps_per_epoch: int) -> 'Plan':
        """Return the plan after a validation at this step; it decays from here if that stalled.

        dice: None (nothing to score) counts as 0.
        """
        if self.steps is not None:
            return self
        plan = replace(self, scores=(*self.scores, dice or 0.0))
        shortest = self.falls - self.start
        longest = LONGEST * shortest <= step - self.start
        at_last = longest and len(plan.scores) >= FEWEST_VALIDATIONS
        if step < self.falls or not (at_last or has_stalled(plan.scores)):
            return plan
        decay = max(1, round(DECAY * (step - self.start)))
        epochs = -(-(step + decay) // steps_per_epoch)
        return replace(self, steps=epochs * steps_per_epoch, falls=step, scores=())

    def describe(self, rate: float) -> str:
        """Return what the learning rate does from here; rate: that of the recipe."""
        now, peak = f'{self.before * rate:.3g}', f'{self.peak * rate:.3g}'
        count = f'{self.rise} step{"s" if self.rise > 1 else ""}'
        rises = f' rises to {peak} in {count}, then' if self.rise else ''
        falls = 'stays until validation stalls'
        if self.steps is not None:
            falls = f'decays to 0 at step {self.steps}'
        return f'the learning rate, {now} so far,{rises} {falls}'


def first_plan(steps: int) -> Plan:
    """Return the plan of a new run of so many steps: warm-up over 5 % of them, decay to 0."""
    rise = max(1, round(WARM_UP * steps))
    return Plan(0, steps, rise, 0.0, 1.0, steps, rise)


def open_plan(shortest: int) -> Plan:
    """Return the plan of a new run with --epochs auto, of at least `shortest` steps."""
    rise = max(1, round(WARM_UP * shortest))
    return Plan(0, None, rise, 0.0, 1.0, shortest, round(shortest / (1 + DECAY)))


def has_stalled(scores: Sequence[float]) -> bool:
    """Return whether the mean error of the last third is hardly under that of the third before.

    scores: Dice of all validations. Means, because at a constant learning rate single validations
    vary. A third, so that the question is the same for short and long runs: how much half as many
    steps again would bring.
    """
    if len(scores) < 3:
        return False
    third = round(len(scores) / 3)
    before, last = (
        sum(1 - score for score in part) for part in (scores[-2 * third : -third], scores[-third:])
    )
    return last >= (1 - MARGIN) * before


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

    def decays_after(self, step: int, dice: float | None, steps_per_epoch: int) -> bool:
        """Count a validation of --epochs auto; return whether the run's end is now known by it."""
        before, self.plan = self.plan, self.plan.validated(step, dice, steps_per_epoch)
        return before.steps != self.plan.steps

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
    by_step = LambdaLR(optimizer, lambda step: plan.factor(step))
    schedule = Schedule(by_step, plan, follows_plan=True)
    # Of the plan that holds then. Functions: LambdaLR saves the attributes of anything else.
    by_step.lr_lambdas = [lambda step: schedule.plan.factor(step) for _ in optimizer.param_groups]
    return schedule


@contextmanager
def _skipped_step_allowed() -> Iterator[None]:
    """Silence torch's warning where fp16's scaler has skipped the first step of an optimizer."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected call of .lr_scheduler.step')
        yield
