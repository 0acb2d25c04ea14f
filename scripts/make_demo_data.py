"""Render a data set: cars in a photo studio, laid out as Carvana, cells, or streets.

    python scripts/make_demo_data.py
    python scripts/make_demo_data.py --count 320 --size 480x320 --seed 1
    python scripts/make_demo_data.py --images /tmp/imgs --masks /tmp/masks --classes 4
    python scripts/make_demo_data.py --kind cells --count 24
    python scripts/make_demo_data.py --kind streets --count 350

Each car has a name of 12 hexadecimal digits and is seen from 16 angles, 22.5 degrees apart:
NAME_01.jpg to NAME_16.jpg with masks NAME_01_mask.gif to NAME_16_mask.gif, 1 on the car and 0
elsewhere; with --classes 4, windows are 2 and wheels 3. Cells are grey, cells_0000.png etc., with
masks of the same names, 255 on the cells and 0 elsewhere, also on the line along which two cells
touch. Streets are street_0000.jpg etc., with masks street_0000.png of 12 values, which classes.csv
beside them names; poles, signs, fences, pedestrians and cyclists are under 2 % of the pixels each.
The files depend on seed, count and size only, not on the number of processes.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

SIZES = {'cells': (256, 256), 'streets': (240, 180)}  # pixels, of the kinds that are not cars


def fail(text: str) -> NoReturn:
    """Report a user's mistake in one line on stderr and exit with code 2."""
    print(f'error: {text}', file=sys.stderr)
    raise SystemExit(2)


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of WxH in pixels, from 48x32 to 8192x8192; an argparse type."""
    numbers = text.lower().split('x')
    if len(numbers) != 2 or not all(n.isascii() and n.isdigit() for n in numbers):
        fail(f'--size {text}: expected WxH in pixels; write for instance 1918x1280')
    width, height = map(int, numbers)
    if width < 48 or height < 32 or max(width, height) > 8192:
        fail(f'--size {text}: too small or too large; expected 48x32 to 8192x8192')
    return width, height


# fmt: off
def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description='Render cars in a studio, cells, or streets, and their masks.')
    parser.error = lambda message: fail(f'{message}; see --help')  # without the usage
    add = parser.add_argument
    add('--kind', choices=['cars', *SIZES], default='cars', help='what to render (default: cars)')
    add('--images', type=Path, default=Path('data/imgs'), metavar='DIR',
        help='folder to write the images into (default: data/imgs)')
    add('--masks', type=Path, default=Path('data/masks'), metavar='DIR',
        help='folder to write their masks into (default: data/masks)')
    add('--count', type=int, default=96, metavar='N',
        help='number of images, 16 per car (default: 96)')
    add('--size', type=parse_size, metavar='WxH',
        help='width and height in pixels (default: 1918x1280, cells 256x256, streets 240x180)')
    add('--classes', type=int, choices=[2, 4], default=2,
        help='classes of the cars: studio and car, or studio, body, windows, wheels (default: 2)')
    add('--seed', type=int, default=0, help='other seeds give other cars (default: 0)')
    add('--workers', type=int, default=os.cpu_count() or 1, metavar='N',
        help='number of processes (default: one per core)')
    return parser
# fmt: on


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line; `size` of the result is (width, height)."""
    args = make_parser().parse_args(argv)
    args.size = args.size or SIZES.get(args.kind, (1918, 1280))
    if args.kind != 'cars' and args.classes != 2:
        has = {'cells': 2, 'streets': 12}[args.kind]
        fail(f'--classes {args.classes}: {args.kind} have {has}; leave it out')
    for name, least in (('count', 1), ('seed', 0), ('workers', 1)):
        if getattr(args, name) < least:
            fail(f'--{name} {getattr(args, name)}: expected {least} or more')
    return args


def car_id(seed: int, car: int) -> str:
    """Return the name of a car: 12 hexadecimal digits, as Carvana's cars have."""
    return hashlib.sha256(f'{seed} {car}'.encode()).hexdigest()[:12]


def write_pair(args: argparse.Namespace, index: int) -> int:
    """Render and write image number `index` and its mask; return how many of them existed."""
    from demo.cells import render_cells
    from demo.street_scenes import photograph_street
    from demo.studio import VIEWS, photograph

    car, view = divmod(index, VIEWS)
    if args.kind == 'cells':
        name = f'cells_{index:04d}'
        paths = args.images / f'{name}.png', args.masks / f'{name}.png'
        draw = partial(render_cells, args.seed, index, args.size)
    elif args.kind == 'streets':
        name = f'street_{index:04d}'
        paths = args.images / f'{name}.jpg', args.masks / f'{name}.png'
        draw = partial(photograph_street, args.seed, index, args.size)
    else:
        name = f'{car_id(args.seed, car)}_{view + 1:02d}'
        paths = args.images / f'{name}.jpg', args.masks / f'{name}_mask.gif'
        draw = partial(photograph, args.seed, car, view + 1, args.size, args.classes)
    kept = [path.exists() for path in paths]
    if not all(kept):
        for path, image, there in zip(paths, draw(), kept, strict=True):
            if not there:  # under another name until it is complete
                part = path.with_name(f'.{os.getpid()}.{path.name}')
                image.save(part, quality=92)
                part.replace(path)
    return sum(kept)


def open_folder(folder: Path, option: str) -> None:
    """Make a folder and check that it can be written to, or fail."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (FileExistsError, NotADirectoryError):
        fail(f'{option} {folder}: there is a file of that name; name a folder')
    except OSError as error:
        fail(f'{option} {folder}: cannot write there ({error.strerror}); name another folder')


def render(args: argparse.Namespace) -> None:
    """Write all images and masks and print a summary."""
    from demo.streets import class_table
    from demo.studio import VIEWS

    start = time.perf_counter()
    open_folder(args.images, '--images')
    open_folder(args.masks, '--masks')
    job, jobs, workers = partial(write_pair, args), range(args.count), min(args.workers, args.count)
    try:
        if workers == 1:
            kept = sum(map(job, jobs))
        else:
            with ProcessPoolExecutor(workers) as pool:
                kept = sum(pool.map(job, jobs, chunksize=2))
        if args.kind == 'streets':
            (args.masks / 'classes.csv').write_text(class_table())
    except OSError as error:
        fail(f'{error}; check that the disk has space and that the folders are writable')
    if kept:
        print(f'{kept} of {2 * args.count} files were there already and are kept')
    others = sum(not path.name.startswith('.') for path in args.images.iterdir()) - args.count
    if others > 0:
        print(
            f'note: {others} other files are in {args.images}, and training uses all. Folders of '
            'their own: --images DIR --masks DIR'
        )
    cars, seconds = -(-args.count // VIEWS), time.perf_counter() - start
    shown = args.kind if args.kind != 'cars' else f'{cars} car{"s"[: cars > 1]}'
    done = f'{args.count} image{"s"[: args.count > 1]} of {shown} ({args.size[0]} x {args.size[1]})'
    print(f'{done} in {args.images}, their masks in {args.masks}, {seconds:.1f} s')


if __name__ == '__main__':
    render(get_args())
