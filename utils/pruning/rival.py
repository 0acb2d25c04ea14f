"""The rival of --rival: a network of the slim one's cost, trained from scratch for the same time.

Its layers are those of a usual network, which doubles its channels at each level down.
"""

import argparse
import csv
from pathlib import Path

from unet import UNet, default_widths
from utils.inference.checkpoint import load_checkpoint


def rival_base_channels(dense: UNet, cost: int, size: tuple[int, int]) -> int:
    """Return the base_channels whose network costs most nearly `cost` multiply-adds."""

    def distance(base_channels: int) -> int:
        widths = default_widths(base_channels, dense.bilinear)
        return abs(dense.multiply_adds(size, widths) - cost)

    return min(range(1, max(dense.widths) + 1), key=distance)


def rival_settings(dense: UNet, settings: argparse.Namespace, base_channels: int) -> dict:
    """Return the settings of train.py for a new network that is otherwise like the dense one."""
    return {
        'base_channels': base_channels, 'bilinear': dense.bilinear, 'padding': dense.padding,
        'norm': dense.norm, 'dropout': dense.dropout, 'channels': dense.n_channels,
        'classes': 1 if dense.n_classes == 1 else settings.classes,
    }  # fmt: skip


def training_seconds(run: Path) -> float | None:
    """Return the time that a run spent on training by its metrics.csv, None where that is unknown.

    Validations are not in it. A row tells the time since the start of its epoch, so that the last
    one of each counts.
    """
    epochs: dict[str, float] = {}
    try:
        with (run / 'metrics.csv').open(newline='', encoding='utf-8') as file:
            for row in csv.DictReader(file):
                epochs[row['epoch']] = float(row['seconds'])
    except (OSError, KeyError, TypeError, ValueError):  # no such file, or one changed by hand
        return None
    return sum(epochs.values()) if epochs else None


def seconds_of_pruning(networks: list[Path]) -> float:
    """Return the time that was spent on pruned networks: their choice and their training.

    networks: the files of Pruning.write_pruned; each was trained in the folder of its name.
    """
    total = 0.0
    for path in networks:
        total += (load_checkpoint(path).metrics or {}).get('seconds', 0.0)
        total += training_seconds(path.with_suffix('')) or 0.0
    return total


def epochs_in(seconds: float, timed: Path, coarse: float) -> int:
    """Return how many epochs a run has in so many seconds, at least 1.

    timed: a run of two epochs of the same network; the second one reads no files. coarse: the part
    of the run, 0 to 1, whose steps are at half the resolution and take a quarter of the time.
    """
    with (timed / 'metrics.csv').open(newline='', encoding='utf-8') as file:
        an_epoch = float([*csv.DictReader(file)][-1]['seconds'])
    return max(1, round(seconds / (an_epoch * (1 - 0.75 * coarse))))
