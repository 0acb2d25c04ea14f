"""All figures of an evaluation: as plain values, as rows of a CSV file, and as text."""

import torch
from torch import Tensor

from utils.masks.encoding import MaskEncoding

from . import metrics
from .boundary import boundary_scores
from .dice import dice_reference
from .instance_scores import format_instances, instance_columns, summarize_instances
from .intervals import bootstrap_interval
from .metrics import RATIOS, SCORES, mean_or_none, number
from .scoring import Conditions, Counts

RAND = 'rand_thinned_per_image'
SURFACES = ('hausdorff95_per_image', 'surface_distance_per_image')


def summarize_evaluation(counts: Counts, conditions: Conditions, masks: MaskEncoding) -> dict:
    """Return all figures as plain values, None where there is nothing to score.

    Besides the scores of metrics.summarize: `dice_interval`, of the mean over images;
    `boundary_f_per_image`, also in each of `classes`; `confusion`, pixels by true class (rows) and
    predicted class; `ceiling`, the best Dice that the scale allows; `threshold_sweep` and
    `best_threshold`, with objects also `best_threshold_rand`, the one with the highest adapted
    Rand F after border thinning; `ranking`, ids and Dice from the worst image to the best;
    `instances`, see summarize_instances; `hausdorff95_per_image`, `surface_distance_per_image` and
    `surface_undefined`, also in each of `classes`, and their `surface_unit`.
    """
    scores: dict = {'model': conditions.model, 'scale': conditions.scale}
    scores |= {'at_scale': conditions.at_scale, 'threshold': conditions.threshold}
    scores |= metrics.summarize(counts.pixels, masks)
    scores['dice_reference'] = dice_reference(counts.scaled, conditions.batch_size, masks.scored)
    ids, each = counts.ids, metrics.image_dice(counts.pixels, masks.scored)
    # Sorted by name, so that the bootstrap draws the same images for any batch size.
    by_name = sorted(range(len(ids)), key=ids.__getitem__)
    scores['dice_interval'] = bootstrap_interval(each[by_name].numpy())
    outlines = boundary_scores(counts.boundary)  # (N, K)
    scores['boundary_tolerance'] = conditions.tolerance
    scores['boundary_f_per_image'] = mean_or_none(outlines[:, masks.scored].nanmean(dim=1))
    for k, row in enumerate(scores['classes']):
        row['boundary_f_per_image'] = mean_or_none(outlines[:, k])
    scores['confusion'] = counts.confusion.tolist()
    if counts.ceiling is not None:
        limit = metrics.summarize(counts.ceiling, masks)
        scores['ceiling'] = {name: limit[name] for name in ('dice_dataset', 'dice_per_image')}
    if counts.surfaces is not None:
        _add_surfaces(scores, counts.surfaces, masks.scored)
        scores['surface_unit'] = conditions.unit
    if counts.instances is not None:
        scores['instances'] = summarize_instances(counts.instances, masks)
    if counts.sweep is not None:
        scores['threshold_sweep'] = rows = metrics.sweep_table(counts.sweep, counts.rand)
        scores['best_threshold'] = metrics.best_threshold(rows)
        if counts.rand is not None:
            scores['best_threshold_rand'] = metrics.best_threshold(rows, RAND)
    ranking = [{'image': ids[n], 'dice': each[n].item()} for n in by_name if not each[n].isnan()]
    scores['ranking'] = sorted(ranking, key=lambda row: row['dice'])
    return scores


def _add_surfaces(scores: dict, distances: Tensor, scored: list[int]) -> None:
    """Add mean surface distances, of (N, K, 2), and how often one mask lacks the class.

    Such an image has no distance, and is left out of the means.
    """
    undefined = distances[..., 0].isinf().sum(dim=0)  # (K,)
    finite = torch.where(distances.isinf(), torch.nan, distances)
    for place, name in enumerate(SURFACES):
        scores[name] = mean_or_none(finite[:, scored, place].nanmean(dim=1))
        for k, row in enumerate(scores['classes']):
            row[name] = mean_or_none(finite[:, k, place])
    scores['surface_undefined'] = int(undefined[scored].sum())
    for k, row in enumerate(scores['classes']):
        row['surface_undefined'] = int(undefined[k])


def quoted(name: str) -> str:
    """Return a name for a table: a spreadsheet would compute one that begins like a formula."""
    return f"'{name}" if name.startswith(('=', '+', '-', '@', '\t', '\r')) else name


def csv_rows(counts: Counts, names: list[str] | None = None) -> list[dict]:
    """Return a row for each image and class, whose names may be given, with counts and scores."""
    each, outlines = metrics.ratios(counts.pixels), boundary_scores(counts.boundary)
    return [
        {'image': quoted(image), 'class': k, 'name': names[k] if names else None}
        | dict(zip(('tp', 'fp', 'fn'), counts.pixels[n, k].tolist(), strict=True))
        | {ratio: mean_or_none(each[ratio][n, k]) for ratio in RATIOS}
        | {'boundary_f': mean_or_none(outlines[n, k])}
        | ({} if counts.surfaces is None else _distances(counts.surfaces[n, k]))
        | ({} if counts.instances is None else instance_columns(counts.instances, n, k))
        for n, image in enumerate(counts.ids)
        for k in range(counts.pixels.shape[1])
    ]


def _distances(pair: Tensor) -> dict[str, float | None]:
    """Return the columns of surface distances (2,); infinite where one mask lacks the class."""
    return dict(zip(('hausdorff95', 'surface_distance'), map(mean_or_none, pair), strict=True))


def format_scores(scores: dict, worst: int) -> str:
    """Format the figures as text of at most 80 columns, with the `worst` worst images."""
    lines = [format_table(scores)]
    if scores['dice_interval']:
        low, high = scores['dice_interval']
        each = number(scores['dice_per_image'])
        lines.append(f'Dice per image {each}, 95 % interval {low:.4f} to {high:.4f} (bootstrap)')
    boundary, tolerance = number(scores['boundary_f_per_image']), scores['boundary_tolerance']
    lines.append(f'boundary F per image {boundary}, within {tolerance} pixels')
    if 'ceiling' in scores:
        limit = scores['ceiling']
        lines.append(
            f'ceiling of scale {scores["scale"]:g}: Dice {number(limit["dice_dataset"])} all '
            f'pixels together, {number(limit["dice_per_image"])} per image'
        )
    if 'surface_unit' in scores:
        lines += _format_surfaces(scores)
    if 'instances' in scores:
        lines += ['', *format_instances(scores['instances'])]
    if 'threshold_sweep' in scores:
        lines += ['', *_format_sweep(scores)]
    shown = [f'{number(row["dice"]):>8}  {row["image"]}' for row in scores['ranking'][:worst]]
    if shown:
        lines += ['', 'worst images', *shown]
    return '\n'.join(lines)


def format_table(scores: dict) -> str:
    """Format the scores of metrics.summarize as a table of at most 80 columns, a row a class."""
    head = ''.join(f'{name:>8}' for name in ('Dice', 'IoU', 'precis.', 'recall'))
    lines = [f'{"":14}{"all pixels together":^32}{"mean over the images":^32}']
    lines.append(f'{"":14}{head}{head}')
    rows = [(c['name'] or f'value {c["value"]}', c) for c in scores['classes']]
    background = scores['background']
    if len(rows) > 2 and background is not None:  # of two classes, the other's row is the mean
        rows.append(('foreground', scores))
    rows.append(('all classes', scores['all_classes']))
    for title, row in rows:
        figures = ''.join(f'{number(row[name]):>8}' for name in SCORES)
        lines.append(f'{title:14}{figures}' if len(title) <= 14 else f'{title}\n{"":14}{figures}')
    lines.append(describe_mean(scores))
    reference = number(scores['dice_reference'])
    lines.append(f'dice_reference {reference} (at scale, batch means averaged)')
    if background != 0:
        first = scores['classes'][0]['value']
        lines.append(f'    of the same classes; the original leaves class 0 out, value {first}')
    return '\n'.join(line.rstrip() for line in lines)


def describe_mean(scores: dict) -> str:
    """Return the line that says over which classes the mean scores are taken."""
    if scores['background'] is None:
        return 'background: none, mean scores count all classes'
    row = scores['classes'][scores['background']]
    name = f' ({row["name"]})' if row['name'] else ''
    return f'background: value {row["value"]}{name}, which mean scores leave out'


def surface_rows(scores: dict) -> list[list]:
    """Return title, both distances, and how many images have none, of each class and the mean."""
    names = (*SURFACES, 'surface_undefined')
    rows = [
        [row['name'] or f'value {row["value"]}', *(row[name] for name in names)]
        for row in scores['classes']
        if row['class'] != scores['background']
    ]
    return [*rows, ['mean', *(scores[name] for name in names)]] if len(rows) > 1 else rows


def _format_surfaces(scores: dict) -> list[str]:
    lines = ['', f'surface distances, {scores["surface_unit"]}  Hausdorff 95  average  not defined']
    for title, *distances, undefined in surface_rows(scores):
        far, mean = ('-' if value is None else f'{value:.2f}' for value in distances)
        lines.append(f'{title:25}{far:>14}{mean:>9}{undefined:>13}')
    return lines


def _format_sweep(scores: dict) -> list[str]:
    best, objects = scores['best_threshold'], 'best_threshold_rand' in scores
    lines = ['threshold  Dice of all pixels  mean over the images']
    lines[0] += '  Rand F, thinned' if objects else ''
    for row in scores['threshold_sweep']:
        mark = '  best' if row['threshold'] == best else ''
        rand = f'{number(row[RAND]):>17}' if objects else ''
        lines.append(
            f'{row["threshold"]:9.2f}{number(row["dice_dataset"]):>20}'
            f'{number(row["dice_per_image"]):>22}{rand}{mark}'
        )
    if best:
        lines.append(f'best with predict.py --mask-threshold {best:g}')
    if scores.get('best_threshold_rand'):
        lines.append(f'best for objects, by Rand F: {scores["best_threshold_rand"]:g}')
    return lines
