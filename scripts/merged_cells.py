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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

KINDS = ('--no-weight-map', '--weight-map')


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `train_options` of the result are those for train.py."""
    parser = argparse.ArgumentParser(description='Count merged cells with and without weight map')
    add = parser.add_argument
    add('--folder', type=Path, default=Path('cells'), metavar='DIR', help='default: cells')
    add('--seeds', type=int, default=3, metavar='N', help='runs of each kind (default: 3)')
    add('--epochs', type=int, default=20, metavar='E', help='default: 20')
    add('--train', type=int, default=20, metavar='N', help='images to train on (default: 20)')
    add('--test', type=int, default=8, metavar='N', help='images to count in (default: 8)')
    add('--size', default='256x256', metavar='WxH', help='of the images (default: 256x256)')
    args, train_options = parser.parse_known_args(argv)
    args.train_options = train_options
    return args


def render(folder: Path, count: int, size: str, seed: int) -> None:
    """Render cells into folder/imgs and folder/masks."""
    command = [sys.executable, ROOT / 'scripts/make_demo_data.py', '--kind', 'cells']
    command += ['--count', count, '--size', size, '--seed', seed]
    command += ['--images', folder / 'imgs', '--masks', folder / 'masks']
    subprocess.run(list(map(str, command)), check=True)


def train(args: argparse.Namespace, kind: str, seed: int) -> Path:
    """Train one network and return its checkpoint."""
    output = args.folder / f'{kind.strip("-")}-{seed}'
    command = [sys.executable, ROOT / 'train.py', '--recipe', 'paper', '-s', 1, '-v', 0, kind]
    command += ['--images', args.folder / 'train/imgs', '--masks', args.folder / 'train/masks']
    command += ['-e', args.epochs, '--seed', seed, '--output', output, '--wandb', 'disabled']
    command += args.train_options
    with (args.folder / f'{output.name}.log').open('w') as log:
        subprocess.run(list(map(str, command)), check=True, stdout=log, stderr=log)
    return output / 'last.pth'


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


def main(argv: list[str] | None = None) -> None:
    """Render, train, count, and print a line for each run."""
    args = get_args(argv)
    render(args.folder / 'train', args.train, args.size, 0)
    render(args.folder / 'test', args.test, args.size, 1)
    for seed in range(args.seeds):
        for kind in KINDS:
            found, merged, cells = count(train(args, kind, seed), args.folder / 'test')
            result = f'{merged} of {cells} cells merged, {found} found'
            print(f'seed {seed} {kind}: {result}', flush=True)


if __name__ == '__main__':
    main()
