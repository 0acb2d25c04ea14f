"""Pictures of a run: curves.png of metrics.csv, and samples.png, a sheet of predictions."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from utils.inference.predictor import Predictor
from utils.masks.encoding import MaskEncoding
from utils.masks.visualize import sample_sheet
from utils.runtime.files import whole_file

from .state import TrainState

PANELS = {
    'training loss': {'loss': ('loss', 'tab:red')},
    'validation Dice': {
        'all pixels': ('dice_dataset', 'tab:blue'),
        'mean of the images': ('dice_per_image', 'tab:cyan'),
    },
    'learning rate': {'learning rate': ('learning_rate', 'tab:green')},
}


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw metrics.csv into a PNG file, without cells that hold no number, as of nothing to score.

    The table may have been changed by hand, or have the columns of an older version.
    """
    from matplotlib.figure import Figure  # late: over a second to import

    with metrics.open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    figure = Figure((8, 8), layout='constrained')
    axes = figure.subplots(len(PANELS), sharex=True)
    for axis, (title, lines) in zip(axes, PANELS.items(), strict=True):
        for label, (column, colour) in lines.items():
            points = [(_number(row.get('step')), _number(row.get(column))) for row in rows]
            known = np.array([point for point in points if None not in point], float).reshape(-1, 2)
            # Dots as well: a single validation makes no line.
            axis.plot(*known.T, '.-', color=colour, label=label)
        axis.set_title(title, loc='left', fontsize='medium')
        axis.grid(alpha=0.3)
    axes[1].legend(loc='lower right')
    axes[-1].set_xlabel('step')
    with whole_file(picture) as part:
        figure.savefig(part, format='png', dpi=100)


def _number(text: str | None) -> float | None:
    try:
        return float(text or '')
    except ValueError:
        return None


def write_samples(
    path: Path, state: TrainState, items: Iterable[dict[str, Tensor]], masks: MaskEncoding
) -> Image.Image:
    """Predict the items and write a sheet of them; leave the model in training mode."""
    predictor = Predictor(state.model, 1.0, masks, state.precision)
    rows = []
    for item in items:
        image = item['image'].numpy()
        predicted = predictor.predict_image(image.transpose(1, 2, 0))
        rows.append((image, item['mask'].numpy(), predicted))
    state.model.train()
    sheet = sample_sheet(rows)
    with whole_file(path) as part:
        sheet.save(part)
    return sheet
