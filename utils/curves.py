"""curves.png: how loss, Dice and learning rate went, from the rows of metrics.csv."""

import csv
from pathlib import Path

from .files import whole_file

PANELS = {
    'training loss': {'loss': ('loss', 'tab:red')},
    'validation Dice': {
        'all pixels': ('dice_dataset', 'tab:blue'),
        'mean of the images': ('dice_per_image', 'tab:cyan'),
    },
    'learning rate': {'learning rate': ('learning_rate', 'tab:green')},
}


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw metrics.csv into a PNG file, a panel for each kind of figure over the steps.

    Empty cells, where there was nothing to score, are left out of the line.
    """
    from matplotlib.figure import Figure  # here: over a second to import

    with metrics.open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    figure = Figure((8, 8), layout='constrained')
    axes = figure.subplots(len(PANELS), sharex=True)
    for axis, (title, lines) in zip(axes, PANELS.items(), strict=True):
        for label, (column, colour) in lines.items():
            points = [(int(row['step']), float(row[column])) for row in rows if row[column]]
            # Dots as well: a run's first validation alone is no line.
            axis.plot(
                [x for x, _ in points], [y for _, y in points], '.-', color=colour, label=label
            )
        axis.set_title(title, loc='left', fontsize='medium')
        axis.grid(alpha=0.3)
    axes[1].legend(loc='lower right')
    axes[-1].set_xlabel('step')
    with whole_file(picture) as part:
        figure.savefig(part, format='png', dpi=100)
