"""The search of `--cost auto`: trials of networks, the cost to try next, and the Pareto list."""

import csv
from dataclasses import dataclass
from pathlib import Path

from utils.runtime.files import whole_file

# The search ends when the cheapest network that passes costs at most 1 / CLOSE of the dearest one
# that fails: two networks between a half and a whole.
CLOSE = 0.8


@dataclass(frozen=True)
class Trial:
    """A network of the search and its scores on the validation set.

    asked: the most that it may cost. cost: what it costs, which widths in multiples make less. Both
    are 1 for the dense network's multiply-adds. dice: over the pixels of all images.
    """

    file: Path
    asked: float
    cost: float
    parameters: int
    dice: float
    milliseconds: float

    def describe(self, dense_dice: float) -> str:
        """Return cost and Dice in a few words; dense_dice: that of the dense network."""
        lost = 100 * (dense_dice - self.dice)
        return f'{self.cost:.3f} of the multiply-adds, Dice {self.dice:.4f}, {lost:.2f} points lost'


def cheapest_passing(trials: list[Trial], least_dice: float) -> Trial:
    """Return the trial of least cost with at least this Dice; the dense network is among them."""
    return min((t for t in trials if t.dice >= least_dice), key=lambda trial: trial.cost)


def next_cost(trials: list[Trial], least_dice: float, possible: float) -> float | None:
    """Return the cost to try next, None where the search is at its end.

    trials: the dense network's and those made. least_dice: of a network that passes. possible: the
    least cost that any network has.

    The cost is halved until a network fails. Then it is the geometric mean of the cheapest network
    that passes and what was asked for the dearest one that fails, until these are CLOSE.
    """
    passed = cheapest_passing(trials, least_dice).cost
    failed = max((trial.asked for trial in trials if trial.dice < least_dice), default=None)
    if failed is None:
        return max(passed / 2, possible) if possible < CLOSE * passed else None
    asked = (passed * failed) ** 0.5
    return asked if failed < CLOSE * passed and possible <= asked else None


def on_front(trials: list[Trial]) -> list[bool]:
    """Return of each trial whether no other one costs as little and scores as well."""

    def beaten(one: Trial) -> bool:
        """Return whether another trial is better in one respect, and no worse in the other."""
        return any(
            other.cost <= one.cost
            and other.dice >= one.dice
            and (other.cost, other.dice) != (one.cost, one.dice)
            for other in trials
        )

    return [not beaten(trial) for trial in trials]


def write_pareto(trials: list[Trial], least_dice: float, path: Path) -> None:
    """Write the trials as CSV, from the dearest to the cheapest.

    Columns: file, cost, parameters, dice, lost (points of Dice), milliseconds, pareto (on_front)
    and passed, 1 or 0. trials: the dense network's is the first.
    """
    rows = [
        {
            'file': trial.file, 'cost': f'{trial.cost:.4f}', 'parameters': trial.parameters,
            'dice': f'{trial.dice:.5f}', 'lost': f'{100 * (trials[0].dice - trial.dice):.3f}',
            'milliseconds': f'{trial.milliseconds:.2f}', 'pareto': int(front),
            'passed': int(trial.dice >= least_dice),
        }
        for trial, front in zip(trials, on_front(trials), strict=True)
    ]  # fmt: skip
    with whole_file(path) as part, part.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, fieldnames=[*rows[0]])
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: -float(row['cost'])))
