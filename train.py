"""Train a U-Net from images and masks.

    python train.py -e 1 -s 0.1 --base-channels 8      # a smoke test for any CPU
    python train.py --amp                              # data/imgs, data/masks, the best settings
    python train.py --resume                           # continue where the last run stopped
    torchrun --nproc-per-node=4 train.py --amp         # four GPUs

Writes into checkpoints/: checkpoint_epoch{N}.pth each epoch, best.pth (highest validation Dice),
last.pth (for --resume), metrics.csv and curves.png, args.json, and a sheet of predictions,
samples.png.
"""

import argparse
import importlib.util
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from utils.runtime import cli
from utils.runtime.signals import StopRequest
from utils.training import options

if TYPE_CHECKING:  # importing torch takes seconds: -h and argument errors come first
    import torch

    from unet import UNet
    from utils.training.builder import TrainingRun


# fmt: off
def make_parser() -> cli.ProgramParser:
    """Return the parser of the command line."""
    parser = cli.ProgramParser('Train the UNet on images and target masks', options.ORIGINAL)
    group = parser.add_argument_group('Data')
    add = group.add_argument
    cli.add_data_options(group)
    add('--scale', '-s', type=cli.number_in(float, 0, 1, above=True), default=0.5, metavar='SCALE',
        help='downscaling factor of the images (default: %(default)s)')
    options.add_split_options(group)
    add('--check', action='store_true',
        help='report what the data contain and every problem, and do not train')
    add('--json', type=Path, metavar='FILE', help="write --check's report")
    add('--report', type=Path, metavar='DIR',
        help="write --check's report as an HTML page with images, DIR/index.html")
    add('--dry-run', action='store_true',
        help='train 20 steps, say what the run would take and whether the loss falls, and keep '
        'nothing')
    add('--skip-bad', action='store_true',
        help='train without the pairs in which --check finds a problem (default: report an error)')
    add('--channels', type=cli.count_or_auto, default='auto', metavar='N',
        help='channels of the images: 1 is grey, 3 RGB, other numbers come as TIFF or .npy '
        '(default: auto, what the images have)')
    add('--image-range', type=cli.value_range, metavar='LOW,HIGH',
        help='values of 16-bit and float images that become 0 and 1 (default: 0.5 and 99.5 '
        'percentile of the training images, of each channel)')
    add('--cache', choices=['auto', 'none', 'disk', 'ram', 'device'], default='auto',
        help='keep decoded images in memory (ram), on disk, where the next run finds them, or on '
        'the device (default: auto: an existing disk cache, else ram or disk, whichever has room; '
        'none for a single epoch)')
    options.add_mask_options(parser.add_argument_group('Masks'))
    options.add_model_options(parser.add_argument_group('Model'))
    options.add_optimization_options(parser.add_argument_group('Optimization'))
    add = parser.add_argument_group('Output').add_argument
    add('--output', type=Path, default='checkpoints', metavar='DIR',
        help='folder of all files that training writes (default: %(default)s)')
    add('--keep', type=cli.number_in(int, 1), metavar='N',
        help='keep checkpoint_epoch files of the newest N epochs only (default: all)')
    add('--save-minutes', type=cli.number_in(float, 0), default=10.0, metavar='M',
        help='minutes between last.pth files within an epoch (default: 10)')
    add('--wandb', choices=['auto', 'online', 'offline', 'disabled'], default='auto',
        help='log to Weights & Biases (default: auto, online where you are logged in)')
    add('--wandb-histograms', action='store_true', help='log weights and gradients there too')
    add('--tensorboard', action=argparse.BooleanOptionalAction,
        help="write TensorBoard's event files into the folder tensorboard of --output")
    cli.add_debug_option(parser)
    return parser
# fmt: on


def get_args(argv: list[str] | None = None, defaults: dict | None = None) -> argparse.Namespace:
    """Parse the command line; `defaults` are a resumed run's, which the command line overrides."""
    parser = make_parser()
    parser.check_settings(defaults or {})
    parser.set_defaults(**(defaults or {}))
    args = parser.parse_args(argv)
    for option, given in (('--json', args.json), ('--report', args.report)):
        if given and not args.check:
            parser.error(f'{option} writes the report of --check; add that, or leave {option} out')
    if args.tensorboard and importlib.util.find_spec('tensorboard') is None:
        parser.error(
            '--tensorboard needs the package tensorboard: pip install tensorboard. A resumed run '
            'goes on without it by --no-tensorboard.'
        )
    options.check_length(parser, args)
    if defaults is None:  # a resumed run's settings have been through this
        options.settle_split(parser, args)
    return args


def train(args: argparse.Namespace, argv: list[str] | None, stop: StopRequest) -> int:
    """Train, or check the data, as the command line says; return the exit code."""
    from utils.data.report.command import check_data
    from utils.runtime.devices import make_deterministic
    from utils.training.builder import build_run
    from utils.training.optimization.recipes import RECIPES

    if args.check:
        return check_data(args, RECIPES[args.recipe].decode)
    if args.deterministic:
        make_deterministic()
    if args.dry_run:
        return dry_run(args, stop)
    # A resumed run parses the command line again, with the run's settings as defaults.
    run = build_run(args, lambda defaults: get_args(argv, defaults))
    train_run(run, stop)
    if stop.received:
        stopped = f'stopped by {stop.received} at step {run.state.step}'
        print(f'{stopped}; continue with {run.recorder.how_to_resume()}')
        return stop.exit_code
    print(run.recorder.summary())
    return 0


def dry_run(args: argparse.Namespace, stop: StopRequest) -> int:
    """Train a few steps and print what the run would take; keep no file. Return the exit code."""
    from utils.training.builder import build_run
    from utils.training.duration.dry_run import rehearse

    with TemporaryDirectory() as folder:
        args.output, args.wandb = Path(folder), 'disabled'
        run = build_run(args, lambda _: args)
        print(run.describe())
        stop.catch_all()
        with closing(run):
            print(rehearse(run, stop))
    return stop.exit_code


def train_run(run: 'TrainingRun', stop: StopRequest) -> None:
    """Train until the last epoch or a signal, which `stop` has received then."""
    data, state, recorder = run.data, run.state, run.recorder
    print(run.describe())
    stop.catch_all()
    with closing(run):
        while not state.finished() and not stop.received:
            steps = data.steps(state.epoch, state.step_in_epoch)
            for micro_batches in recorder.progress(steps):
                loss, images = run.step_runner.run_step(micro_batches)
                recorder.count_step(loss, images)
                if state.validation_due():
                    run.validator.validate()
                (saving_due,) = stop.sync(recorder.saving_due(), agree=run.step_runner.agree)
                if state.epoch_unfinished() and (stop.received or saving_due):
                    recorder.save_last()
                if state.epoch_unfinished() and stop.received:
                    break
            if not state.epoch_unfinished():
                state.end_epoch()
                recorder.end_epoch()
            stop.sync()


def train_model(
    model: 'UNet',
    device: 'torch.device',
    epochs: int = 5,
    batch_size: int = 1,
    learning_rate: float = 1e-5,
    val_percent: float = 0.1,
    save_checkpoint: bool = True,
    img_scale: float = 0.5,
    amp: bool = False,
    weight_decay: float = 1e-8,
    momentum: float = 0.999,
    gradient_clipping: float = 1.0,
) -> None:
    """Train a network by the classic recipe, for scripts written for the original.

    The data are data/imgs and data/masks. `val_percent`, 0 to 1, of the images make the validation
    set, by random_split of the sorted names with seed 0. Files are written into checkpoints/, or
    nowhere without `save_checkpoint`. `model` has the trained weights afterwards, on `device`.
    Raises UserError for what could not work, and KeyboardInterrupt when stopped by a signal.
    """
    from utils.training.builder import build_run
    from utils.training.optimization.recipes import classic_with

    args = get_args(['--recipe', 'classic', '--split', 'random'])
    vars(args).update(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, scale=img_scale,
        validation=100 * val_percent, amp=amp, device=str(device), channels=model.n_channels,
        classes=model.n_classes, padding=model.padding, bilinear=model.bilinear,
        base_channels=model.base_channels, norm=model.norm, dropout=model.dropout,
    )  # fmt: skip
    recipe = classic_with(weight_decay, momentum, gradient_clipping)
    with StopRequest() as stop, nullcontext() if save_checkpoint else TemporaryDirectory() as part:
        args.output = Path(part or args.output)
        train_run(build_run(args, lambda _: args, model, recipe), stop)
    if stop.received:
        raise KeyboardInterrupt(f'training was stopped by {stop.received}')


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    with StopRequest() as stop:
        return cli.run_program(
            lambda args: train(args, argv, stop), get_args(argv), 'utils.training.builder'
        )


if __name__ == '__main__':
    sys.exit(main())
