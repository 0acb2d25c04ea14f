"""Resuming: which last.pth --resume names, and whether the command line fits that run."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from utils.inference.checkpoint import Checkpoint, load_checkpoint
from utils.inference.checkpoint_format.schema import (
    BOOL,
    DICT,
    LARGEST_INT,
    NUMBER,
    PLAIN_DICT,
    TEXT,
    Rule,
    check_entries,
    is_number,
    one_of,
    or_none,
    whole_from,
)
from utils.runtime.distributed import world_size
from utils.runtime.errors import UserError, first_few

from .duration.steps import ENOUGH_STEPS
from .optimization.schedule import Plan, first_plan, open_plan

if TYPE_CHECKING:
    from .data import TrainingData

# Options that may differ when a run is resumed; all others decide its course.
FREE = (
    'epochs early_stop keep save_minutes workers device wandb wandb_histograms tensorboard images '
    'masks list cache'
).split()


# What `training` of last.pth has to hold, see TrainState and Recorder.
COUNT = whole_from(0, LARGEST_INT)
TRAINING: dict[str, Rule] = {
    'args': PLAIN_DICT,
    'data': TEXT,
    'optimizer': DICT,
    'schedule': DICT,
    'scaler': DICT,
    'precision': one_of('fp32', 'bf16', 'fp16'),
    'checkpointing': BOOL,
    'epoch': COUNT,
    'batch': COUNT,
    'step': COUNT,
    'best': or_none(NUMBER),
    'since_best': COUNT,
    'meter': DICT,
}
TRAINING_OPTIONS: dict[str, Rule] = {
    'plan': DICT,
    'processes': whole_from(1),
    'run': or_none(TEXT),
    'wandb': or_none(TEXT),
}
EPOCHS: Rule = (
    lambda value: value == 'auto' or whole_from(1, LARGEST_INT)[0](value),
    "a whole number from 1, or 'auto'",
)
FACTOR: Rule = (lambda value: is_number(value) and 0 <= value <= 1, 'a number from 0 to 1')
PLAN: dict[str, Rule] = {
    'start': COUNT,
    'steps': or_none(whole_from(1, LARGEST_INT)),
    'rise': COUNT,
    'before': FACTOR,
    'peak': FACTOR,
    'fewest': whole_from(1, LARGEST_INT),
}
PLAN_OPTIONS: dict[str, Rule] = {
    'falls': COUNT,
    'scores': (
        lambda values: isinstance(values, list | tuple) and all(FACTOR[0](v) for v in values),
        'a list of numbers from 0 to 1',
    ),
}
METER: dict[str, Rule] = {
    'loss': (is_number, 'a number'),
    'counted': COUNT,
    'images': COUNT,
    'waited': NUMBER,
    'seconds': NUMBER,
}


def is_to_resume(args: argparse.Namespace) -> bool:
    """Return whether --resume was given; 'auto' counts where --output holds a last.pth."""
    if args.resume == 'auto':
        return (args.output / 'last.pth').is_file()
    return args.resume is not None


def read_last(
    args: argparse.Namespace, parse: Callable[[dict], argparse.Namespace]
) -> tuple[argparse.Namespace, Checkpoint]:
    """Return the settings and the last.pth of the run to resume, in its own folder.

    args: --resume names the file or its folder; '' and 'auto' mean last.pth in --output.
    parse: parses the command line with the given defaults.
    Raises UserError where there is no such file, nothing left to do (except for 'auto'), or the
    command line has other settings than the run.
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
    check_entries(path, source.training, TRAINING, TRAINING_OPTIONS, 'training.')
    check_entries(path, source.training['meter'], METER, {}, 'training.meter.')
    if 'plan' in source.training:
        check_entries(path, source.training['plan'], PLAN, PLAN_OPTIONS, 'training.plan.')
    settings = source.training['args'] | {'output': str(path.parent)}
    if args.epochs == 'auto':  # which ends the run in place of it
        settings.pop('early_stop', None)
    args = parse(settings)
    check_entries(path, source.training['args'], {}, {'epochs': EPOCHS}, 'training.args.')
    if settings.get('epochs') == 'auto':
        check_entries(path, source.training, {'plan': DICT}, {}, 'training.')
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
    done, epochs = source.training['epoch'], args.epochs
    if epochs == settings.get('epochs') == 'auto':
        epochs = done if is_at_end(source.training) else math.inf
    elif epochs == 'auto':
        epochs = math.inf
    if done >= epochs and args.resume != 'auto':  # auto: a finished job was restarted
        raise UserError(
            f'{path} has done {done} of {epochs} epochs. Ask for more with --epochs (-e).'
        )
    return args, source


def is_at_end(saved: dict) -> bool:
    """Return whether a run with --epochs auto has ended; saved: `training` of its last.pth."""
    steps = saved['plan']['steps']
    return steps is not None and saved['step'] >= steps


def check_resumed(saved: dict, data: 'TrainingData', images: Path) -> None:
    """Raise UserError for another world size or other training images than the run had.

    A step takes one batch a rank, so the run could not continue as it was.
    """
    before = saved.get('processes', 1)
    if before != world_size():
        raise UserError(
            f'the run to resume had {before} processes, now there are {world_size()}. Continue '
            f'with "{launcher(before)} train.py --resume", or start a new run from its weights '
            'with --load.'
        )
    if saved['data'] != data.fingerprint():
        raise UserError(
            f'the training images are not those of the run to resume; now there are '
            f'{len(data.training)} of them in {images}. Put those back, or start a new '
            'run from its weights with --load.'
        )


def plan_steps(epochs: int | str, steps_per_epoch: int, saved: dict | None) -> Plan:
    """Return the plan of a run's learning rate.

    epochs: a number or 'auto'. saved: `training` of last.pth, if it is resumed.
    """
    enough = ENOUGH_STEPS['fast']  # the only recipe with 'auto'
    if saved is None:
        if isinstance(epochs, int):
            return first_plan(epochs * steps_per_epoch)
        return open_plan(enough)
    before = saved['args'].get('epochs', epochs)
    if 'plan' in saved:
        entries = {
            name: saved['plan'][name] for name in (PLAN | PLAN_OPTIONS) if name in saved['plan']
        }
        plan = Plan(**{'falls': entries['start'] + entries['rise']} | entries)
    else:  # of an earlier version, which had one plan for all its epochs
        plan = first_plan(before * steps_per_epoch)
    if isinstance(epochs, int):
        return plan.changed(saved['step'], epochs * steps_per_epoch)
    return plan if before == 'auto' else plan.reopened(saved['step'], enough)


def launcher(ranks: int) -> str:
    """Return the command that starts a program on so many ranks."""
    return f'torchrun --nproc-per-node={ranks}' if ranks > 1 else 'python'
