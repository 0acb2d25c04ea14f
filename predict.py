"""Masks for new images.

    python predict.py -i img.jpg -o out.jpg                  # with MODEL.pth
    python predict.py -m checkpoints/best.pth -i a.jpg b.jpg # writes a_OUT.png and b_OUT.png
    python predict.py -m checkpoints/best.pth -i img.jpg --viz --no-save

A mask comes in the encoding of the masks the network was trained on: white on black for Carvana.
--format has other forms: class indices, class colours, probabilities, the input tinted.
"""

import argparse
import sys
from pathlib import Path

from utils.errors import UserError, first_few, run_program
from utils.options import add_debug_option, add_device_options, number_in

FORMS = ('values', 'index', 'color', 'probabilities', 'overlay')


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
    add('--format', choices=FORMS, default='values',
        help="what to write: the training masks' values, class indices, class colours, "
        'probabilities (.npy, or 16-bit grey of the foreground), or the input with its mask '
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

from utils.arrays import channels_error
from utils.decoding import WITH_ALPHA, PictureFacts, examine_picture, open_picture, to_channels
from utils.inference import Predictor
from utils.visualize import displayable, show_or_save
from utils.written_masks import (
    ARRAY,
    PICTURES,
    check_form,
    default_suffix,
    in_form,
    save_result,
)


def predict(args: argparse.Namespace) -> None:
    """Predict as the command line says; all names are checked before the model is loaded."""
    check_inputs(args.input)
    outputs = output_paths(args.input, args.output, default_suffix(args.format))
    sheets = [path.with_name(f'{path.stem}_VIZ.png') for path in args.input]
    check_outputs(args.input, [] if args.no_save else outputs, sheets if args.viz else [])
    facts = [examine_picture(path) for path in args.input]  # none should stop the work half-way
    predictor = Predictor.load(
        args.model, args.scale, args.device, args.amp, args.classes, args.bilinear
    )
    threshold = predictor.threshold(args.mask_threshold)
    if not args.no_save:
        check_form(args.format, outputs, predictor.masks)
    check_channels(args.input, facts, predictor.model.n_channels)
    for source, target, sheet in zip(args.input, outputs, sheets, strict=True):
        probabilities = predictor.file_probabilities(source)
        indices = predictor.decide(probabilities, threshold)
        found = shares(indices, predictor.masks.titles)
        if args.no_save:
            print(f'{source}: {found}')
        else:
            image = shown(source, predictor) if args.format == 'overlay' else None
            array = target.suffix.lower() == ARRAY
            result = in_form(args.format, predictor.masks, image, indices, probabilities, array)
            save_result(result, target)
            print(f'{source} -> {target}: {found}')
        if args.viz:
            show_or_save(shown(source, predictor), indices, source.name, sheet)


def shown(source: Path, predictor: Predictor) -> Image.Image:
    """An input as a picture to look at, of its full size."""
    picture = open_picture(source)
    return displayable(picture, to_channels(picture, predictor.model.n_channels, source))


def check_channels(inputs: list[Path], facts: list[PictureFacts], channels: int) -> None:
    """Raise UserError for a picture whose channels the network cannot take; say of conversions."""
    converted = []
    for path, fact in zip(inputs, facts, strict=True):
        has = fact.channels_as(channels)
        if has != channels and {has, channels} != {1, 3}:
            raise channels_error(path, has, channels)
        if has != channels or (fact.mode in WITH_ALPHA and channels in (1, 3)):
            converted.append(f'{path.name} ({fact.mode})')
    if converted:
        into = 'grey' if channels == 1 else 'RGB'
        print(f'note: {len(converted)} inputs are taken as {into}: {first_few(converted)}')


def output_paths(inputs: list[Path], outputs: list[Path] | None, suffix: str) -> list[Path]:
    """The mask file of each input; UserError where -o does not name one for each."""
    if outputs and len(outputs) != len(inputs):
        raise UserError(
            f'-o has {len(outputs)} names for {len(inputs)} inputs; give one each, or leave -o out'
        )
    return outputs or [path.with_name(f'{path.stem}_OUT{suffix}') for path in inputs]


def check_inputs(inputs: list[Path]) -> None:
    """Raise UserError for inputs that are no files."""
    strange = [path for path in inputs if not path.is_file()]
    if strange:
        is_folder = ' (a folder; name the files in it)' if strange[0].is_dir() else ''
        raise UserError(f'no such input file: {first_few(strange)}{is_folder}')


def check_outputs(inputs: list[Path], outputs: list[Path], sheets: list[Path]) -> None:
    """Raise UserError where writing masks and sheets would fail or lose a file."""
    unknown = [path for path in outputs if path.suffix.lower() not in (*PICTURES, ARRAY)]
    if unknown:
        raise UserError(
            f'cannot write {first_few(unknown)}; expected a name in {", ".join((*PICTURES, ARRAY))}'
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


def shares(indices: np.ndarray, titles: list[str]) -> str:
    """'0 92.1 %, 1 7.9 %': the part of the pixels that each class has, by its value or name."""
    counts = np.bincount(indices.ravel(), minlength=len(titles)) / indices.size
    return ', '.join(
        f'{title} {100 * share:.1f} %' for title, share in zip(titles, counts, strict=True)
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(predict, get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
