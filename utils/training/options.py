"""The groups of train.py's options that say what is learned, by which network, and how."""

import argparse
from pathlib import Path

from utils.runtime.cli import add_device_options, fold_of, number_in, regular_expression, value_list

VALIDATION = 10.0  # percent


# fmt: off
def add_split_options(group: argparse._ArgumentGroup) -> None:
    """Which images validate; settle_split looks at what was given together."""
    add = group.add_argument
    add('--validation', '-v', type=number_in(float, 0, 100), metavar='VAL',
        help='percent of the data used as validation, 0-100 (default: 10)')
    add('--split', choices=['group', 'random'], default='group',
        help='what validation holds: whole groups, or single images (default: group)')
    add('--group-regex', type=regular_expression, metavar='REGEX',
        help="the part of an image's name, its first (...) or else all that matches, that says "
        'to which group it belongs: patient, video (default: Carvana cars)')
    add('--fold', type=fold_of, metavar='K/N',
        help='validate on the K-th of N parts of the data, for cross-validation, instead of '
        '--validation')
    add('--val-images', type=Path, metavar='DIR',
        help='folder of images to validate on, instead of a part of --images')
    add('--val-masks', type=Path, metavar='DIR', help='folder of their masks')

def settle_split(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop at options of the split that exclude each other; set --validation's default."""
    if bool(args.val_images) != bool(args.val_masks):
        parser.error('--val-images and --val-masks belong together; give both')
    fixed = {
        '--validation': args.validation is not None, '--fold': args.fold,
        '--group-regex': args.group_regex, '--split random': args.split == 'random',
    }
    clash = [option for option, given in fixed.items() if given]
    if args.val_images and clash:
        parser.error(f'--val-images is all there is to validate on; leave {clash[0]} out')
    if args.fold and args.validation is not None:
        parser.error('--fold says how much is to validate on; leave --validation out')
    if args.group_regex and args.split == 'random':
        parser.error('--split random takes single images; leave it or --group-regex out')
    if args.validation is None and not (args.fold or args.val_images):
        args.validation = VALIDATION

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
    add('--padding', choices=['same', 'valid'],
        help="of the convolutions; valid is the paper's, none, with the context that it lacks "
        "mirrored at the image's border (default: --load's, or same, with paper valid)")
    add('--norm', choices=['batch', 'none'],
        help="none is the paper's, without BatchNorm (default: --load's, or batch, with paper "
        'none)')
    add('--dropout', type=number_in(float, 0, 0.99), metavar='P',
        help='part of the deepest maps that training sets to zero (default: '
        "--load's, or 0, with paper 0.5)")
    sources = group.add_mutually_exclusive_group().add_argument
    sources('--load', '-f', metavar='LOAD', help="start from a .pth file's weights")
    sources('--resume', nargs='?', const='', metavar='FILE',
            help='go on with an interrupted run, with its settings (default: last.pth in '
            '--output; auto: that, or a new run where there is none)')

def add_optimization_options(group: argparse._ArgumentGroup) -> None:
    """How the network is trained."""
    add = group.add_argument
    add('--epochs', '-e', type=number_in(int, 1), default=5, metavar='E',
        help='number of epochs (default: %(default)s)')
    add('--early-stop', type=number_in(int, 1), metavar='N',
        help='stop when validation Dice has not risen in N validations (default: never)')
    add('--recipe', choices=['fast', 'classic', 'paper'], default='fast',
        help="classic is the best-known U-Net's RMSprop, for comparison, paper the network and "
        'training of 2015 (default: %(default)s)')
    add('--batch-size', '-b', type=number_in(int, 1), metavar='B',
        help="batch size of each process (default: the recipe's, fast 2, classic 1, paper 1)")
    add('--accumulate', type=number_in(int, 1), default=1, metavar='N',
        help='batches whose gradients make one step (default: %(default)s)')
    add('--learning-rate', '-l', type=number_in(float, 0, above=True), metavar='LR',
        help="learning rate (default: the recipe's, fast 2e-3, classic 1e-5, paper 1e-3)")
    add('--dice-loss', choices=['joint', 'per-class', 'none'],
        help="one ratio for all pixels, or the mean over classes, or cross entropy alone (default: "
        "the recipe's, fast per-class, classic joint, paper none)")
    add('--loss-weights', metavar='auto|W,W,...',
        help='how much a pixel of each class counts; auto raises rare ones (default: all alike)')
    add('--weight-map', action=argparse.BooleanOptionalAction,
        help='pixels between cells that nearly touch count more, by the distances to the nearest '
        "two; cells are connected pieces of a class (default: the recipe's, only with paper)")
    add('--augment', choices=['none', 'flip', 'full', 'elastic'],
        help='flip mirrors, full also turns, zooms, shears and recolours, elastic bends smoothly '
        "instead (default: the recipe's, fast full, classic none, paper elastic)")
    add('--tile', type=number_in(int, 16), metavar='N',
        help='train on a part of N x N pixels of each image, another in each epoch (default: '
        "paper 388, else whole images)")
    add('--seed', type=number_in(int, 0), default=0, metavar='N',
        help='of weights, split and order (default: %(default)s)')
    add_device_options(group)
    add('--compile', action='store_true', help='compile the network: a slow start, faster steps')
    add('--deterministic', action='store_true',
        help='the same weights each time, on a GPU too, where that is slower')
