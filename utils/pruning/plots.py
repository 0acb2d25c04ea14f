"""Pictures of pruning: the widths of two networks, and the Pareto list of --cost auto."""

from collections.abc import Sequence
from pathlib import Path

from utils.runtime.files import whole_file

from .search import Trial, on_front

BLOCKS = ('inc', 'down1', 'down2', 'down3', 'down4', 'up1', 'up2', 'up3', 'up4')


def layer_titles() -> list[str]:
    """Return a short name for each of the 22 widths, such as 'down1 a' and 'up1 up'."""
    titles = [f'{block} {part}' for block in BLOCKS[:5] for part in 'ab']
    return titles + [f'{block} {part}' for block in BLOCKS[5:] for part in ('up', 'a', 'b')]


def draw_widths(before: Sequence[int], after: Sequence[int], picture: Path, dpi: int = 80) -> None:
    """Draw the channels of each layer before and after pruning into a PNG file.

    before, after: the widths of two networks, see unet.widths. The axis is logarithmic, because
    channels double from level to level.
    """
    from matplotlib.figure import Figure  # late: over a second to import

    figure = Figure((9, 3.6), layout='constrained')
    axis = figure.subplots()
    places = range(len(before))
    axis.bar(places, before, color='#c9d7e8', label='before', width=0.85)
    axis.bar(places, after, color='#1f5a99', label='after', width=0.85)
    for place, (dense, slim) in enumerate(zip(before, after, strict=True)):
        axis.text(place, dense * 1.05, str(dense), ha='center', fontsize=7, color='#5b6b7d')
        if slim < dense:  # inside its bar, clear of the other number
            axis.text(place, slim * 0.93, str(slim), ha='center', va='top', fontsize=7, color='w')
    axis.set_yscale('log', base=2)
    axis.set_ylim(min(after) / 2, max(before) * 2)
    axis.set_yticks([2**k for k in range(16) if min(after) / 2 <= 2**k <= max(before) * 2])
    axis.yaxis.set_major_formatter('{x:.0f}')
    axis.set_xticks([*places], layer_titles(), rotation=60, ha='right', rotation_mode='anchor')
    axis.tick_params(labelsize=8)
    axis.set_ylabel('channels')
    axis.legend(ncols=2, frameon=False, loc='upper left', fontsize=8)
    axis.spines[['top', 'right']].set_visible(False)
    with whole_file(picture) as part:
        figure.savefig(part, format='png', dpi=dpi)


def draw_pareto(trials: list[Trial], least_dice: float, picture: Path) -> None:
    """Draw cost and Dice of the trials into a PNG file, and the least Dice that passes."""
    from matplotlib.figure import Figure  # late: over a second to import

    figure = Figure((6, 4), layout='constrained')
    axis = figure.subplots()
    front = sorted(
        (trial.cost, trial.dice)
        for trial, best in zip(trials, on_front(trials), strict=True)
        if best
    )
    axis.axhline(least_dice, color='tab:red', linewidth=1, label='least Dice that passes')
    axis.plot(*zip(*front, strict=True), '-', color='tab:blue', label='Pareto front')
    for passed, mark in ((True, 'o'), (False, 'x')):
        points = [(t.cost, t.dice) for t in trials if (t.dice >= least_dice) == passed]
        if points:
            axis.plot(*zip(*points, strict=True), mark, color='tab:blue')
    axis.set_xscale('log')
    axis.set_xlabel("multiply-adds, 1 is the dense network's")
    axis.set_ylabel('validation Dice')
    axis.grid(alpha=0.3)
    axis.legend(loc='lower right')
    with whole_file(picture) as part:
        figure.savefig(part, format='png', dpi=100)
