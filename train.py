"""Train a U-Net from images and masks.

    python train.py -e 1 -s 0.1 --base-channels 8      # a smoke test for any CPU
    python train.py --amp                              # data/imgs, data/masks, the best settings
    python train.py --resume                           # go on where the last run stopped

Writes into checkpoints/: checkpoint_epoch{N}.pth each epoch, best.pth (highest validation Dice),
last.pth (for --resume), metrics.csv, args.json and a sheet of predictions, samples.png.
"""

import argparse
import sys
from pathlib import Path

from utils.errors import UserError, run_program
from utils.options import (
    add_data_options,
    add_debug_option,
    add_device_options,
    channel_count,
    number_in,
    value_list,
)


# fmt: off
def get_args(argv: list[str] | None = None, defaults: dict | None = None) -> argparse.Namespace:
    """The command line; `defaults` are a resumed run's, which the command line may override."""
    parser = argparse.ArgumentParser(description='Train the UNet on images and target masks')
    group = parser.add_argument_group('Data')
    add = group.add_argument
    add_data_options(group)
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), default=0.5, metavar='SCALE',
        help='downscaling factor of the images (default: %(default)s)')
    add('--validation', '-v', type=number_in(float, 0, 100), default=10.0, metavar='VAL',
        help='percent of the data used as validation, 0-100 (default: 10)')
    add('--split', choices=['group', 'random'], default='group',
        help='what validation holds: whole Carvana cars, or single images (default: group)')
    add('--check', action='store_true',
        help='report what the data holds and all that is wrong with it, and train nothing')
    add('--json', type=Path, metavar='FILE', help="write --check's report")
    add('--skip-bad', action='store_true',
        help='train without the pairs that --check finds bad (default: they are a mistake)')
    add('--channels', type=channel_count, default='auto', metavar='N',
        help='of the images: 1 is grey, 3 RGB, other numbers come as .npy (default: auto, what '
        'the images have)')
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
    parser.set_defaults(**(defaults or {}))
    args = parser.parse_args(argv)
    if args.json and not args.check:
        parser.error('--json writes the report of --check; add that, or leave --json out')
    return args


def add_mask_options(group: argparse._ArgumentGroup) -> None:
    """Which mask values are classes; a checkpoint keeps the answers for the other programs."""
    add = group.add_argument
    add('--classes', '-c', type=number_in(int, 1, 254), metavar='C',
        help='number of classes; 1 is binary (default: as many as the masks hold values)')
    add('--mask-values', type=value_list, default=(), metavar='V,V',
        help='the value of each class, in class order; colours as R:G:B,R:G:B (default: '
        'classes.json, or else all that the masks hold)')
    add('--snap-masks', action='store_true',
        help='take any other value as the nearest of these, for JPEG and smoothed masks')
    add('--binarize', type=number_in(int, 0, 65534), metavar='T',
        help='grey values over T are the foreground, all others the background')
    add('--ignore-value', type=value_list, default=(), metavar='V,V',
        help='values of pixels that count in neither loss nor score')


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """What the network is, and where its weights come from."""
    add = group.add_argument
    add('--bilinear', action='store_true', help='use bilinear upsampling')
    add('--base-channels', type=number_in(int, 1), metavar='N',
        help="channels of the first level, doubled at each step down (default: 64, or --load's)")
    sources = group.add_mutually_exclusive_group().add_argument
    sources('--load', '-f', metavar='LOAD', help="start from a .pth file's weights")
    sources('--resume', nargs='?', const='', metavar='FILE',
            help='go on with an interrupted run, with its settings (default: last.pth in '
            '--output)')


def add_optimization_options(group: argparse._ArgumentGroup) -> None:
    """How the network is trained."""
    add = group.add_argument
    add('--epochs', '-e', type=number_in(int, 1), default=5, metavar='E',
        help='number of epochs (default: %(default)s)')
    add('--early-stop', type=number_in(int, 1), metavar='N',
        help='stop when validation Dice has not risen in N validations (default: never)')
    add('--recipe', choices=['fast', 'classic'], default='fast',
        help="classic is the original's RMSprop, for comparison (default: %(default)s)")
    add('--batch-size', '-b', type=number_in(int, 1), metavar='B',
        help="batch size (default: the recipe's, fast 2, classic 1)")
    add('--learning-rate', '-l', type=number_in(float, 0, above=True), metavar='LR',
        help="learning rate (default: the recipe's, fast 1e-3, classic 1e-5)")
    add('--augment', choices=['none', 'flip', 'full'],
        help='flip mirrors, full also turns, zooms, shears and recolours (default: the '
        "recipe's, fast flip, classic none)")
    add('--seed', type=number_in(int, 0), default=0, metavar='N',
        help='of weights, split and order (default: %(default)s)')
    add_device_options(group)
# fmt: on


if __name__ == '__main__':
    get_args()  # -h and wrong arguments answer here, before the seconds that torch takes

import torch
from torch import Tensor, nn
from tqdm import tqdm

from evaluate import evaluate
from utils.check import check
from utils.data_loading import to_device
from utils.device import Precision
from utils.dice_score import segmentation_loss
from utils.guard import MOST_IN_A_ROW, StepGuard
from utils.metrics import summarize
from utils.recipes import MAX_GRADIENT_NORM
from utils.signals import StopRequest
from utils.training_run import Run

SECONDS_PER_READING = 1.0  # of the loss; each reading waits for the device


def train(args: argparse.Namespace, argv: list[str] | None = None) -> int:
    """Train, or check the data, as the command line says; returns the exit code."""
    if args.check:
        return check(args)
    if args.resume is not None:
        run = Run.resume(args, lambda defaults: get_args(argv, defaults))
    else:
        run = Run.begin(args)
    print(run.describe())
    try:
        with StopRequest() as stop:
            while not run.finished() and not stop.received:
                train_epoch(run, stop)
    finally:
        run.tracker.close()
    if stop.received:
        print(f'stopped by {stop.received} at step {run.step}; go on with {run.how_to_resume()}')
        return stop.exit_code
    print(run.farewell())
    return 0


def train_epoch(run: Run, stop: StopRequest) -> None:
    """One pass over the training images, from where the run stands, or until asked to stop."""
    batches = run.data.batches
    validate_after = validation_steps(len(batches), run.recipe.validations_per_epoch)
    run.begin_epoch()
    title = f'Epoch {batches.epoch}/{run.args.epochs}'
    with tqdm(total=len(run.data.training), desc=title, unit='img', dynamic_ncols=True) as bar:
        bar.update(run.meter.images)
        for batch in run.meter.timed(run.data.loader):
            loss = step_or_recompute(run, batch)
            run.count_step(loss, len(batch['image']))
            bar.update(len(batch['image']))
            due = run.batch in validate_after
            if due or run.meter.due(SECONDS_PER_READING):
                read_meter(run, bar)
            if due:
                with run.meter.paused():
                    validate(run)
            if run.batch < len(batches) and (stop.received or run.saving_due()):
                run.save_last()
            if stop.received and run.batch < len(batches):
                return
    run.end_epoch()


def read_meter(run: Run, bar: tqdm) -> None:
    """Show, check and log how the epoch has gone so far; waits for the device."""
    figures = run.meter.figures()
    bar.set_postfix_str(f'loss {figures["loss"]:.3f}, data wait {figures["data_wait"]:.0%}')
    bad, in_a_row = run.guard.bad_steps()
    if in_a_row >= min(MOST_IN_A_ROW, len(run.data.batches)):
        raise run.diverged(f'loss or gradient was not finite in {in_a_row} steps in a row')
    run.log_step(figures | {'skipped steps': bad})


def train_step(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    guard: StepGuard,
) -> tuple[Tensor, Tensor]:
    """One step; returns the loss and the gradient's norm before clipping, scalars on the device.

    images: (B, C, H, W) float in [0, 1]; masks: (B, H, W) class indices or IGNORE. A loss or
    gradient that is not finite counts as a gradient of zero, and its batch not at all.
    """
    guard.before_step()
    optimizer.zero_grad(set_to_none=True)
    with precision.autocast():
        logits = model(images)
    loss = segmentation_loss(logits, masks)
    precision.scaler.scale(loss).backward()
    precision.scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    guard.check(loss, norm)
    precision.scaler.step(optimizer)
    precision.scaler.update()
    return loss.detach(), norm


def step_or_recompute(run: Run, batch: dict[str, Tensor]) -> Tensor:
    """The loss of one step; out of memory, the same step again with activation checkpointing."""
    images, masks = to_device(batch, run.precision.device)
    try:
        return train_step(run.model, images, masks, run.optimizer, run.precision, run.guard)[0]
    except torch.OutOfMemoryError as error:
        failure = str(error).splitlines()[0]
    # Past the handler, whose traceback kept every activation alive.
    height, width = batch['image'].shape[-2:]
    tried = f'batch size {len(batch["image"])}, images of {width} x {height}, {run.precision.name}'
    if run.model.checkpointing:
        raise UserError(
            f'out of memory with {tried}, even when computing activations twice: {failure}. '
            f'Try a smaller --batch-size (-b 1), --scale (-s {run.args.scale / 2:g}), or --amp. '
            'What was saved last goes on with --resume.'
        )
    tqdm.write(f'note: out of memory with {tried}; from here activations are computed twice')
    run.undo_step()
    run.model.use_checkpointing()
    torch.cuda.empty_cache()
    return step_or_recompute(run, batch)


def validate(run: Run) -> None:
    """Score the network, log it, and keep it as best.pth where it is the best so far."""
    training = run.meter.figures()
    if run.recipe.precise_statistics:
        run.reestimate_statistics()
    scores = None
    if run.data.validation_loader:
        counts = evaluate(run.model, run.data.validation_loader, run.precision)
        masks, batch_size = run.data.dataset.masks, run.data.batches.batch_size
        scores = summarize(counts, masks.values, batch_size, masks.names)
        run.schedule.after_validation(scores['dice_reference'])
        tqdm.write(
            f'Epoch {run.epoch + 1}, step {run.step}: validation Dice '
            f'{text(scores["dice_dataset"])}, per image {text(scores["dice_per_image"])}, '
            f'loss {training["loss"]:.3f}'
        )
    run.record_validation(training, scores)


def validation_steps(steps: int, validations: int) -> set[int]:
    """The steps of an epoch after which to validate, evenly spaced, the last one among them."""
    validations = min(steps, validations)
    return {round(steps * k / validations) for k in range(1, validations + 1)}


def text(value: float | None) -> str:
    """A score for the terminal."""
    return '-' if value is None else f'{value:.4f}'


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(lambda args: train(args, argv), get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
