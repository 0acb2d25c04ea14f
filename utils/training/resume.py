"""Which run --resume goes on with, and whether the command line lets it.

What last.pth holds of a run beside the weights, and how a run goes on from it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from utils.inference.checkpoint import Checkpoint, load_checkpoint
from utils.runtime.distributed import world_size
from utils.runtime.errors import UserError, first_few

if TYPE_CHECKING:
    from .run import Run

# What may differ when a run is resumed; all else decides its course.
# fmt: off
FREE = (
    'epochs', 'early_stop', 'keep', 'save_minutes', 'workers', 'device',
    'wandb', 'wandb_histograms', 'images', 'masks', 'cache',
)

# fmt: on


def is_to_resume(args: argparse.Namespace) -> bool:
    """Whether --resume was given; 'auto' counts where --output holds a last.pth."""
    if args.resume == 'auto':
        return (args.output / 'last.pth').is_file()
    return args.resume is not None


def read_last(
    args: argparse.Namespace, parse: Callable[[dict], argparse.Namespace]
) -> tuple[argparse.Namespace, Checkpoint]:
    """The settings and the last.pth of the run to go on with, in its own folder.

    args: --resume names the file or its folder; '' and 'auto' are last.pth in --output. parse:
    reads the command line with the given defaults. Raises UserError where there is no such file,
    nothing left to do (but for 'auto'), or the command line has other settings than the run.
    """
    named = None if args.resume == 'auto' else args.resume
    path = Path(named or args.output / 'last.pth')
    if path.is_dir():
        path /= 'last.pth'
    if not path.is_file():
        there = first_few(sorted(Path('checkpoints').rglob('last.pth'))) or 'none'
        raise UserError(
            f'{path} does not exist. --resume takes the last.pth of a run; found: {there}. Other '
            'checkpoints hold weights only, to start a new run from with --load.'
        )
    source = load_checkpoint(path)
    if source.training is None:
        raise UserError(
            f'{path} holds weights only; --resume takes a last.pth. To start a new run from '
            f'these weights say --load {path}'
        )
    settings = source.training['args'] | {'output': str(path.parent)}
    args = parse(settings)
    changed = [
        f'--{name.replace("_", "-")} is {getattr(args, name)}, was '
        f'{"the default" if value is None else value}'
        for name, value in settings.items()
        if name not in FREE and str(getattr(args, name)) != str(value)
    ]
    if changed:
        raise UserError(
            f'a resumed run keeps its settings, but {"; ".join(changed)}. Leave them out, or '
            f'start a new run with --load {path}'
        )
    done = source.training['epoch']
    if done >= args.epochs and args.resume != 'auto':  # auto: a job's restart, as it finished
        raise UserError(
            f'{path} has done {done} of {args.epochs} epochs. Ask for more with --epochs (-e).'
        )
    return args, source


def check_processes(before: int) -> None:
    """Raise UserError where a run of so many processes is resumed by another number.

    Each step takes a batch for every process, so the run could not go on as it was.
    """
    if before != world_size():
        command = f'torchrun --nproc-per-node={before}' if before > 1 else 'python'
        raise UserError(
            f'the run to resume was of {before} processes, now there are {world_size()}. Go on '
            f'with "{command} train.py --resume", or start a new run from its weights with --load.'
        )


POSITION = ('epoch', 'batch', 'step', 'best', 'since_best')


def run_state(run: 'Run') -> dict:
    """Plain values and tensors from which `restore` lets a new Run go on exactly."""
    settings = {k: v for k, v in vars(run.args).items() if k not in ('resume', 'debug')}
    state = {
        'args': {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
        'data': run.data.fingerprint(),
        'optimizer': run.optimizer.state_dict(),
        'schedule': run.schedule.state_dict(),
        'scaler': run.precision.scaler.state_dict(),
        'precision': run.precision.name,
        'wandb': run.tracker.run_id,
        'processes': world_size(),
        'checkpointing': run.model.checkpointing,
        'meter': run.meter.state(),
    }
    return state | {name: getattr(run, name) for name in POSITION}


def restore(run: 'Run', state: dict) -> None:
    """Bring a run that was made from the same settings and weights to where run_state was taken."""
    run.optimizer.load_state_dict(state['optimizer'])
    run.schedule.load_state_dict(state['schedule'])
    run.precision.scaler.load_state_dict(state['scaler'])
    if state['checkpointing']:
        run.use_checkpointing()
    run.meter.load_state(state['meter'])
    run.last_saved = run.args.output / 'last.pth'
    for name in POSITION:
        setattr(run, name, state[name])
    run.first_step = run.step
