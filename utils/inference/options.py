"""The groups of predict.py's options that say of what, by which network, and by what it runs."""

import argparse
from pathlib import Path

from utils.runtime.cli import number_in

BACKENDS = ('auto', 'torch', 'compile', 'onnx', 'openvino')


# fmt: off
def add_input_options(group: argparse._ArgumentGroup) -> None:
    """Of which images, and where their masks go."""
    add = group.add_argument
    add('--input', '-i', nargs='+', required=True, metavar='INPUT',
        help="input images: files, folders, patterns ('*.jpg'), or - for a list on standard input, "
        'a path a line')
    add('--output', '-o', nargs='+', metavar='OUTPUT',
        help='output images, one for each input, or one folder for all (default: NAME_OUT.png '
        'beside each input)')
    add('--recursive', action='store_true', help='look into folders in input folders too')
    add('--skip-existing', action='store_true', help='leave out inputs whose mask is there already')
    add('--overwrite', action='store_true',
        help='write masks anew that are there, where a folder is named (default: they are a '
        'mistake)')

def add_network_options(group: argparse._ArgumentGroup) -> None:
    """Which networks, and how they look at an image."""
    add = group.add_argument
    add('--model', '-m', action='append', metavar='FILE',
        help='the model file (default: MODEL.pth); several -m average their probabilities')
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), metavar='SCALE',
        help="scale factor for the input images (default: the checkpoint's, else 0.5)")
    add('--bilinear', action='store_true',
        help="use bilinear upsampling (default: the checkpoint's)")
    add('--classes', '-c', type=number_in(int, 1, 255), metavar='C',
        help="number of classes (default: the checkpoint's)")
    add('--tta', choices=['none', 'flip'], default='none',
        help='flip averages with the mirrored image (default: %(default)s)')
    add('--tile', type=number_in(int, 32), metavar='N',
        help='predict by tiles of N x N pixels at the scale of the network, for images of any size '
        '(default: where memory would not hold the image)')
    add('--overlap', type=number_in(int, 0), metavar='M',
        help='pixels by which tiles overlap (default: 224, as far as the network looks, or half '
        'a tile)')
    add('--batch-size', type=number_in(int, 1), default=1, metavar='B',
        help='images of one size that the network takes at a time (default: %(default)s)')

def add_backend_options(group: argparse._ArgumentGroup) -> None:
    """What computes the network."""
    add = group.add_argument
    add('--backend', choices=BACKENDS, default='auto',
        help='what computes the network: auto is OpenVINO where it is installed and there are '
        'images enough on a CPU, else torch (default: %(default)s)')
    add('--quantize', choices=['none', 'int8'], default='none',
        help='int8 computes in 8 bits by OpenVINO, on a CPU: measured on labelled images and '
        'refused where over 0.2 points of Dice are lost (default: %(default)s)')
    add('--calibration-images', type=Path, default='data/imgs', metavar='DIR',
        help='folder of labelled images for int8 (default: %(default)s)')
    add('--calibration-masks', type=Path, default='data/masks', metavar='DIR',
        help='folder of their masks (default: %(default)s)')
