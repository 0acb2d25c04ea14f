"""Groups of train.py's options: split, masks, model, optimization."""

import argparse
from pathlib import Path

from utils.runtime.cli import (
    add_device_options,
    background_value,
    fold_of,
    number_in,
    regular_expression,
    value_list,
)

# Options that train.py of the original has.
ORIGINAL = (
    '--epochs --batch-size --learning-rate --load --scale --validation --amp --bilinear --classes'
)


# fmt: off
def add_split_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the split; settle_split checks them together."""
    add = group.add_argument
    add('--validation', '-v', type=number_in(float, 0, 100), metavar='VAL',
        help='percent of the data used as validation, 0-100 (default: 10)')
    add('--split', choices=['group', 'random'], default='group',
        help='put whole groups into validation, or single images (default: group)')
    add('--group-regex', type=regular_expression, metavar='REGEX',
        help="the part of an image's name that is its group (patient, video): the first (...) of "
        'the expression, or else the whole match (default: Carvana cars, pages of one file)')
    add('--fold', type=fold_of, metavar='K/N',
        help='validate on the K-th of N parts of the data, for cross-validation, instead of '
        '--validation')
    add('--val-images', type=Path, metavar='DIR',
        help='folder of images to validate on, instead of a part of --images')
    add('--val-masks', type=Path, metavar='DIR', help='folder of their masks')
    add('--val-list', type=Path, metavar='FILE',
        help='names of the images to validate on, as in --list, instead of --validation')

def settle_split(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop at options of the split that exclude each other; set the default of --validation."""
    if bool(args.val_images) != bool(args.val_masks):
        parser.error('--val-images and --val-masks belong together; give both')
    fixed = {
        '--validation': args.validation is not None, '--fold': args.fold,
        '--group-regex': args.group_regex, '--split random': args.split == 'random',
    }
    clash = [option for option, given in fixed.items() if given]
    fixed_by = '--val-images' if args.val_images else '--val-list' if args.val_list else ''
    if fixed_by and clash:
        parser.error(f'{fixed_by} is the whole validation set; leave {clash[0]} out')
    if args.fold and args.validation is not None:
        parser.error('--fold sets the size of the validation set; leave --validation out')
    if args.group_regex and args.split == 'random':
        parser.error('--split random ignores groups; leave it or --group-regex out')
    if args.validation is None and not (args.fold or fixed_by):
        args.validation = 10.0

def add_mask_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of mask values; checkpoints keep them for the other programs."""
    add = group.add_argument
    add('--classes', '-c', type=number_in(int, 1, 254), metavar='C',
        help='number of classes; 1 is binary (default: one for each value in the masks)')
    add('--mask-values', type=value_list, default=(), metavar='V,V',
        help='the value of each class, in class order; colours as R:G:B,R:G:B (default: '
        'a class table beside the masks, or else all values in the masks)')
    add('--snap-masks', action='store_true',
        help='replace any other value by the nearest of these, for JPEG and smoothed masks')
    add('--binarize', type=number_in(int, 0, 65534), metavar='T',
        help='two classes: grey values over T are foreground, all others background; 0, for masks '
        'that number objects, takes palettes and colours too')
    add('--mask-divisor', type=number_in(int, 2), metavar='N',
        help='masks are class * N + object, as 26001 with N 1000: take the class; a value below N '
        'is a class itself')
    add('--ignore-value', type=value_list, default=(), metavar='V,V',
        help='values of pixels that count neither in the loss nor in scores')
    add('--background', type=background_value, metavar='VALUE|none',
        help='value of the class that mean scores leave out, or none to count all classes '
        '(default: the class named background, or else that of value 0; none if 0 is no class)')

def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the network and its initial weights."""
    add = group.add_argument
    add('--bilinear', action='store_true', help='use bilinear upsampling')
    add('--base-channels', type=number_in(int, 1), metavar='N',
        help="channels of the first level, doubled at each step down (default: 64, or --load's)")
    add('--padding', choices=['same', 'valid'],
        help="padding of the convolutions; valid is none, as in the paper: the missing context is "
        "mirrored at the image's border (default: --load's, or same; recipe paper: valid)")
    add('--norm', choices=['batch', 'none'],
        help="none is without BatchNorm, as in the paper (default: --load's, or batch; recipe "
        'paper: none)')
    add('--dropout', type=number_in(float, 0, 0.99), metavar='P',
        help="dropout of the deepest feature maps (default: --load's, or 0; recipe paper: 0.5)")
    sources = group.add_mutually_exclusive_group().add_argument
    sources('--load', '-f', metavar='LOAD', help='start from the weights of a .pth file')
    sources('--resume', nargs='?', const='', metavar='FILE',
            help='continue an interrupted run with its settings (without FILE: last.pth in '
            '--output; auto: that, or a new run where there is none)')

def add_optimization_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of training."""
    add = group.add_argument
    add('--epochs', '-e', type=number_in(int, 1), default=5, metavar='E',
        help='number of epochs (default: %(default)s)')
    add('--early-stop', type=number_in(int, 1), metavar='N',
        help='stop at the end of an epoch when validation Dice has not risen in N validations '
        '(default: never)')
    add('--recipe', choices=['fast', 'classic', 'paper'], default='fast',
        help="classic is the original's training, for comparison; paper is the network and "
        'training of 2015 (default: %(default)s)')
    add('--batch-size', '-b', type=number_in(int, 1), metavar='B',
        help="images a batch, of each process (default: the recipe's; fast 2, classic and paper 1)")
    add('--accumulate', type=number_in(int, 1), default=1, metavar='N',
        help='micro-batches whose gradients make one step (default: %(default)s)')
    add('--learning-rate', '-l', type=number_in(float, 0, above=True), metavar='LR',
        help="learning rate (default: the recipe's; fast 2e-3, classic 1e-5, paper 1e-3)")
    add('--dice-loss', choices=['joint', 'per-class', 'none'],
        help="Dice loss: one ratio for all pixels, the mean of -ln Dice over the classes, or none "
        "(default: the recipe's; fast per-class, classic joint, paper none)")
    add('--loss-weights', metavar='auto|W,W,...',
        help='weight of each class in the loss; auto raises rare classes (default: all equal)')
    add('--weight-map', action=argparse.BooleanOptionalAction,
        help='raise the weight of pixels between cells that nearly touch; cells are connected '
        "components of a class (default: the recipe's; only with paper)")
    add('--augment', choices=['none', 'flip', 'full', 'elastic'],
        help='augmentation: flip mirrors; full also rotates, zooms, shears and changes colours; '
        "elastic deforms instead (default: the recipe's; fast full, classic none, paper elastic)")
    add('--tile', type=number_in(int, 16), metavar='N',
        help='train on a crop of N x N pixels of each image, another in each epoch (default: '
        'whole images; recipe paper: 388)')
    add('--seed', type=number_in(int, 0), default=0, metavar='N',
        help='seed of weights, split and order (default: %(default)s)')
    add_device_options(group)
    add('--compile', action='store_true',
        help='compile the network by torch.compile: a slow start, faster steps')
    add('--deterministic', action='store_true',
        help='train to the same weights each time, on a GPU too, where that is slower')
