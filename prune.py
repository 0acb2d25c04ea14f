"""Make a trained U-Net cheaper: remove the channels that matter least, and train what is left.

    python prune.py -m checkpoints/best.pth -o slim.pth --cost 0.25   # a quarter of the cost
    python prune.py -m best.pth -o slim.pth --cost 0.5 --images imgs --masks masks --amp
    python predict.py -m slim.pth -i image.jpg                        # as any other checkpoint

Channels go in three rounds; after each the network learns from the masks and from the dense network
(distillation). The same command continues a run that was stopped. Rounds are kept in a folder
beside the output, slim-rounds/, each with the files of a training; it can be removed at the end.
"""

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import train
from utils.runtime import cli
from utils.runtime.cli import number_in
from utils.runtime.errors import UserError
from utils.runtime.files import check_output_file, whole_file
from utils.runtime.signals import StopRequest

if TYPE_CHECKING:  # importing torch takes seconds: -h and argument errors come first
    from utils.pruning.rounds import Pruning


# fmt: off
def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ProgramParser('Make a trained U-Net cheaper by removing channels')
    add = parser.add_argument_group('Data').add_argument
    add('--images', type=Path, metavar='DIR',
        help="folder or pattern of the training images (default: the model's, from args.json "
        'beside it, or data/imgs)')
    add('--masks', type=Path, metavar='DIR', help='their masks; give both or none')
    group = parser.add_argument_group('Pruning')
    add = group.add_argument
    add('--model', '-m', type=Path, default='checkpoints/best.pth', metavar='FILE',
        help='the trained network (default: %(default)s)')
    add('--cost', type=number_in(float, 0, 1, above=True), default=0.25, metavar='F',
        help="largest part of the network's multiply-adds to keep, at most 1 (default: "
        '%(default)s)')
    add('--importance', choices=['taylor', 'batchnorm', 'magnitude'], default='taylor',
        help='what makes a channel important: the change of the loss without it, the scale of its '
        'BatchNorm, or the size of its weights (default: %(default)s)')
    add('--epochs', '-e', type=number_in(int, 1), default=4, metavar='E',
        help='epochs after the last round; one follows each other round (default: %(default)s)')
    add('--batch-size', '-b', type=number_in(int, 1), metavar='B',
        help='images a batch (default: 2)')
    cli.add_device_options(group)
    add = parser.add_argument_group('Output').add_argument
    add('--output', '-o', type=Path, default='slim.pth', metavar='FILE',
        help='the file to write (default: %(default)s)')
    add('--json', type=Path, metavar='FILE', help='write the table of the end, with all widths')
    cli.add_debug_option(parser)
    return parser
# fmt: on


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if bool(args.images) != bool(args.masks):
        parser.error('--images and --masks belong together; give both')
    return args


def open_pruning(args: argparse.Namespace) -> 'Pruning':
    """Return the network and its data; raise UserError for everything that could not work."""
    from utils.inference.checkpoint import load_checkpoint
    from utils.pruning.rounds import READING, Pruning, trained_with
    from utils.runtime.distributed import world_size

    if world_size() > 1:
        raise UserError('prune.py runs in one process: start it with python, not torchrun')
    if args.output.suffix != '.pth':
        raise UserError(f'cannot write {args.output}; expected a name that ends in .pth')
    for file in filter(None, (args.output, args.json)):
        check_output_file(file)
    checkpoint = load_checkpoint(args.model)
    if args.output.resolve() == args.model.resolve():
        raise UserError(f'--output is {args.model}, the network to prune. Name another file.')
    settings: dict = {'scale': checkpoint.scale or 0.5, 'validation': 10.0}
    settings |= trained_with(args.model, checkpoint)
    if args.images:  # and none of the files that belong to the others
        settings = {name: value for name, value in settings.items() if name in READING}
        settings |= {'images': str(args.images), 'masks': str(args.masks)}
    wanted = {'device': args.device, 'amp': args.amp, 'workers': args.workers}
    wanted |= {'batch_size': args.batch_size, 'wandb': 'disabled', 'keep': 1}
    return Pruning(args, train.get_args([], settings | wanted), checkpoint)


def run_rounds(pruning: 'Pruning', folder: Path, stop: StopRequest) -> Path | None:
    """Prune and train, round by round; return the last round's checkpoint, None if stopped."""
    from utils.pruning.distillation import Distillation
    from utils.pruning.rounds import ROUNDS, result_of
    from utils.training.builder import build_run
    from utils.training.optimization.recipes import RECIPES

    # The network is trained already: steps at half the resolution would only set it back.
    recipe = replace(RECIPES['fast'], coarse=0.0)
    source = pruning.args.model
    for number in range(1, ROUNDS + 1):
        pruned, output = folder / f'round{number}.pth', folder / f'round{number}'
        if not pruned.is_file():
            pruning.write_round(source, number, pruned)
        epochs = pruning.args.epochs if number == ROUNDS else 1
        settings = argparse.Namespace(
            **vars(pruning.settings)
            | {'load': str(pruned), 'output': output, 'epochs': epochs, 'resume': 'auto'}
        )
        run = build_run(settings, partial(_as_asked, settings), recipe=recipe)
        Distillation.attach(run, pruning.dense)
        if not run.state.finished():
            train.train_run(run, stop)
        else:
            run.close()
        if stop.received:
            return None
        source = result_of(output, epochs)
    return source


def _as_asked(settings: argparse.Namespace, _: dict) -> argparse.Namespace:
    return settings


def prune(args: argparse.Namespace, stop: StopRequest) -> int:
    """Write the slim network and print the table; return the exit code."""
    from utils.inference.checkpoint import load_checkpoint, save_checkpoint
    from utils.pruning.rounds import open_folder, table

    pruning = open_pruning(args)
    result: Path | None = args.model
    if args.cost < 1:
        folder = args.output.with_name(f'{args.output.stem}-rounds')
        open_folder(folder, args)
        result = run_rounds(pruning, folder, stop)
    if result is None:
        print(f'stopped by {stop.received}; the same command continues')
        return stop.exit_code
    slim = replace(load_checkpoint(result), training=None)
    before, after = pruning.figures(pruning.checkpoint), pruning.figures(slim)
    pruning.data.close()
    save_checkpoint(slim, args.output)
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps({'before': before, 'after': after}, indent=1) + '\n')
    print(table(before, after))
    print(f'{args.output} written. Predict with: python predict.py -m {args.output} -i IMAGE')
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    with StopRequest() as stop:
        return cli.run_program(
            lambda args: prune(args, stop), get_args(argv), 'utils.pruning.rounds'
        )


if __name__ == '__main__':
    sys.exit(main())
