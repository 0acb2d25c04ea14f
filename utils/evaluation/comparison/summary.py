"""The figures of a comparison as plain values and as text."""

from collections.abc import Sequence
from typing import NamedTuple

from utils.masks.encoding import MaskEncoding

from ..metrics import image_dice, mean_or_none, number
from ..scoring import Counts
from .differences import Difference, paired_differences

# Below this number of images, all differences have one sign by chance in more than 5 % of cases:
# 2 ** (1 - 5) is 6 %. No resampling of so few images tells more.
FEW_IMAGES = 6

FIGURES = ('dice_per_image', 'dice_dataset', 'boundary_f_per_image')


class Pairing(NamedTuple):
    """Two networks, by their labels, and how many images both have seen."""

    first: str
    other: str
    images: int


def compare_counts(first: Counts, other: Counts, pairing: Pairing, masks: MaskEncoding) -> dict:
    """Return the comparison of two networks on the same images as plain values.

    `better` is a label or None, `verdict` a sentence; `per_image` (Dice, mean over the images),
    `dataset` (all pixels together) and each of `classes` have both Dice, their `difference` (other
    less first) and its `interval`. `images` has each image, from the largest difference to the
    smallest; there the Dice of an image without a class, true or predicted, is None.
    """
    orders = [sorted(range(len(c.ids)), key=c.ids.__getitem__) for c in (first, other)]
    pixels = [c.pixels[order] for c, order in zip((first, other), orders, strict=True)]
    found = paired_differences(pixels[0], pixels[1], masks.scored)
    better = {1: pairing.other, -1: pairing.first, 0: None}[found.per_image.better]
    names = [first.ids[n] for n in orders[0]]
    each = [image_dice(part, masks.scored) for part in pixels]
    rows = [
        {'image': name, 'first': mean_or_none(a), 'other': mean_or_none(b)}
        for name, a, b in zip(names, *each, strict=True)
    ]
    titles = class_titles(masks)
    return {
        'first': pairing.first, 'other': pairing.other, 'better': better,
        'verdict': describe(found.per_image, pairing),
        'per_image': _plain(found.per_image), 'dataset': _plain(found.dataset),
        'classes': [
            {'class': k, 'title': title} | _plain(difference)
            for k, (title, difference) in enumerate(zip(titles, found.classes, strict=True))
        ],
        'images': sorted(rows, key=lambda row: -abs(image_difference(row))),
    }  # fmt: skip


def class_titles(masks: MaskEncoding) -> list[str]:
    """Return what the tables call the classes."""
    return masks.names or [f'value {title}' for title in masks.titles]


def image_difference(row: dict) -> float:
    """Return how much better the other network is on an image.

    Nothing predicted where nothing is counts as right here, so that an image on which only one
    network sees something is among those that differ most.
    """
    first, other = (1.0 if row[name] is None else row[name] for name in ('first', 'other'))
    return other - first


def _plain(difference: Difference) -> dict:
    return {
        'first': difference.first, 'other': difference.other, 'difference': difference.value,
        'interval': difference.interval,
    }  # fmt: skip


def describe(difference: Difference, pairing: Pairing) -> str:
    """Return in words which network is better, and whether that is more than chance."""
    first, other, images = pairing
    if not difference.interval:
        return 'not known which is better: an interval needs two images with a Dice'
    low, high = (100 * end for end in difference.interval)
    if not difference.better:
        return f'no difference (95 % interval of {other} - {first} {_ends(low, high)} points)'
    name = other
    if difference.better < 0:
        name, low, high = first, -high, -low
    points = 100 * abs(difference.value or 0)
    text = (
        f'{name} is better by {points:.2f} points of Dice (95 % interval {low:.2f} to {high:.2f})'
    )
    few = f'; {images} images are too few to rule out chance'
    return text + few * (images < FEW_IMAGES)


def _ends(low: float, high: float) -> str:
    return f'{signed(low)} to {signed(high)}'


def signed(points: float | None) -> str:
    """Format points of Dice with their sign; None as a dash."""
    if points is None:
        return '-'
    return f'{round(points, 2) + 0.0:+.2f}'  # adding 0 makes 0 of -0


def difference_rows(comparison: dict) -> list[list[str]]:
    """Return title, both Dice, the difference and its interval in points, of means and classes."""
    parts = [('mean over the images', comparison['per_image'])]
    parts += [(row['title'], row) for row in comparison['classes']]
    parts.append(('all pixels together', comparison['dataset']))
    rows = []
    for title, row in parts:
        points, interval = row['difference'], row['interval']
        ends = _ends(*(100 * end for end in interval)) if interval else '-'
        moved = signed(None if points is None else 100 * points)
        rows.append([title, number(row['first']), number(row['other']), moved, ends])
    return rows


def model_rows(models: Sequence[dict]) -> list[list[str]]:
    """Return label, the FIGURES, and the cost of each network."""
    return [
        [
            row['label'], *(number(row[name]) for name in FIGURES), f'{row["parameters"]:,}',
            _short(row['multiply_adds']), f'{row["milliseconds"]:.1f}',
        ]
        for row in models
    ]  # fmt: skip


def _short(count: int) -> str:
    return f'{count / 1e9:.1f} G' if count >= 1e9 else f'{count / 1e6:.1f} M'


def format_comparison(result: dict, most: int) -> str:
    """Format the figures as text of at most 80 columns, with `most` images that differ most."""
    heads = ('images', 'all pixels', 'boundary F', 'parameters', 'multiply-adds', 'ms an image')
    widths = (10, 12, 12, 14, 15, 13)
    lines = [f'{"":4}{"Dice, mean over":>22}']
    for label, *cells in [['', *heads], *model_rows(result['models'])]:
        lines.append(label.ljust(4) + _right(cells, widths))
    for comparison in result['comparisons']:
        first, other = comparison['first'], comparison['other']
        lines += ['', f'{other} against {first}: {comparison["verdict"]}']
        head = ['Dice', first, other, 'points', '95 % interval']
        for title, *cells in [head, *difference_rows(comparison)]:
            start = title.ljust(24) if len(title) <= 24 else f'{title}\n{"":24}'
            lines.append(start + _right(cells, (10, 10, 10, 20)))
        shown = [row for row in comparison['images'][:most] if image_difference(row)]
        lines += ['images that differ most'] * bool(shown)
        for row in shown:
            cells = [number(row['first']), number(row['other'])]
            cells.append(signed(100 * image_difference(row)))
            lines.append(f'{_right(cells, (8, 8, 9))}  {row["image"]}')
    return '\n'.join(line.rstrip() for line in lines)


def _right(cells: Sequence[str], widths: Sequence[int]) -> str:
    return ''.join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
