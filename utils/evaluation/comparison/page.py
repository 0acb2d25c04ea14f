"""The HTML page of evaluate.py --compare --report."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from utils.data.report.examples import Example, colour_keys, picture_row
from utils.data.report.page import document, table, write_page
from utils.inference.checkpoint import load_checkpoint

from ..metrics import number
from ..scoring import RESOLUTION, ScoredItems
from .summary import difference_rows, image_difference, model_rows, signed

if TYPE_CHECKING:  # keeps the chain of imports short
    from .command import Candidate

# Of the chart of intervals: height of a row, width of the titles, of the axis and of all.
ROW, LEFT, AXIS, WIDTH = 26, 230, 560, 830
PEN = 'stroke="currentColor"'


def write_comparison(args: Namespace, result: dict, candidates: Sequence['Candidate']) -> None:
    """Write index.html in the folder of --report, and print its path.

    result: of command.compare. The images that differ most are predicted again, to be shown.
    """
    by_label = {row['label']: c for row, c in zip(result['models'], candidates, strict=True)}
    examples = {}
    for comparison in result['comparisons']:
        pair = [(label, by_label[label]) for label in (comparison['first'], comparison['other'])]
        rows = [row for row in comparison['images'][: args.worst] if image_difference(row)]
        examples[comparison['other']] = [_example(row, pair) for row in rows]
    settings = {'command': args.command, 'images': args.images, 'masks': args.masks}
    settings['scored at'] = RESOLUTION[False]
    settings['threshold'] = f'{candidates[0].conditions.threshold:g}'
    settings['precision'] = candidates[0].predictor.precision.name
    networks = {}
    for label, candidate in by_label.items():
        path = candidate.conditions.model
        known = {'model': path, 'scale': f'{candidate.predictor.scale:g}'}
        networks[label] = known | load_checkpoint(path).settings()
    print(
        f'report: {write_page(args.report, comparison_html(result, settings, networks, examples))}'
    )


def _example(row: dict, pair: Sequence[tuple[str, 'Candidate']]) -> str:
    """Return image and truth of an image, and the errors of both networks."""
    candidate = pair[0][1]
    items = ScoredItems(candidate.dataset, False)
    item = items[candidate.dataset.ids.index(row['image'])]
    truth = item['full'].numpy()
    pixels = item['image'].permute(1, 2, 0).numpy()
    shown = Example(pixels, truth, candidate.dataset.masks.background)
    pictures = {'image': shown.base, 'truth': shown.truth()}
    for (label, network), dice in zip(pair, (row['first'], row['other']), strict=True):
        predicted = _predicted(network, row['image'], truth)
        pictures[f'errors of {label}: Dice {number(dice)}'] = shown.errors(predicted)
    points = signed(100 * image_difference(row))
    return picture_row(f'{row["image"]}: {points} points', pictures)


def _predicted(candidate: 'Candidate', name: str, truth: np.ndarray) -> np.ndarray:
    """Return the network's class indices (H, W) of an image."""
    image = candidate.dataset.image(candidate.dataset.ids.index(name))
    outputs = candidate.predictor.resized_outputs(image, truth.shape[::-1])
    return candidate.predictor.classify(outputs, candidate.conditions.threshold)


def comparison_html(
    result: dict,
    settings: dict,
    networks: Mapping[str, dict],
    examples: Mapping[str, Sequence[str]],
) -> str:
    """Return the page.

    networks: settings of each, by label. examples: HTML of images that differ most, by the label
    of the network that is compared with the first one.
    """
    heading = f'Comparison of {len(networks)} networks on {result["images"]} images'
    parts = [f'<h1>{escape(heading)}</h1>']
    legend = [[k, known['model'], f'scale {known["scale"]}'] for k, known in networks.items()]
    parts += [verdict(comparison) for comparison in result['comparisons']]
    parts += [table([], legend, text=True), '<h2>Scores and cost</h2>']
    heads = ['', 'Dice, mean over the images', 'Dice, all pixels together', 'boundary F']
    heads += ['parameters', 'multiply-adds an image', 'ms an image, here']
    parts.append(table(heads, model_rows(result['models'])))
    for comparison in result['comparisons']:
        first, other = comparison['first'], comparison['other']
        parts.append(f'<h2>Dice of {other} against {first}</h2>')
        rows = difference_rows(comparison)
        parts += [table(['', first, other, 'points', '95 % interval'], rows), _chart(comparison)]
        parts.append(f'<h2>Images on which {first} and {other} differ most</h2>')
        shown = examples[other]
        none = '<p class="note">No image has another Dice.</p>'
        parts += [colour_keys(), *shown] if shown else [none]
    parts.append('<h2>Settings</h2>')
    parts.append(table([], list(settings.items()), text=True))
    for label, known in networks.items():
        parts += [f'<h3>{label}</h3>', table([], list(known.items()), text=True)]
    return document(heading, '\n'.join(parts))


def verdict(comparison: dict) -> str:
    """Return which network is better, in a box."""
    kind = 'good' if comparison['better'] else 'doubt'
    text = f'{comparison["other"]} against {comparison["first"]}: {comparison["verdict"]}'
    return f'<div class="verdict {kind}"><strong>{escape(text)}</strong></div>'


def _chart(comparison: dict) -> str:
    """Return an SVG chart of the differences in points, each with its interval, around zero."""
    parts = [('mean over the images', comparison['per_image'])]
    parts += [(row['title'], row) for row in comparison['classes']]
    parts.append(('all pixels together', comparison['dataset']))
    known = [(title, row) for title, row in parts if row['interval']]
    if not known:
        return ''
    widest = max(abs(end) for _, row in known for end in row['interval']) or 0.01
    middle, unit = LEFT + AXIS / 2, AXIS / 2 / widest
    lines = []
    for k, (title, row) in enumerate(known):
        y = ROW * (k + 1)
        low, high, at = (middle + unit * x for x in (*row['interval'], row['difference']))
        lines.append(
            f'<text x="{LEFT - 20}" y="{y + 4}" text-anchor="end">{escape(title)}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" {PEN} stroke-width="2"/>'
            f'<rect x="{at - 4:.1f}" y="{y - 4}" width="8" height="8"/>'
        )
    bottom = ROW * len(known) + 12
    place = f'x1="{middle}" x2="{middle}" y1="8" y2="{bottom}"'
    lines.append(f'<line {place} {PEN} stroke-dasharray="4"/>')
    for share in (-1, -0.5, 0, 0.5, 1):
        x, text = middle + share * AXIS / 2, signed(100 * share * widest)
        lines.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
    first, other = comparison['first'], comparison['other']
    label = f'Points of Dice by which {other} is better than {first}, with 95 % intervals'
    height = bottom + 28
    return (
        f'<p class="note">{label}</p><svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'style="max-width: 100%; height: auto" role="img" aria-label="{label}" font-size="12">'
        f'<title>{label}</title>{"".join(lines)}</svg>'
    )
