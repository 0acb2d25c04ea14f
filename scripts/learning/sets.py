"""Data sets of benchmark_learning.py: rendered ones, and a user's pictures in two parts."""

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from utils.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


class DemoSet(NamedTuple):
    """A rendered set, and how it is trained on unless the command line says otherwise."""

    kind: str  # options of make_demo_data.py
    train: int  # number of pictures
    test: int
    size: str
    epochs: int
    options: str  # of train.py
    objects: bool = False  # score objects, too


SETS = {
    'cars': DemoSet('--kind cars', 96, 48, '1918x1280', 4, '-s 0.1'),
    'classes': DemoSet(
        '--kind cars --classes 4', 96, 48, '1918x1280', 4, '-s 0.2 --base-channels 32'
    ),
    'cells': DemoSet('--kind cells', 24, 12, '256x256', 20, '-s 1 --base-channels 16', True),
    'streets': DemoSet('--kind streets', 350, 48, '240x180', 4, '-s 1 --base-channels 16'),
}
TRAIN_SEED, TEST_SEED = 456, 457  # of what is rendered: other cars, other cells


class Data(NamedTuple):
    """A data set: its name in the table, and the options that name its pictures."""

    name: str
    train: list[str]
    test: list[str]
    options: str  # of train.py
    objects: bool


def options_of(name: str | None, args: argparse.Namespace) -> str:
    """Return the options of train.py for a demo set, or for the user's pictures, as one text."""
    demo = SETS.get(name or '')
    epochs, own = args.epochs or (demo and demo.epochs), shlex.split(demo.options) if demo else []
    return shlex.join([*(['-e', str(epochs)] if epochs else []), *own, *args.options])


def render(name: str, args: argparse.Namespace) -> Data:
    """Render a demo set, but for files that are there; return it."""
    demo, places = SETS[name], []
    size, count = args.size or demo.size, args.count or demo.train
    for seed, pictures in ((TRAIN_SEED, count), (TEST_SEED, demo.test)):
        folder = args.output / 'data' / f'{name}-{size}-{seed}-{pictures}'
        folder.mkdir(parents=True, exist_ok=True)
        places.append(['--images', str(folder / 'imgs'), '--masks', str(folder / 'masks')])
        options = [*demo.kind.split(), '--size', size, '--seed', seed, '--count', pictures]
        call('scripts/make_demo_data.py', *options, *places[-1], log=folder / 'render.log')
    train, test = places
    return Data(f'{name} {count} {size}', train, test, options_of(name, args), demo.objects)


def split(args: argparse.Namespace) -> Data:
    """Return the user's pictures, as two lists of names: to train on and to score."""
    from utils.data.pairing.matching import match_files  # imports torch

    # Numbers within names are sorted by their size.
    images = sorted(
        {str(pair.image) for pair in match_files(args.images, args.masks).pairs},
        key=lambda name: [
            (int(n or 0), text) for n, text in re.findall(r'([0-9]+)|([^0-9]+)', name)
        ],
    )
    if len(images) <= args.count:
        raise UserError(
            f'--count {args.count}: {args.images} has {len(images)} pictures with masks; expected '
            'more, to be scored. Give a smaller number.'
        )
    places = []
    for part, names in (('train', images[: args.count]), ('test', images[args.count :])):
        path = args.output / 'data' / f'{part}-{digest(names)}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names) + '\n', encoding='utf-8')
        folders = ['--images', str(args.images), '--masks', str(args.masks)]
        places.append([*folders, '--list', str(path)])
    train, test = places
    return Data(f'{args.images} {args.count}', train, test, options_of(None, args), args.objects)


def digest(value: object) -> str:
    """Return 8 hexadecimal digits that stand for a value."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


def call(program: str, *options: object, log: Path) -> None:
    """Run a program of this checkout, its output after its command in the log.

    Raises UserError with the end of the output if the program fails.
    """
    words = [*map(str, options)]
    with log.open('a', encoding='utf-8') as file:
        file.write(f'{shlex.join(["python", program, *words])}\n')
        file.flush()
        start = file.tell()
        command = [sys.executable, str(ROOT / program), *words]
        code = subprocess.call(command, stdout=file, stderr=file)
    if code:
        output = log.read_bytes()[start:].decode('utf-8', 'replace').strip()
        raise UserError(f'{program} ended with exit code {code}:\n{output[-2000:]}\nSee {log}.')
