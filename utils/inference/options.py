"""The options of predict.py, and how they depend on each other. Imports no torch."""

import argparse
from pathlib import Path

from utils.runtime.cli import add_device_options, number_in
from utils.runtime.errors import UserError
from utils.runtime.files import check_output_file

# Options that predict.py of the original has.
ORIGINAL = '--model --input --output --viz --no-save --mask-threshold --scale --bilinear --classes'


# fmt: off
def add_input_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose input images and output files."""
    add = group.add_argument
    add('--input', '-i', nargs='+', required=True, metavar='INPUT',
        help="input images: files, folders, patterns ('*.jpg'), or - to read paths from standard "
        'input, one per line')
    add('--output', '-o', nargs='+', metavar='OUTPUT',
        help='output images, one for each input, or one folder for all (default: NAME_OUT.png '
        'beside each input, .tif for a stack and .nii.gz for a volume)')
    add('--recursive', action='store_true', help='search subfolders of input folders')
    add('--skip-existing', action='store_true', help='skip inputs whose mask exists')
    add('--overwrite', action='store_true',
        help='replace existing masks if the input or output is a folder (default: report an error)')

def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose the networks, their input and what computes them."""
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
        help='test-time augmentation: flip averages the predictions for the image and its mirror '
        'image (default: %(default)s)')
    add('--tile', type=number_in(int, 32), metavar='N',
        help='predict by tiles of N x N pixels at network resolution, for images of any size '
        '(default: only if memory does not hold the whole image)')
    add('--overlap', type=number_in(int, 0), metavar='M',
        help='overlap of tiles in pixels (default: 224, which covers the receptive field, but at '
        'most half a tile)')
    add('--batch-size', type=number_in(int, 1), default=1, metavar='B',
        help='number of images, or pages, of the same size to predict at a time (default: '
        '%(default)s)')
    add_device_options(group, workers=False)
    add('--backend', choices=['auto', 'torch', 'compile', 'onnx', 'openvino'], default='auto',
        help='inference backend; auto is openvino if it is installed, the device is a CPU and '
        'there are many images, else torch (default: %(default)s)')
    add('--quantize', choices=['none', 'int8'], default='none',
        help='int8 computes in 8 bits with OpenVINO on a CPU; it is calibrated on labelled '
        'images and refused if it loses more than 0.2 points of Dice (default: %(default)s)')
    add('--calibration-images', type=Path, default='data/imgs', metavar='DIR',
        help='folder of labelled images for int8 (default: %(default)s)')
    add('--calibration-masks', type=Path, default='data/masks', metavar='DIR',
        help='folder of their masks (default: %(default)s)')

def add_output_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose what is written."""
    add = group.add_argument
    add('--mask-threshold', '-t', type=number_in(float, 0, 1), metavar='T',
        help='minimum probability to consider a mask pixel white (default: 0.5)')
    add('--largest-component', action='store_true',
        help='keep only the largest connected component of each class, of each page')
    add('--format', choices=['values', 'index', 'color', 'probabilities', 'overlay'],
        default='values',
        help="what to write: the training masks' values, class indices, class colours, "
        'probabilities (.npy, or the foreground as 16-bit grey), or the input with its mask '
        'tinted (default: %(default)s)')
    add('--rle', type=Path, metavar='FILE',
        help="write a CSV file of run-length encoded masks, in the format of Kaggle's Carvana "
        'challenge; mask images are then written only with -o')
    add('--viz', '-v', action='store_true', help='show the images as they are processed')
    add('--no-save', '-n', action='store_true', help='do not save the masks')
# fmt: on


def check_options(args: argparse.Namespace) -> None:
    """Raise UserError for contradictory options; set args.model and args.tiling."""
    from .tiling import Tiling  # here, because it imports torch

    args.model = args.model or ['MODEL.pth']
    args.tiling = Tiling.from_options(args.tile, args.overlap) if args.tile else None
    if args.overlap is not None and not args.tile:
        raise UserError('--overlap needs --tile N')
    if args.skip_existing and args.overwrite:
        raise UserError('--skip-existing and --overwrite contradict each other. Leave one out.')
    if args.skip_existing and args.rle:
        raise UserError('--rle needs all images, and --skip-existing skips some. Leave one out.')
    if args.quantize != 'none' and args.backend not in ('auto', 'openvino'):
        raise UserError(f'--quantize needs openvino. Leave --backend {args.backend} out.')
    if args.quantize != 'none' and len(args.model) > 1:
        raise UserError(f'--quantize takes one network, not {len(args.model)}. Give one -m.')
    if args.rle:
        check_output_file(args.rle)
