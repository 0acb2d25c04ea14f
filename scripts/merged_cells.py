"""Touching cells with the weight map and without: train both for some seeds, count the merged.

    python scripts/merged_cells.py                     # the figures of the README, see --help
    python scripts/merged_cells.py --seeds 1 --epochs 2 --train 4 --test 2    # quick

Renders cells, trains `train.py --recipe paper` with --weight-map and --no-weight-map, predicts
pictures that neither has seen, and counts the cells that a prediction joins to another. Further
options go to train.py.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def read_arguments(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it goes to train.py."""
    parser = argparse.ArgumentParser(description='Count merged cells, with the weight map or not')
    add = parser.add_argument
    add('--folder', type=Path, default=Path('cells'), metavar='DIR', help='default: cells')
    add('--seeds', type=int, default=3, metavar='N', help='runs of each kind (default: 3)')
    add('--epochs', type=int, default=20, metavar='E', help='default: 20')
    add('--train', type=int, default=20, metavar='N', help='pictures to train on (default: 20)')
    add('--test', type=int, default=8, metavar='N', help='pictures to count in (default: 8)')
    add('--size', default='256x256', metavar='WxH', help='of the pictures (default: 256x256)')
    return parser.parse_known_args(argv)


if __name__ == '__main__':
    ARGS, REST = read_arguments()

import numpy as np
from PIL import Image

from utils.evaluation.instances import count_merged
from utils.inference.predictor import Predictor

KINDS = ('--no-weight-map', '--weight-map')


def render(folder: Path, count: int, size: str, seed: int) -> None:
    """Cells into folder/imgs and folder/masks."""
    command = [sys.executable, ROOT / 'scripts/make_demo_data.py', '--kind', 'cells']
    command += ['--count', count, '--size', size, '--seed', seed]
    command += ['--images', folder / 'imgs', '--masks', folder / 'masks']
    subprocess.run(list(map(str, command)), check=True)


def train(args: argparse.Namespace, rest: list[str], kind: str, seed: int) -> Path:
    """The network of one run."""
    output = args.folder / f'{kind.strip("-")}-{seed}'
    command = [sys.executable, ROOT / 'train.py', '--recipe', 'paper', '-s', 1, '-v', 0, kind]
    command += ['--images', args.folder / 'train/imgs', '--masks', args.folder / 'train/masks']
    command += ['-e', args.epochs, '--seed', seed, '--output', output, '--wandb', 'disabled']
    log = args.folder / f'{output.name}.log'
    with log.open('w') as file:
        subprocess.run([*map(str, command), *rest], check=True, stdout=file, stderr=file)
    return output / 'last.pth'


def count(model: Path, folder: Path) -> np.ndarray:
    """Cells found, merged, and all, in the pictures of a folder."""
    predictor = Predictor.load(model)
    total = np.zeros(3, dtype=np.int64)
    for path in sorted((folder / 'imgs').iterdir()):
        truth = np.asarray(Image.open(folder / 'masks' / path.name))
        total += count_merged(predictor.predict_file(path), truth)
    return total


def main(args: argparse.Namespace, rest: list[str]) -> None:
    """Render, train, count, and print a line a run."""
    render(args.folder / 'train', args.train, args.size, 0)
    render(args.folder / 'test', args.test, args.size, 1)
    for seed in range(args.seeds):
        for kind in KINDS:
            found, merged, cells = count(train(args, rest, kind, seed), args.folder / 'test')
            print(
                f'seed {seed} {kind}: {merged} of {cells} cells merged, {found} found', flush=True
            )


if __name__ == '__main__':
    main(ARGS, REST)
