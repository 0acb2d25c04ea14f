"""Make masks of annotations: polygons, boxes, brush masks, and run lengths of competitions.

    python scripts/masks_from.py coco annotations/instances_train.json masks/
    python scripts/masks_from.py labelme FOLDER masks/      # a JSON beside each picture
    python scripts/masks_from.py yolo FOLDER masks/         # data.yaml, images/, labels/
    python scripts/masks_from.py cvat annotations.xml masks/
    python scripts/masks_from.py label-studio FOLDER masks/ # the project's JSON and its files
    python scripts/masks_from.py runs train.csv masks/      # Kaggle: ImageId,EncodedPixels
    python scripts/masks_from.py via via_region_data.json masks/     # VGG Image Annotator
    python scripts/masks_from.py supervisely FOLDER masks/  # meta.json, ann/, img/

Writes masks/NAME.png, class indices of 8 bits with 0 as the background, and masks/classes.json with
their names. Where shapes overlap, the later one counts. The last line is the command that trains
on the masks.
"""

import argparse
import importlib
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.runtime import cli

if TYPE_CHECKING:  # these import torch, which takes seconds: -h and argument errors come first
    from utils.annotations.placing import Placement
    from utils.annotations.records import AnnotationSet
    from utils.annotations.writing import Written

FORMATS = ('coco', 'labelme', 'yolo', 'cvat', 'label-studio', 'runs', 'via', 'supervisely')
SPLITS = (('train', 'training'), ('val', 'valid', 'validation'))  # names of folders


# fmt: off
def make_parser() -> cli.ProgramParser:
    """Return the parser of the command line."""
    parser = cli.ProgramParser('Make masks of annotations (polygons, brush masks, run lengths)')
    add = parser.add_argument
    add('format', choices=FORMATS, help='what wrote the annotations; runs: run lengths in CSV '
        'files of Kaggle, via: VGG Image Annotator')
    add('source', type=Path, metavar='IN', help='annotation file, or the folder that holds them')
    add('out', type=Path, metavar='OUT', help='folder to write the masks and classes.json into')
    add('--overwrite', action='store_true', help='replace files in OUT (default: report an error)')
    add('--by-row', action='store_true', help='runs go along the rows of pictures (default: as '
        'distances and names of columns tell, else down the columns)')
    cli.add_debug_option(parser)
    return parser
# fmt: on


def convert(args: argparse.Namespace) -> int:
    """Write the masks and print what was written and how to train on it."""
    from utils.annotations.fitting import fit_runs
    from utils.annotations.placing import place
    from utils.annotations.writing import check_output, write_masks
    from utils.runtime.errors import UserError, data_error

    start = time.perf_counter()
    if not args.source.exists():
        raise UserError(f'{args.source} does not exist; expected a file or folder of annotations')
    check_output(args.out, args.overwrite)
    found = read(args.format, args.source)
    placement = place(found, args.source, args.out)
    fit_runs(found, placement, args.by_row)
    if found.problems:
        raise data_error(found.problems)
    written = write_masks(found, placement, args.out)
    for note in written.notes:
        print(note)
    seconds, count = time.perf_counter() - start, len(placement.pictures)
    classes = ', '.join(f'{value} {name}' for name, value in list(written.classes.items())[:12])
    more = ', …' if len(written.classes) > 12 else ''
    print(f'{count} mask{"s"[: count != 1]} in {args.out}, {seconds:.1f} s; {classes}{more}')
    print(f'train on them:\n  {training_command(placement, written, args.out)}')
    return 0


def read(kind: str, source: Path) -> 'AnnotationSet':
    """Return the annotations of a file or folder, read by the module of their format."""
    name = kind.replace('-', '_')
    module = importlib.import_module(f'utils.annotations.formats.{name}')
    return getattr(module, f'read_{name}')(source)


def training_command(placement: 'Placement', written: 'Written', out: Path) -> str:
    """Return the train.py command that pairs most pictures with the masks."""
    ignore = ' --ignore-value 255' if written.ignored else ''
    if placement.folder is None:  # no picture is there
        return f'python train.py --images FOLDER_OF_THE_PICTURES --masks {quoted(out)}{ignore}'
    images = shown(placement.folder)
    options, complete = best_pairing(images, out)
    parts = [split_folder(images, out, names) for names in SPLITS]
    if parts[0] and parts[1]:
        train, val = (best_pairing(*part) for part in parts)
        held_out = val[0].replace('--images', '--val-images').replace('--masks', '--val-masks')
        options, complete = f'{train[0]} {held_out}', train[1] and val[1]
    return f'python train.py {options}{ignore}{"" if complete else " --skip-bad"}'


def best_pairing(images: Path, masks: Path) -> tuple[str, bool]:
    """Return the options that pair most files, folders or patterns, and whether they pair all."""
    from utils.data.pairing.matching import match_files
    from utils.data.pairing.proposals import describe
    from utils.runtime.errors import UserError

    tries, wanted = [], sum(1 for _ in masks.rglob('*.png'))
    for below in ('', '**/*'):
        if not any(pairs == wanted for pairs, _, _ in tries):
            with suppress(UserError, OSError):  # does not pair
                sources = images / below, masks / below
                matching = match_files(*sources)
                options = describe(*sources, ('--images', '--masks'))
                tries.append((len(matching.pairs), not matching.problems, options))
    as_they_are = (0, False, describe(images, masks, ('--images', '--masks')))
    _, complete, options = max(tries, default=as_they_are, key=lambda entry: entry[:2])
    return options, complete


def split_folder(images: Path, masks: Path, names: tuple[str, ...]) -> tuple[Path, Path] | None:
    """Return the folders of a part of the data set, if both hold one of such a name."""
    for path in sorted(masks.iterdir()):
        if path.name.lower().rstrip('0123456789') in names and (images / path.name).is_dir():
            return images / path.name, path
    return None


def shown(path: Path) -> Path:
    """Return a path as short as it is from here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def quoted(path: Path) -> str:
    """Return a path for a shell."""
    return shlex.quote(str(path))


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.by_row and args.format != 'runs':
        parser.error('--by-row is about run lengths, the format runs')
    return cli.run_program(convert, args)


if __name__ == '__main__':
    sys.exit(main())
