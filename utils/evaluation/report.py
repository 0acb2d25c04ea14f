"""The HTML page of evaluate.py --report."""

import math
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from utils.data.dataset import SegmentationDataset
from utils.data.report.examples import Example, colour_keys, picture_row
from utils.data.report.page import document, table, write_page
from utils.inference.checkpoint import load_checkpoint
from utils.inference.predictor import Predictor

from .instance_scores import TITLES, describe_objects, object_rows, partition_rows
from .metrics import SCORES, number
from .scoring import RESOLUTION, ScoredItems
from .summary import RAND, describe_mean, surface_rows

BINS = 20  # of the histogram
MOST_CLASSES = 20  # with more, the confusion matrix is left out

NAMES = {'dice': 'Dice', 'iou': 'IoU', 'dataset': 'all pixels', 'f': 'F'}


def write_report(
    args: Namespace, scores: dict, predictor: Predictor, dataset: SegmentationDataset
) -> None:
    """Write index.html in the folder of evaluate.py's --report, and print its path.

    scores: of summarize_evaluation. The worst and median images are predicted again, to be shown.
    """
    items = ScoredItems(dataset, args.at_scale)

    def example(row: dict) -> str:
        """Return the pictures of an image, predicted again."""
        item = items[dataset.ids.index(row['image'])]
        image, truth = item['image'], item['full'].numpy()
        outputs = predictor.resized_outputs(image, truth.shape[::-1])
        predicted = predictor.classify(outputs, scores['threshold'])
        shown = Example(image.permute(1, 2, 0).numpy(), truth, scores['background'])
        pictures = {'image': shown.base, 'truth': shown.truth()}
        pictures |= {'prediction': shown.tinted(predicted), 'errors': shown.errors(predicted)}
        return picture_row(f'{row["image"]}: Dice {row["dice"]:.4f}', pictures)

    ranking = scores['ranking']
    middle = slice((len(ranking) - 1) // 2, len(ranking) // 2 + 1)
    chosen = {'Worst images': ranking[: args.worst], 'Median images': ranking[middle]}
    examples = {title: map(example, rows) for title, rows in chosen.items() if rows}
    settings = {'command': args.command, 'images': args.images, 'masks': args.masks}
    settings |= {'scale': f'{predictor.scale:g}', 'scored at': RESOLUTION[args.at_scale]}
    settings['threshold'] = f'{scores["threshold"]:g}'
    settings['boundary tolerance'] = f'{args.boundary_tolerance} pixels'
    settings |= {'precision': predictor.precision.name} | load_checkpoint(args.model).settings()
    page = report_html(scores, settings, dataset.masks.titles, examples)
    print(f'report: {write_page(args.report, page)}')


def report_html(
    scores: dict, settings: dict, titles: list[str], examples: Mapping[str, Iterable[str]]
) -> str:
    """Return the page; titles: of the classes. examples: HTML of images, by heading."""
    heading = f'Scores of {scores["model"]}'
    parts = [f'<h1>{escape(heading)}</h1>\n<h2>Scores</h2>', _summary(scores)]
    parts += [_classes(scores, titles), '<h2>Dice of the images</h2>']
    parts.append(histogram([row['dice'] for row in scores['ranking']]))
    if 'surface_unit' in scores:
        head = ['class', 'Hausdorff 95', 'average', 'images where one mask lacks the class']
        title = f'<h2>Surface distances in {scores["surface_unit"]}, mean over the images</h2>'
        parts += [title, score_table(head, surface_rows(scores))]
    if 'instances' in scores:
        parts += ['<h2>Objects</h2>', _objects(scores['instances'])]
    parts += ['<h2>Confusion matrix</h2>', _confusion(scores['confusion'], titles)]
    if 'threshold_sweep' in scores:
        parts += ['<h2>Thresholds</h2>', _sweep(scores)]
    for title, images in examples.items():
        parts += [f'<h2>{title}</h2>', colour_keys(), *images]
    parts += ['<h2>Settings</h2>', table([], list(settings.items()), text=True)]
    return document(heading, '\n'.join(parts))


def score_table(head: list[str], rows: Sequence[Sequence[object]], text: bool = False) -> str:
    """Return page.table, floats with four digits, None as a dash."""
    shown = [[number(c) if c is None or isinstance(c, float) else c for c in row] for row in rows]
    return table(head, shown, text)


def histogram(values: list[float]) -> str:
    """Return an SVG histogram of values in [0, 1], from the tenth below the lowest, at most 0.9."""
    if not values:
        return '<p class="note">No image has a foreground to score.</p>'
    low = min(0.9, math.floor(10 * min(values)) / 10)
    counts, edges = np.histogram(values, bins=BINS, range=(low, 1))
    bar, height = 30, 160
    parts = []
    for k, count in enumerate(counts.tolist()):
        left, tall = 20 + k * bar, height * count / counts.max()
        y = 20 + height - tall
        shape = f'width="{bar - 2}" height="{tall:.1f}"'
        parts.append(f'<rect x="{left}" y="{y:.1f}" {shape}/>')
        if count:
            parts.append(f'<text x="{left - 1 + bar / 2}" y="{y - 5:.1f}">{count}</text>')
        if k % 2 == 0:
            parts.append(f'<text x="{left}" y="{height + 36}">{edges[k]:.3g}</text>')
    width = 40 + BINS * bar
    parts.append(f'<text x="{20 + BINS * bar}" y="{height + 36}">1</text>')
    label = f'Histogram of the Dice of {len(values)} images'
    return (
        f'<svg viewBox="0 0 {width} {height + 44}" width="{width}" height="{height + 44}" '
        f'role="img" aria-label="{label}" font-size="12" text-anchor="middle">'
        f'<title>{label}</title>{"".join(parts)}</svg>'
    )


def _summary(scores: dict) -> str:
    interval = scores['dice_interval']
    rows = [
        ['Dice, all pixels together', scores['dice_dataset'], ''],
        ['Dice, mean over the images', scores['dice_per_image'],
         f'95 % interval {interval[0]:.4f} to {interval[1]:.4f}' if interval else ''],
        ['boundary F-score, mean over the images', scores['boundary_f_per_image'],
         f'within {scores["boundary_tolerance"]} pixels'],
        ['mean Dice of all classes, all pixels together', scores['all_classes']['dice_dataset'],
         'background included'],
        ['mean IoU of all classes, all pixels together', scores['all_classes']['iou_dataset'],
         'mIoU'],
    ]  # fmt: skip
    if 'ceiling' in scores:
        why = f'what scale {scores["scale"]:g} allows: the truth scaled down and up again'
        rows.append(['ceiling, all pixels together', scores['ceiling']['dice_dataset'], why])
        rows.append(['ceiling, mean over the images', scores['ceiling']['dice_per_image'], why])
    note = f'<p class="note">{escape(describe_mean(scores))}</p>'
    return note + score_table(['figure', 'value', ''], rows, text=True)


def _classes(scores: dict, titles: list[str]) -> str:
    names = [*SCORES, 'boundary_f_per_image']
    head = [' '.join(NAMES.get(word, word) for word in name.split('_')) for name in names]
    rows = [
        [title, f'{100 * (row["share"] or 0):.3g} %', *(row[name] for name in names)]
        for title, row in zip(titles, scores['classes'], strict=True)
    ]
    return score_table(['class', 'share', *head], rows)


def _objects(scores: dict) -> str:
    note = f'<p class="note">{escape(describe_objects(scores))}</p>'
    head = ['mean over the images', 'plain', 'after border thinning']
    return (
        note
        + score_table(['class', *TITLES], object_rows(scores))
        + score_table(head, partition_rows(scores), text=True)
    )


def _confusion(confusion: list[list[int]], titles: list[str]) -> str:
    if len(titles) > MOST_CLASSES:
        return f'<p class="note">{len(titles)} classes: see the file of --json.</p>'
    rows = [
        [title, *(f'{n:,} ({n / max(1, sum(row)):.1%})' for n in row)]
        for title, row in zip(titles, confusion, strict=True)
    ]
    note = '<p class="note">Pixels, and their fraction of the true class.</p>'
    return note + score_table(['truth \\ prediction', *titles], rows)


def _sweep(scores: dict) -> str:
    titles = {'dice_dataset': 'Dice, all pixels', 'dice_per_image': 'Dice, mean over the images'}
    best = {'best_threshold': 'best'}
    if 'best_threshold_rand' in scores:
        titles[RAND] = 'adapted Rand F, borders thinned'
        best = {'best_threshold': 'best Dice', 'best_threshold_rand': 'best Rand F'}
    rows = []
    for row in scores['threshold_sweep']:
        marks = [text for name, text in best.items() if row['threshold'] == scores[name]]
        figures = [row[name] for name in titles]
        rows.append([f'{row["threshold"]:.2f}', *figures, ', '.join(marks)])
    return score_table(['threshold', *titles.values(), ''], rows)
