"""Train a U-Net from images and masks.

    python train.py -e 1 -s 0.1 --base-channels 8      # a smoke test for any CPU
    python train.py --amp                              # data/imgs, data/masks, the best settings
    python train.py --resume                           # go on where the last run stopped
    torchrun --nproc-per-node=4 train.py --amp         # four GPUs

Writes into checkpoints/: checkpoint_epoch{N}.pth each epoch, best.pth (highest validation Dice),
last.pth (for --resume), metrics.csv and curves.png, args.json, and a sheet of predictions,
samples.png.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from utils.runtime.cli import (
    add_data_options,
    add_debug_option,
    channel_count,
    number_in,
    run_program,
)
from utils.runtime.errors import UserError, first_few
from utils.training.options import (
    add_mask_options,
    add_model_options,
    add_optimization_options,
    add_split_options,
    settle_split,
)


# fmt: off
def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Train the UNet on images and target masks')
    group = parser.add_argument_group('Data')
    add = group.add_argument
    add_data_options(group)
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), default=0.5, metavar='SCALE',
        help='downscaling factor of the images (default: %(default)s)')
    add_split_options(group)
    add('--check', action='store_true',
        help='report what the data holds and all that is wrong with it, and train nothing')
    add('--json', type=Path, metavar='FILE', help="write --check's report")
    add('--skip-bad', action='store_true',
        help='train without the pairs that --check finds bad (default: they are a mistake)')
    add('--channels', type=channel_count, default='auto', metavar='N',
        help='of the images: 1 is grey, 3 RGB, other numbers come as .npy (default: auto, what '
        'the images have)')
    add('--cache', choices=['auto', 'none', 'disk', 'ram', 'device'], default='auto',
        help='keep decoded images in memory (ram), on the disk, where the next run finds them, or '
        'on the device, without workers (default: auto, ram or disk as there is room)')
    add_mask_options(parser.add_argument_group('Masks'))
    add_model_options(parser.add_argument_group('Model'))
    add_optimization_options(parser.add_argument_group('Optimization'))
    add = parser.add_argument_group('Output').add_argument
    add('--output', type=Path, default='checkpoints', metavar='DIR',
        help='folder for all that training writes (default: %(default)s)')
    add('--keep', type=number_in(int, 1), metavar='N',
        help='keep the checkpoint_epoch files of the newest N epochs only (default: all)')
    add('--save-minutes', type=number_in(float, 0), default=10.0, metavar='M',
        help='minutes between last.pth files within an epoch (default: 10)')
    add('--wandb', choices=['auto', 'online', 'offline', 'disabled'], default='auto',
        help='log to Weights & Biases (default: auto, online where you are logged in)')
    add('--wandb-histograms', action='store_true', help='log weights and gradients there too')
    add_debug_option(parser)
    return parser
# fmt: on


def get_args(argv: list[str] | None = None, defaults: dict | None = None) -> argparse.Namespace:
    """The command line; `defaults` are a resumed run's, which the command line may override."""
    parser = make_parser()
    parser.set_defaults(**(defaults or {}))
    args = parser.parse_args(argv)
    if args.json and not args.check:
        parser.error('--json writes the report of --check; add that, or leave --json out')
    if defaults is None:  # a resumed run's settings have been through this
        settle_split(parser, args)
    return args


if __name__ == '__main__':
    get_args()  # -h and wrong arguments answer here, before the seconds that torch takes

import torch
from torch import Tensor, nn
from tqdm import tqdm

from utils.data.report.check import check_data
from utils.evaluation.metrics import number, summarize
from utils.evaluation.scoring import count_at_scale
from utils.inference.logits import logits_of
from utils.runtime.devices import make_deterministic
from utils.runtime.distributed import (
    OutOfMemoryOnAnyRank,
    out_of_memory_on_all_ranks,
    world_size,
)
from utils.runtime.precision import Precision
from utils.runtime.signals import StopRequest
from utils.training.optimization.batchnorm import combine_processes
from utils.training.optimization.guard import MOST_IN_A_ROW, StepGuard
from utils.training.optimization.loss import segmentation_loss
from utils.training.optimization.recipes import MAX_GRADIENT_NORM
from utils.training.resume import is_to_resume
from utils.training.run import Run

SECONDS_PER_READING = 1.0  # of the loss; each reading waits for the device


def train(args: argparse.Namespace, argv: list[str] | None = None) -> int:
    """Train, or check the data, as the command line says; returns the exit code."""
    if args.check:
        return check_data(args)
    if args.deterministic:
        make_deterministic()
    if is_to_resume(args):
        run = Run.resume(args, lambda defaults: get_args(argv, defaults))
    else:
        run = Run.begin(args)
    print(run.describe())
    try:
        with StopRequest() as stop:
            while not run.finished() and not stop.received:
                train_epoch(run, stop)
                stop.agree()
    finally:
        run.data.close()
        run.tracker.close()
    if stop.received:
        print(f'stopped by {stop.received} at step {run.step}; go on with {run.how_to_resume()}')
        return stop.exit_code
    print(run.farewell())
    return 0


def train_epoch(run: Run, stop: StopRequest) -> None:
    """One pass over the training images, from where the run stands, or until asked to stop."""
    steps = len(run.data.batches)
    validate_after = validation_steps(steps, run.recipe.validations_per_epoch)
    run.begin_epoch()
    title = f'Epoch {run.epoch + 1}/{run.args.epochs}'
    with tqdm(total=len(run.data.training), desc=title, unit='img', dynamic_ncols=True) as bar:
        bar.update(run.meter.images)
        for batches in run.meter.timed(run.data.loader):
            loss = step_or_recompute(run, batches)
            bar.update(run.count_step(loss))
            due = run.batch in validate_after
            if due or run.meter.due(SECONDS_PER_READING):
                read_meter(run, bar)
            if due:
                with run.meter.paused():
                    validate(run)
            (saving_due,) = stop.agree(run.saving_due())
            if run.batch < steps and (stop.received or saving_due):
                run.save_last()
            if stop.received and run.batch < steps:
                return
    run.end_epoch()


def read_meter(run: Run, bar: tqdm) -> None:
    """Show, check and log how the epoch has gone so far; waits for the device."""
    figures = run.meter.figures()
    bar.set_postfix_str(f'loss {figures["loss"]:.3f}, data wait {figures["data_wait"]:.0%}')
    bad, in_a_row = run.guard.bad_steps()
    if in_a_row >= min(MOST_IN_A_ROW, run.total_steps - run.first_step):  # or all there are
        raise run.diverged(f'loss or gradient was not finite in {in_a_row} steps in a row')
    run.log_step(figures | {'skipped steps': bad})


def train_step(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    whole: int,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    guard: StepGuard,
    criterion: Callable[..., Tensor] = segmentation_loss,
) -> tuple[Tensor, Tensor]:
    """One step; returns the loss and the gradient's norm before clipping, scalars on the device.

    batches: images (B, C, H, W) float in [0, 1] and masks (B, H, W) of class indices or IGNORE,
        and, with a weight map, border weights (B, H, W).
    whole: images of all batches of all processes; each batch's loss weighs by its part of them.
    A loss or gradient that is not finite counts as a gradient of zero, and the step not at all.
    """
    guard.before_step()
    optimizer.zero_grad(set_to_none=True)
    loss, share = 0.0, 0.0
    with out_of_memory_on_all_ranks():
        for images, masks, *border in batches:
            part = len(images) / whole
            with precision.autocast():
                logits = logits_of(model, images, masks.shape[1:])
            batch_loss = criterion(logits, masks, *border) * part
            precision.scaler.scale(batch_loss).backward()
            loss, share = loss + batch_loss.detach(), share + part
    loss = combine_processes(model, loss, share)
    precision.scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    guard.check(loss, norm)
    precision.scaler.step(optimizer)
    precision.scaler.update()
    return loss, norm


def step_or_recompute(run: Run, batches: list[dict[str, Tensor]]) -> Tensor:
    """The loss of one step; out of memory, the same step again with activation checkpointing."""
    on_device = (run.on_device(batch) for batch in batches)
    whole = run.data.batches.images_in_step(run.batch)
    run.seed_dropout()
    try:
        parts = (run.optimizer, run.precision, run.guard, run.criterion)
        return train_step(run.network, on_device, whole, *parts)[0]
    except torch.OutOfMemoryError as error:
        failure = str(error).splitlines()[0]
        alone = world_size() > 1 and not isinstance(error, OutOfMemoryOnAnyRank)
    # Past the handler, whose traceback kept every activation alive.
    shapes = {f'{b["image"].shape[3]} x {b["image"].shape[2]}' for b in batches}
    tried = (
        f'batch size {run.data.batches.batch_size}, images of {first_few(sorted(shapes))}, '
        f'{run.precision.name}'
    )
    if run.model.checkpointing or alone:  # alone: the other processes have done this step
        again = ', even when computing activations twice' if run.model.checkpointing else ''
        raise UserError(
            f'out of memory with {tried}{again}: {failure}. '
            f'Try a smaller --batch-size (-b 1), --scale (-s {run.args.scale / 2:g}), or --amp. '
            'What was saved last goes on with --resume.'
        )
    tqdm.write(f'note: out of memory with {tried}; from here activations are computed twice')
    run.undo_step()
    run.use_checkpointing()
    torch.cuda.empty_cache()
    return step_or_recompute(run, batches)


def validate(run: Run) -> None:
    """Score the network, log it, and keep it as best.pth where it is the best so far."""
    training = run.meter.figures()
    if run.recipe.precise_statistics:
        run.reestimate_statistics()
    scores = None
    if run.data.validation_loader is not None:  # an empty share of it is false
        counts = count_at_scale(run.model, run.data.validation_loader, run.precision)
        masks, batch_size = run.data.dataset.masks, run.data.batches.batch_size
        scores = summarize(counts, masks.values, batch_size, masks.names)
        warning = run.collapse.warning(counts)
        run.schedule.after_validation(scores['dice_reference'])
        tqdm.write(
            f'Epoch {run.epoch + 1}, step {run.step}: validation Dice '
            f'{number(scores["dice_dataset"])}, per image {number(scores["dice_per_image"])}, '
            f'loss {training["loss"]:.3f}'
        )
        if warning:
            tqdm.write(warning)
    run.record_validation(training, scores)


def validation_steps(steps: int, validations: int) -> set[int]:
    """The steps of an epoch after which to validate, evenly spaced, the last one among them."""
    validations = min(steps, validations)
    return {round(steps * k / validations) for k in range(1, validations + 1)}


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(lambda args: train(args, argv), get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
