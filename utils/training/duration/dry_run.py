"""train.py --dry-run: trains 20 steps, and says what the whole run would take."""

import math
import sys
import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch

from utils.evaluation.scoring import count_at_scale
from utils.runtime.distributed import all_reduce_max
from utils.runtime.signals import StopRequest

from ..optimization.batchnorm import reestimate_statistics
from ..optimization.schedule import Plan, first_plan
from ..progress import Meter

if TYPE_CHECKING:
    from ..builder import TrainingRun

STEPS = 20
# The images of the first ten steps come twice: the first time they are decoded, and the losses of
# both times compare. The first steps are at half the resolution, where the recipe has such.
PASS, COARSE = 10, 5
VALIDATION_BATCHES = 5


@dataclass
class Cost:
    """Seconds of the parts of a run."""

    step: float
    coarse_step: float  # at half the resolution
    first_wait: float  # for data, a step, where images are decoded
    wait: float  # later
    first_validation: float
    validation: float  # a later one

    def epoch(self, steps: int, first: bool = False) -> float:
        """Return the seconds of an epoch's steps, all at full resolution."""
        return steps * (self.step + (self.first_wait if first else self.wait))

    def steps(self, count: float, per_epoch: int, coarse: float, validations: float) -> float:
        """Return the seconds of so many steps, the first `coarse` of them at half resolution.

        validations: an epoch.
        """
        decoding = min(count, per_epoch) * (self.first_wait - self.wait)
        trained = count * (self.step + self.wait) - coarse * (self.step - self.coarse_step)
        scored = count / per_epoch * validations * self.validation
        return trained + decoding + scored + self.first_validation - self.validation


def rehearse(run: 'TrainingRun', stop: StopRequest) -> str:
    """Train a few steps of a run that is not trained afterwards; return what was measured.

    Ends early, with an empty text, where `stop` receives a signal.
    """
    plan = run.state.schedule.plan
    losses, marks = train_steps(run, stop)
    if stop.received:
        return ''
    memory = peak_memory(run.state.precision.device)
    first_validation, validation = (time_validation(run) for _ in range(2))
    (began, _), (coarse_end, _), (middle, waited), (end, all_waited) = (
        marks[k] for k in (1, COARSE, PASS, STEPS)
    )
    wait = (all_waited - waited) / (STEPS - PASS)
    decoded = min(PASS, run.state.steps_per_epoch)
    first = (marks[decoded][1] - marks[1][1]) / (decoded - 1) if decoded > 1 else marks[1][1]
    step = (end - middle) / (STEPS - PASS) - wait
    coarse_wait = (marks[COARSE][1] - marks[1][1]) / (COARSE - 1)
    coarse = (coarse_end - began) / (COARSE - 1) - coarse_wait
    cost = Cost(step, coarse, max(first, wait), wait, first_validation, validation)
    lines = [
        f'dry run: {STEPS} steps, of which nothing is kept',
        describe_losses(losses),
        f'memory: {memory}',
        *describe_time(run, plan, cost),
    ]
    return '\n'.join(lines)


def train_steps(
    run: 'TrainingRun', stop: StopRequest
) -> tuple[list[float], dict[int, tuple[float, float]]]:
    """Train STEPS steps by a plan of as many; return losses, and the clock after each step.

    The clock is the moment and the time spent waiting for data, in seconds. It has waited for the
    device where a figure begins or ends.
    """
    state, marks = run.state, {}
    losses: list[torch.Tensor] = []
    coarse = run.step_runner.coarse
    # Of a long run's warm-up, 20 steps would tell nothing.
    state.schedule.plan = replace(first_plan(STEPS), fewest=round(COARSE / coarse) if coarse else 1)
    state.schedule.load_state_dict(state.schedule.state_dict())
    meter = Meter()
    while len(losses) < STEPS and not stop.received:
        state.step_in_epoch = 0
        steps = islice(run.data.steps(0, 0), min(PASS, STEPS - len(losses)))
        for micro_batches in meter.timed(steps):
            loss, _ = run.step_runner.run_step(micro_batches)
            losses.append(loss.detach())
            if len(losses) in (1, COARSE, PASS, STEPS):
                float(loss)  # waits for the device
            marks[len(losses)] = (time.perf_counter(), meter.waited)
            stop.sync(agree=run.step_runner.agree)
            if stop.received:
                break
        stop.sync()
    return [float(loss) for loss in losses], marks


def time_validation(run: 'TrainingRun') -> float:
    """Return the seconds that a validation takes, from a few of its batches; 0 without any."""
    state, begun = run.state, time.perf_counter()
    if run.validator.precise_statistics:
        with state.precision.autocast():
            reestimate_statistics(state.model, run.data.statistics_batches())
    scored, loader = time.perf_counter(), run.data.validation_loader
    if loader is None:
        return scored - begun
    few = list(islice(loader, VALIDATION_BATCHES))
    count_at_scale(state.model, few, state.precision, run.data.dataset.decode)
    share = len(loader) / max(1, len(few))
    return scored - begun + (time.perf_counter() - scored) * share


def peak_memory(device: torch.device) -> str:
    """Return the highest use of memory so far, of the device, or of the process on a CPU."""
    if device.type == 'cuda':
        used, of = torch.cuda.max_memory_reserved(device), torch.cuda.mem_get_info(device)[1]
        (used,) = all_reduce_max(used)
        return f'{in_bytes(used)} of the {in_bytes(of)} of the device at the peak'
    if sys.platform == 'win32':
        return 'not measured on Windows'
    import resource  # not there on Windows

    unit = 1 if sys.platform == 'darwin' else 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    (used,) = all_reduce_max(used)
    return f'{in_bytes(used)} at the peak, of the largest process, without dataloader workers'


def describe_losses(losses: list[float]) -> str:
    """Return whether the loss falls; losses: of STEPS steps."""
    early, late = (sum(losses[k - COARSE : k]) / COARSE for k in (PASS, STEPS))
    line = (
        f'loss: {early:.3f} in steps {PASS - COARSE + 1} to {PASS}, {late:.3f} in steps '
        f'{STEPS - COARSE + 1} to {STEPS}'
    )
    if math.isfinite(early) and late < early:
        return f'{line}: it falls'
    return (
        f'{line}: it does not fall. Do the masks belong to the images (--check --report DIR)? Then '
        'try a lower --learning-rate.'
    )


def describe_time(run: 'TrainingRun', plan: Plan, cost: Cost) -> list[str]:
    """Return what an epoch takes, and the run; plan: that of the run."""
    state = run.state
    per_epoch, validations = state.steps_per_epoch, state.validations_per_epoch
    later, first = cost.epoch(per_epoch), cost.epoch(per_epoch, first=True)
    lines = [
        f'an epoch: {per_epoch} steps in {in_time(later)}, the first one in {in_time(first)}, and '
        f'{in_time(validations * cost.validation)} for validation'
    ]
    steps = plan.fewest if plan.steps is None else plan.steps
    coarse = run.step_runner.coarse * plan.fewest
    total = cost.steps(steps, per_epoch, coarse, validations)
    epochs = f'{-(-steps // per_epoch)} epochs, {steps} steps'
    if plan.steps is None:
        epochs = f'at least {epochs}'
    return [*lines, f'the run: {epochs}, about {in_time(total)}, and the time to write checkpoints']


def in_time(seconds: float) -> str:
    """Return a time in words: '0.4 s', '12 s', '3 min 20 s', '2 h 5 min'."""
    if seconds < 10:
        return f'{seconds:.1f} s'
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60} s'
    return f'{whole // 3600} h {whole % 3600 // 60} min'


def in_bytes(count: int) -> str:
    """Return bytes in words: '812 MiB', '5.1 GiB'."""
    mib = count / 2**20
    return f'{mib:.0f} MiB' if mib < 1024 else f'{mib / 1024:.1f} GiB'
