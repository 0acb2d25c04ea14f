"""Train on touching cells with and without the weight map, and count the merged cells of both.

    python scripts/merged_cells.py                     # see docs/paper.md for published figures
    python scripts/merged_cells.py --seeds 1 --epochs 2 --train 4 --test 2    # quick

Renders cells, trains with `train.py --recipe paper` and --weight-map or --no-weight-map, predicts
other images, and counts the cells that a prediction merges with another. Unknown options are passed
to train.py.
"""

import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
KINDS = ('--no-weight-map', '--weight-map')  # options of train.py
sys.path.insert(0, str(ROOT))


def get_args(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; return the options and those for train.py."""
    parser = argparse.ArgumentParser(description='Count merged cells with and without weight map')
    add = parser.add_argument
    add('--folder', type=Path, default=Path('cells'), metavar='DIR', help='default: cells')
    add('--seeds', type=int, default=3, metavar='N', help='runs of each kind (default: 3)')
    add('--epochs', type=int, default=20, metavar='E', help='default: 20')
    add('--train', type=int, default=20, metavar='N', help='images to train on (default: 20)')
    add('--test', type=int, default=8, metavar='N', help='images to count in (default: 8)')
    add('--size', default='256x256', metavar='WxH', help='of the images (default: 256x256)')
    return parser.parse_known_args(argv)


def call(
    program: str, *options: object, log: TextIO | None = None, folder: Path | None = None
) -> None:
    """Run a program of this checkout in a folder, its output into `log` where given."""
    command = [sys.executable, str(ROOT / program), *map(str, options)]
    subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder)


def count(model: Path, folder: Path) -> tuple[int, ...]:
    """Return how many cells are found, merged and there in the images of a folder."""
    import numpy as np
    from PIL import Image

    from utils.evaluation.instances import count_merged
    from utils.inference.predictor import Predictor

    predictor, counts = Predictor.load(model), []
    for path in sorted((folder / 'imgs').iterdir()):
        truth = np.asarray(Image.open(folder / 'masks' / path.name))
        counts.append(count_merged(predictor.predict_file(path), truth))
    return tuple(map(sum, zip(*counts, strict=True)))


def render(args: argparse.Namespace) -> None:
    """Render the cells to train on and to count in."""
    for seed, (part, images) in enumerate([('train', args.train), ('test', args.test)]):
        folders = ['--images', args.folder / part / 'imgs', '--masks', args.folder / part / 'masks']
        sizes = ['--count', images, '--size', args.size, '--seed', seed]
        call('scripts/make_demo_data.py', '--kind', 'cells', *sizes, *folders)


def train(args: argparse.Namespace, seed: int, kind: str, train_options: list[str]) -> Path:
    """Train a network, `kind` being one of KINDS, and return its file."""
    data = ['--images', args.folder / 'train/imgs', '--masks', args.folder / 'train/masks']
    output = args.folder / f'{kind.strip("-")}-{seed}'
    options = ['--recipe', 'paper', '-s', 1, '-v', 0, kind, *data, '-e', args.epochs]
    options += ['--seed', seed, '--output', output, '--wandb', 'disabled', *train_options]
    with output.with_suffix('.log').open('w') as log:
        call('train.py', *options, log=log)
    return output / 'last.pth'


def main() -> None:
    """Render, train, count, and print a line for each run."""
    args, train_options = get_args()
    render(args)
    for seed, kind in product(range(args.seeds), KINDS):
        model = train(args, seed, kind, train_options)
        found, merged, cells = count(model, args.folder / 'test')
        print(f'seed {seed} {kind}: {merged} of {cells} cells merged, {found} found', flush=True)


if __name__ == '__main__':
    main()
