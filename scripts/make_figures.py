"""Make the pictures of the documents anew, from networks that the default recipe trains now.

    python scripts/make_figures.py                                    # minutes on a CPU
    python scripts/make_figures.py --only unseen_cars.jpg --output /tmp/look

Look at each picture before you commit it. The captions in README.md and docs/ name images, sizes
and epochs, those of CARS and NETWORKS. A picture that cannot be made here, as without Chromium,
stays as it is, and the exit code is 2.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts import merged_cells as cells
from utils.runtime.errors import UserError
from utils.runtime.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIZE = '960x640'
CARS = ['--count', '96', '--classes', '4']  # 80 to train on, 16 of another car
TRAINING = ['--amp', '--scale', '0.2', '--wandb', 'disabled']
# Epochs and width of the networks of two classes, which is the quick start's, and of four.
NETWORKS = {'two': (1, 64), 'four': (4, 32)}
# The documented run of docs/paper.md, and which of its networks are shown.
CELLS, CELL_TRAINING = ['--epochs', '25', '--test', '8'], '--base-channels 8 -l 1e-2 --norm batch'
CELL_SEED, CELL_IMAGE = 1, 0
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')


def cars(work: Path) -> Path:
    """Return the folder of the cars to train on, with masks of four classes; render them once."""
    folder = work / 'cars'
    if not folder.exists():
        folders = ['--images', folder / 'imgs', '--masks', folder / 'masks']
        cells.call('scripts/make_demo_data.py', *CARS, '--size', SIZE, *folders)
    return folder


def trained(work: Path, classes: str) -> Path:
    """Train a network on the cars by the default recipe; return its best.pth."""
    data = ['--images', cars(work) / 'imgs', '--masks', cars(work) / 'masks']
    options: list[object] = ['--binarize', 0] if classes == 'two' else []
    output = work / f'run-{classes}'
    epochs, width = NETWORKS[classes]
    options += ['-e', epochs, '--base-channels', width, '--output', output]
    cells.call('train.py', *TRAINING, *data, *options)
    return output / 'best.pth'


def sheet(work: Path, classes: str, views: list[tuple[int, int]]) -> 'Image.Image':
    """Return rows of image, true mask and predicted mask, for (car, view) of another seed."""
    import numpy as np
    from demo.studio import photograph

    from utils.inference.predictor import Predictor
    from utils.masks.visualize import sample_sheet

    predictor, rows = Predictor.load(trained(work, classes)), []
    size = tuple(map(int, SIZE.split('x')))
    for car, view in views:
        image, mask = photograph(1, car, view, size, 2 if classes == 'two' else 4)
        path = work / f'unseen_{car}_{view}.jpg'  # decoded from a file, as predict.py does
        image.save(path, quality=92)
        predicted = predictor.predict_file(path)
        rows.append((np.asarray(image).transpose(2, 0, 1), np.asarray(mask), predicted))
    return sample_sheet(rows)


def unseen_cars(work: Path) -> 'Image.Image':
    """Return three cars that the network has never seen, and their masks."""
    return sheet(work, 'two', [(0, 3), (1, 11), (2, 8)])


def four_classes(work: Path) -> 'Image.Image':
    """Return two views of an unseen car with masks of four classes."""
    return sheet(work, 'four', [(1, 2), (1, 13)])


def data_page(work: Path) -> 'Image.Image':
    """Return the top of the page of 40 cars with two masks exchanged and one inverted."""
    from PIL import Image

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(f'no browser found: expected one of {", ".join(BROWSERS)} on the PATH')
    folder = work / 'page'
    images, masks = folder / 'imgs', folder / 'masks'
    size = ['--count', '40', '--size', '640x427']
    cells.call('scripts/make_demo_data.py', *size, '--images', images, '--masks', masks)
    files = sorted(masks.iterdir())
    first, second = files[5], files[27]
    contents = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(contents)
    Image.open(files[11]).point([1, 0] + [0] * 254).save(files[11])
    names = {'studio': 0, 'car': 1, 'bicycle': 2}
    (masks / 'classes.json').write_text(json.dumps(names), encoding='utf-8')
    data = ['--images', 'imgs', '--masks', 'masks']  # as the page names them
    cells.call('train.py', '--check', '--report', 'look', *data, folder=folder)
    shot = folder / 'page.png'
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars']
    options += ['--window-size=1000,1000', f'--screenshot={shot}']
    address = (folder / 'look' / 'index.html').as_uri()
    subprocess.run([browser, *options, address], check=True, capture_output=True, timeout=120)
    return Image.open(shot).convert('RGB').crop((0, 0, 1000, 1000))


def touching_cells(work: Path) -> 'Image.Image':
    """Return cells, the true ones, and those found without and with the weight map."""
    import numpy as np
    from PIL import Image

    from utils.inference.predictor import Predictor
    from utils.masks.components import label_components

    words = [*CELLS, *CELL_TRAINING.split(), '--folder', str(work / 'cells')]
    args, options = cells.get_args(words)
    cells.render(args)
    path = sorted((args.folder / 'test' / 'imgs').iterdir())[CELL_IMAGE]
    truth = np.asarray(Image.open(args.folder / 'test' / 'masks' / path.name)) > 0
    found = [truth]
    for kind in cells.KINDS:
        model = cells.train(args, CELL_SEED, kind, options)
        found.append(Predictor.load(model).predict_file(path) > 0)
    # Bright colours in a random order, black for the background.
    colours = np.random.default_rng(0).integers(60, 256, (4096, 3)).astype(np.uint8)
    colours[0] = 0
    rows = [np.asarray(Image.open(path).convert('RGB'))]
    rows += [colours[label_components(mask)] for mask in found]
    gap = np.full((len(truth), 6, 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, gap)][:-1]
    return Image.fromarray(np.hstack(parts))


def pruned_widths(work: Path) -> 'Image.Image':
    """Return the channels of each layer before and after the pruning that the README shows."""
    from PIL import Image

    from utils.pruning.plots import draw_widths

    record = json.loads((ROOT / 'dev/pruned_cars.json').read_text('utf-8'))
    draw_widths(record['before']['widths'], record['after']['widths'], work / 'widths.png')
    return Image.open(work / 'widths.png')


FIGURES: dict[str, 'Callable[[Path], Image.Image]'] = {
    'unseen_cars.jpg': unseen_cars,
    'four_classes.jpg': four_classes,
    'data_page.png': data_page,
    'touching_cells.png': touching_cells,
    'pruned_widths.png': pruned_widths,
}
# Made by --only: it takes minutes, and the default recipe does not change it.
ONLY_NAMED = ('touching_cells.png',)
# Pictures that are not made here, and how each is.
ELSEWHERE = {'app.jpg': 'a screenshot of python app.py, with a picture and its true mask dropped'}


def make(name: str, work: Path, output: Path) -> bool:
    """Make a picture; return whether it was made. The file appears whole."""
    try:
        picture = FIGURES[name](work)
        with whole_file(output / name) as part:
            picture.save(part, **({'quality': 90} if name.endswith('.jpg') else {'optimize': True}))
    except (UserError, OSError, subprocess.SubprocessError) as error:
        print(f'error: {name} is as before: {error}', file=sys.stderr)
        return False
    kilobytes = (output / name).stat().st_size // 1000
    print(f'{output / name}: {picture.width} x {picture.height}, {kilobytes} kB')
    return True


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description='Make the pictures of the documents anew')
    add = parser.add_argument
    add('--only', choices=FIGURES, metavar='NAME',
        help=f'one of {", ".join(FIGURES)} (default: all but {", ".join(ONLY_NAMED)})')  # fmt: skip
    add('--output', type=Path, default=ROOT / 'docs', metavar='DIR',
        help='existing folder to write them into (default: docs)')  # fmt: skip
    args = parser.parse_args(argv)
    if not args.output.is_dir():
        parser.error(f'--output {args.output}: expected an existing folder')
    names = [args.only] if args.only else [name for name in FIGURES if name not in ONLY_NAMED]
    with tempfile.TemporaryDirectory() as work:
        made = [make(name, Path(work), args.output) for name in names]
    for name, how in ELSEWHERE.items() if not args.only else ():
        print(f'{name} is not made here: {how}')
    return 0 if all(made) else 2


if __name__ == '__main__':
    sys.exit(main())
