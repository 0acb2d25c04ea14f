"""Figures of networks before and after pruning: cost, scores with intervals, time; their table.

Axis letters: N images, K classes.
"""

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from unet import UNet
from utils.evaluation.intervals import bootstrap_interval
from utils.evaluation.metrics import number, ratios, summarize
from utils.evaluation.scoring import count_at_scale
from utils.inference.backends.selection import fold_batchnorm
from utils.runtime.precision import MixedPrecision

if TYPE_CHECKING:
    from utils.training.data import TrainingData


def network_figures(
    model: UNet, size: tuple[int, int], data: 'TrainingData', precision: MixedPrecision
) -> dict:
    """Return cost, time and validation scores of a network at the scale of the data.

    size: (height, width) of an image. `dice` and `iou` are ratios over the pixels of all images,
    `dice_per_image` and `iou_per_image` means over the images with a 95 % interval each, `classes`
    the Dice of each class but the background by its name. `each` has the Dice of each image, (N,)
    float64 with NaN where there is nothing to score. All scores are None without a validation set.
    """
    found: dict = {
        'parameters': sum(parameter.numel() for parameter in model.parameters()),
        'multiply_adds': model.multiply_adds(size),
        'milliseconds': milliseconds(model, size, precision.device),
        'widths': model.widths,
    }
    if data.validation_loader is None:
        names = 'dice iou dice_per_image dice_interval iou_per_image iou_interval classes each'
        return found | dict.fromkeys(names.split())
    masks = data.dataset.masks
    counts = count_at_scale(model, data.validation_loader, precision, data.dataset.decode)
    scores, by_image = summarize(counts, masks, 1), ratios(counts)
    for ratio in ('dice', 'iou'):
        each = by_image[ratio][:, masks.scored].nanmean(dim=1).numpy()
        found[ratio] = scores[f'{ratio}_dataset']
        found[f'{ratio}_per_image'] = scores[f'{ratio}_per_image']
        found[f'{ratio}_interval'] = bootstrap_interval(each)
    rows = [row for row in scores['classes'] if row['class'] != masks.background]
    found['classes'] = {row['name'] or f'value {row["value"]}': row['dice_dataset'] for row in rows}
    found['each'] = by_image['dice'][:, masks.scored].nanmean(dim=1).numpy()
    return found


def milliseconds(model: UNet, size: tuple[int, int], device: torch.device) -> float:
    """Return the time of one image by the network with BatchNorm folded, the best of three."""
    network = fold_batchnorm(model).to(device).to(memory_format=torch.channels_last)
    images = torch.rand(1, model.n_channels, *size, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(4):  # the first one warms up
            start = time.perf_counter()
            network(images).sum().item()  # waits for the device
            times.append(time.perf_counter() - start)
    return 1000 * min(times[1:])


def loss_of_dice(before: dict, after: dict) -> dict | None:
    """Return the Dice that `after` has less than `before`, mean over the images, and its interval.

    Both are scored on the same images, so that what differs between these cancels out: the interval
    is narrower than either network's. None where nothing is scored.
    """
    if before['each'] is None:
        return None
    lost = before['each'] - after['each']
    if np.isnan(lost).all():
        return None
    return {'mean': float(np.nanmean(lost)), 'interval': bootstrap_interval(lost)}


def table(figures: dict[str, dict]) -> str:
    """Return the figures of networks, a column each; `before` and `after` are among them."""
    columns = [*figures.values()]
    rows = [('', [*figures])]
    for title, name, form in (
        ('parameters', 'parameters', '{:,}'),
        ('multiply-adds an image', 'multiply_adds', '{:,}'),
        ('ms an image, here', 'milliseconds', '{:.1f}'),
    ):
        rows.append((title, [form.format(column[name]) for column in columns]))
    for title, name in (('Dice', 'dice'), ('IoU', 'iou')):
        rows.append((f'validation {title}', [number(column[name]) for column in columns]))
        rows.append(('  mean of the images', [number(c[f'{name}_per_image']) for c in columns]))
        rows.append(('  its 95 % interval', [_range(c[f'{name}_interval']) for c in columns]))
    classes = columns[0]['classes'] or {}
    if len(classes) > 1:
        rows += [(f'Dice of {k}', [number(c['classes'][k]) for c in columns]) for k in classes]
    if 'rival' in figures:
        seconds = [column.get('seconds') for column in columns]
        rows.append(('s of training', ['-' if s is None else f'{s:.1f}' for s in seconds]))
    lines = [f'{title:24}' + ''.join(f'{cell:>18}' for cell in cells) for title, cells in rows]
    if lost := loss_of_dice(figures['before'], figures['after']):
        between = f', 95 % interval {_points(lost["interval"])}' if lost['interval'] else ''
        lines.append(f'lost: {100 * lost["mean"]:.2f} points of Dice an image{between}')
    return '\n'.join(line.rstrip() for line in lines)


def _range(interval: tuple[float, float] | None) -> str:
    return '-' if interval is None else f'{interval[0]:.4f} to {interval[1]:.4f}'


def _points(interval: tuple[float, float]) -> str:
    return f'{100 * interval[0]:.2f} to {100 * interval[1]:.2f}'


def to_json(figures: dict[str, dict]) -> dict:
    """Return the figures as plain values for a JSON file, with `lost` of loss_of_dice."""
    plain = {
        name: {key: value for key, value in column.items() if key != 'each'}
        for name, column in figures.items()
    }
    return plain | {'lost': loss_of_dice(figures['before'], figures['after'])}
