"""Make a trained U-Net cheaper: remove the channels that matter least, and train what is left.

    python prune.py -m checkpoints/best.pth -o slim.pth --cost 0.25   # a quarter of the cost
    python prune.py -m best.pth -o slim.pth --cost auto --max-drop 0.5   # points of Dice
    python prune.py -m best.pth -o slim.pth --cost 0.5 --images imgs --masks masks --amp
    python predict.py -m slim.pth -i image.jpg                        # as any other checkpoint

Channels go in rounds that each keep at least a quarter; after each the network is trained. The same
command continues a run that was stopped. Rounds are kept in a folder
beside the output, slim-rounds/, each with the files of a training, and a picture of the widths; the
folder can be removed at the end.
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
    from unet import UNet
    from utils.pruning.rounds import Pruning

GENTLE = 0.4  # of a recipe's learning rate; a quarter of the cost gained 0.04 to 0.13 points by it
MUCH = 0.05  # of Dice; a loss over this is told of with what to try


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
    add('--cost', type=cost_of, default=0.25, metavar='F',
        help="largest part of the network's multiply-adds to keep, at most 1; auto: the least that "
        'keeps to --max-drop (default: %(default)s)')
    add('--max-drop', type=number_in(float, 0, 100), metavar='D',
        help='points of validation Dice that --cost auto may lose (default: 0.2)')
    add('--importance', choices=['taylor', 'batchnorm', 'magnitude'], default='taylor',
        help='what makes a channel important: the change of the loss without it, the scale of its '
        'BatchNorm, or the size of its weights (default: %(default)s)')
    add('--distill', action='store_true',
        help="learn from the given network's probabilities, too, which takes twice as long "
        '(default: from the masks)')
    add('--epochs', '-e', type=number_in(int, 1), default=12, metavar='E',
        help='epochs after the last round; one follows each other round (default: %(default)s). '
        'Of --cost auto: after each')
    add('--batch-size', '-b', type=number_in(int, 1), metavar='B',
        help='images a batch (default: 2)')
    cli.add_device_options(group)
    add = parser.add_argument_group('Output').add_argument
    add('--output', '-o', type=Path, default='slim.pth', metavar='FILE',
        help='the file to write (default: %(default)s)')
    add('--json', type=Path, metavar='FILE', help='write the table of the end, with all widths')
    add('--rival', action='store_true',
        help='train a network of that cost from scratch, too, for the time that the training of '
        'the given network and pruning took, and add it to the table')
    cli.add_debug_option(parser)
    return parser
# fmt: on


def cost_of(text: str) -> float | str:
    """Argparse type of --cost: 'auto', or a part of the multiply-adds over 0 and up to 1."""
    return text if text == 'auto' else number_in(float, 0, 1, above=True)(text)


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `max_drop` is None unless --cost is auto."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if bool(args.images) != bool(args.masks):
        parser.error('--images and --masks belong together; give both')
    if args.cost == 'auto' and args.max_drop is None:
        args.max_drop = 0.2
    elif args.cost != 'auto' and args.max_drop is not None:
        parser.error('--max-drop belongs to --cost auto; add that, or leave it out')
    if args.cost == 1 and args.rival:
        parser.error('--rival compares with a pruned network, and --cost 1 prunes nothing')
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
    known = trained_with(args.model, checkpoint)
    if not known:
        print(
            f'note: the settings of the training of {args.model} are not known, because no '
            'args.json is beside it: pictures to validate on may be among those it was trained on'
        )
    if args.images:  # and none of the files that belong to the others
        if 'val_images' in known or 'val_list' in known:
            known.pop('validation', None)  # 0: it had files of its own
        known = {name: value for name, value in known.items() if name in READING}
        known |= {'images': str(args.images), 'masks': str(args.masks)}
    settings |= known
    wanted = {'device': args.device, 'amp': args.amp, 'workers': args.workers}
    wanted |= {'batch_size': args.batch_size, 'wandb': 'disabled', 'keep': 1}
    return Pruning(args, train.get_args([], settings | wanted), checkpoint)


def train_network(
    pruning: 'Pruning', folder: Path, epochs: int, stop: StopRequest, **settings: object
) -> Path | None:
    """Train in a folder, or go on there; return the best checkpoint, None if stopped.

    settings: of train.py, in place of the data's. A network to `load` has been pruned, and with
    --distill learns from the dense one; without it, a new one is trained.
    """
    from utils.pruning.distillation import Distillation
    from utils.pruning.rounds import result_of
    from utils.training.builder import build_run
    from utils.training.optimization.recipes import RECIPES

    wanted = {'output': folder, 'epochs': epochs, 'resume': 'auto'} | settings
    args = argparse.Namespace(**vars(pruning.settings) | wanted)
    recipe = RECIPES['fast']
    if args.load:  # trained already: large steps, and those at half size, would set it back
        recipe = replace(recipe, coarse=0.0, learning_rate=GENTLE * recipe.learning_rate)
    masks = pruning.checkpoint.masks
    run = build_run(args, partial(_as_asked, args), recipe=recipe, masks=masks)
    if args.load and pruning.args.distill:
        Distillation.attach(run, pruning.dense)
    if run.state.finished():
        run.close()
    else:
        train.train_run(run, stop)
    return None if stop.received else result_of(folder, epochs)


def _as_asked(settings: argparse.Namespace, _: dict) -> argparse.Namespace:
    return settings


def run_rounds(pruning: 'Pruning', folder: Path, stop: StopRequest) -> Path | None:
    """Prune and train, round by round; return the last round's checkpoint, None if stopped."""
    from utils.pruning.plan import round_count

    source: Path | None = pruning.args.model
    cost, rounds = pruning.args.cost, round_count(pruning.args.cost)
    for number in range(1, rounds + 1):
        pruned, epochs = folder / f'round{number}.pth', 1
        if not pruned.is_file() and source:
            pruning.write_pruned(source, cost ** (number / rounds), pruned)
        if number == rounds:
            epochs = pruning.args.epochs
        source = train_network(pruning, pruned.with_suffix(''), epochs, stop, load=str(pruned))
        if source is None:
            return None
    return source


def search(pruning: 'Pruning', folder: Path, stop: StopRequest) -> Path | None:
    """Return the checkpoint of the cheapest network that loses at most --max-drop, None if stopped.

    Each trial prunes the cheapest network so far that does not lose more, and trains it.
    """
    from utils.inference.checkpoint import load_checkpoint
    from utils.pruning.plots import draw_pareto
    from utils.pruning.search import cheapest_passing, next_cost, write_pareto

    trials = [pruning.trial(pruning.args.model, pruning.checkpoint)]
    least_dice = trials[0].dice - pruning.args.max_drop / 100
    possible = pruning.least / pruning.cost
    while (cost := next_cost(trials, least_dice, possible)) is not None:
        pruned = folder / f'trial{len(trials)}.pth'
        if not pruned.is_file():
            pruning.write_pruned(cheapest_passing(trials, least_dice).file, cost, pruned)
        output, epochs = pruned.with_suffix(''), pruning.args.epochs
        found = train_network(pruning, output, epochs, stop, load=str(pruned))
        if found is None:
            return None
        trials.append(pruning.trial(found, load_checkpoint(found), cost))
        write_pareto(trials, least_dice, folder / 'pareto.csv')
        print(f'{pruned.stem}: {trials[-1].describe(trials[0].dice)}')
    draw_pareto(trials, least_dice, folder / 'pareto.png')
    best = cheapest_passing(trials, least_dice)
    if best is trials[0]:
        why = 'no network of narrower layers is cheaper'
        if trials[1:]:
            why = f'every cheaper network loses more than {pruning.args.max_drop:g} points'
        print(f'note: {why}: nothing was pruned')
    return best.file


def train_rival(
    pruning: 'Pruning', slim: 'UNet', folder: Path, stop: StopRequest
) -> tuple[Path | None, dict[str, float | None]]:
    """Train a network of the slim one's cost from scratch for the same total time.

    Return its checkpoint, None if stopped, and the seconds of training of all three networks.
    """
    from utils.pruning import rival
    from utils.training.optimization.recipes import RECIPES

    dense = rival.training_seconds(pruning.args.model.parent)
    pruned = rival.seconds_of_pruning(sorted(folder.glob('*.pth')))
    total = (dense or 0.0) + pruned
    cost = slim.multiply_adds(pruning.size)
    width = rival.rival_base_channels(pruning.dense, cost, pruning.size)
    settings = rival.rival_settings(pruning.dense, pruning.settings, width)
    timed, output = folder / 'rival-timed', folder / 'rival'
    if not train_network(pruning, timed, 2, stop, **settings):
        return None, {}
    epochs = rival.epochs_in(total, timed, RECIPES['fast'].coarse)
    print(f'rival: --base-channels {width}, {epochs} epochs in about {total:.0f} s')
    if dense is None:
        print('note: the time of the dense network is not known; the rival gets that of pruning')
    found = train_network(pruning, output, epochs, stop, **settings)
    seconds = {'before': dense, 'after': total, 'rival': rival.training_seconds(output)}
    return found, seconds


def prune(args: argparse.Namespace, stop: StopRequest) -> int:
    """Write the slim network and print the table; return the exit code."""
    from utils.inference.checkpoint import load_checkpoint, save_checkpoint
    from utils.pruning.figures import loss_of_dice, table, to_json
    from utils.pruning.plots import draw_widths
    from utils.pruning.rounds import open_folder

    pruning = open_pruning(args)
    folder = args.output.with_name(f'{args.output.stem}-rounds')
    result: Path | None = args.model
    if args.cost != 1:
        open_folder(folder, args)
        result = (search if args.cost == 'auto' else run_rounds)(pruning, folder, stop)
    networks: dict[str, Path | None] = {'before': args.model, 'after': result}
    seconds: dict[str, float | None] = {}
    if args.rival and result:
        slim = load_checkpoint(result).build_model()
        networks['rival'], seconds = train_rival(pruning, slim, folder, stop)
    figures = {}
    for name, path in networks.items():
        if path is None:
            print(f'stopped by {stop.received}; the same command continues')
            return stop.exit_code
        found = load_checkpoint(path)
        figures[name] = pruning.figures(found) | {'seconds': seconds.get(name)}
        if name == 'after':
            save_checkpoint(replace(found, training=None), args.output)
    pruning.data.close()
    if args.cost != 1:
        before, after = (figures[name]['widths'] for name in ('before', 'after'))
        draw_widths(before, after, folder / 'widths.png')
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps(to_json(figures), indent=1) + '\n')
    print(table(figures))
    lost = loss_of_dice(figures['before'], figures['after'])
    if lost and lost['mean'] > MUCH:
        print(f'note: much is lost. Try more epochs (-e {2 * args.epochs}), or a higher --cost.')
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
