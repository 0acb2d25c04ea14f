"""Masks for new images.

    python predict.py -i img.jpg -o out.jpg                  # with MODEL.pth
    python predict.py -m checkpoints/best.pth -i a.jpg b.jpg # writes a_OUT.png and b_OUT.png
    python predict.py -m checkpoints/best.pth -i img.jpg --viz --no-save

A mask comes in the encoding of the masks the network was trained on: white on black for Carvana.
"""

import argparse
import sys
from pathlib import Path

from utils.errors import UserError, first_few, run_program
from utils.options import add_debug_option, add_device_options, number_in

FORMATS = ('.png', '.jpg', '.jpeg', '.gif', '.tif', '.tiff', '.bmp')  # that masks are written in


# fmt: off
def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Predict masks from input images')
    add = parser.add_argument_group('Data').add_argument
    add('--input', '-i', type=Path, nargs='+', required=True, metavar='INPUT',
        help='input images')
    add('--output', '-o', type=Path, nargs='+', metavar='OUTPUT',
        help='output images (default: NAME_OUT.png beside each input)')
    group = parser.add_argument_group('Model')
    add = group.add_argument
    add('--model', '-m', default='MODEL.pth', metavar='FILE',
        help='the model file (default: %(default)s)')
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), metavar='SCALE',
        help="scale factor for the input images (default: the checkpoint's, else 0.5)")
    add('--bilinear', action='store_true',
        help="use bilinear upsampling (default: the checkpoint's)")
    add('--classes', '-c', type=number_in(int, 1, 255), metavar='C',
        help="number of classes (default: the checkpoint's)")
    add_device_options(group, workers=False)
    add = parser.add_argument_group('Output').add_argument
    add('--mask-threshold', '-t', type=number_in(float, 0, 1), metavar='T',
        help='minimum probability to consider a mask pixel white (default: 0.5)')
    add('--format', choices=['values', 'overlay'], default='values',
        help="what to write: masks in the training masks' values, or the input with its mask "
        'tinted (default: %(default)s)')
    add('--viz', '-v', action='store_true', help='show the images as they are processed')
    add('--no-save', '-n', action='store_true', help='do not save the masks')
    add_debug_option(parser)
    return parser.parse_args(argv)
# fmt: on


if __name__ == '__main__':
    get_args()  # -h and wrong arguments answer here, before the seconds that torch takes

import numpy as np
from PIL import Image

from utils.decoding import check_mode, examine_picture, open_picture
from utils.files import whole_file
from utils.inference import Predictor
from utils.mask_values import to_image
from utils.visualize import overlay, show_or_save


def predict(args: argparse.Namespace) -> None:
    """Predict as the command line says; all names are checked before the model is loaded."""
    check_inputs(args.input)
    outputs = output_paths(args.input, args.output)
    sheets = [path.with_name(f'{path.stem}_VIZ.png') for path in args.input]
    check_outputs(args.input, [] if args.no_save else outputs, sheets if args.viz else [])
    for path in args.input:  # read to their end: none should stop the work half-way
        check_mode(examine_picture(path)[1], path)
    predictor = Predictor.load(
        args.model, args.scale, args.device, args.amp, args.classes, args.bilinear
    )
    threshold = predictor.threshold(args.mask_threshold)
    for source, target, sheet in zip(args.input, outputs, sheets, strict=True):
        indices = predictor.predict_file(source, threshold)
        if args.no_save:
            print(f'{source}: {shares(indices, predictor.mask_values)}')
        else:
            as_asked = overlay(open_picture(source), indices) if args.format == 'overlay' else None
            save_picture(as_asked or to_image(indices, predictor.mask_values), target)
            print(f'{source} -> {target}: {shares(indices, predictor.mask_values)}')
        if args.viz:
            show_or_save(open_picture(source), indices, source.name, sheet)


def output_paths(inputs: list[Path], outputs: list[Path] | None) -> list[Path]:
    """The mask file of each input; UserError where -o does not name one for each."""
    if outputs and len(outputs) != len(inputs):
        raise UserError(
            f'-o has {len(outputs)} names for {len(inputs)} inputs; give one each, or leave -o out'
        )
    return outputs or [path.with_name(f'{path.stem}_OUT.png') for path in inputs]


def check_inputs(inputs: list[Path]) -> None:
    """Raise UserError for inputs that are no files."""
    strange = [path for path in inputs if not path.is_file()]
    if strange:
        is_folder = ' (a folder; name the files in it)' if strange[0].is_dir() else ''
        raise UserError(f'no such input file: {first_few(strange)}{is_folder}')


def check_outputs(inputs: list[Path], outputs: list[Path], sheets: list[Path]) -> None:
    """Raise UserError where writing masks and sheets would fail or lose a file."""
    unknown = [path for path in outputs if path.suffix.lower() not in FORMATS]
    if unknown:
        raise UserError(
            f'cannot write {first_few(unknown)}; expected a name in {", ".join(FORMATS)}'
        )
    places = [path.resolve() for path in outputs + sheets]
    sources = {path.resolve() for path in inputs}
    for path, place in zip(outputs + sheets, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f'two inputs would be written to {path}; give each its own -o name')
        if place in sources:
            raise UserError(f'the output {path} is an input and would be lost; choose another -o')
        if not path.parent.is_dir():
            raise UserError(f'no folder {path.parent} to write into; make it first')


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture by its name's format; JPEG holds grey or RGB only."""
    if path.suffix.lower() in ('.jpg', '.jpeg'):
        picture = picture.convert('RGB' if picture.mode in ('P', 'RGB') else 'L')
    # Unasked, Pillow renumbers a GIF's palette, and the indices are the classes.
    options = {'optimize': False} if path.suffix.lower() == '.gif' else {}
    with whole_file(path) as part:
        picture.save(part, **options)


def shares(indices: np.ndarray, mask_values: list) -> str:
    """'0 92.1 %, 1 7.9 %': the part of the pixels that each mask value has."""
    counts = np.bincount(indices.ravel(), minlength=len(mask_values)) / indices.size
    return ', '.join(
        f'{v} {100 * share:.1f} %' for v, share in zip(mask_values, counts, strict=True)
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(predict, get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
