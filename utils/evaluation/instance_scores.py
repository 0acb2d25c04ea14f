"""Scores of objects: summarized and formatted.

Axis letters: N images, K classes, T IoU thresholds.
"""

from textwrap import wrap

from torch import Tensor

from utils.masks.encoding import MaskEncoding
from utils.masks.values import value_to_json

from .instances import COUNTS, PARTITION, InstanceCounts
from .metrics import mean_or_none, number

TRUE, PREDICTED, MERGED, SPLIT = range(len(COUNTS))
MATCHED = len(COUNTS)  # column of the matches with an IoU over 0.5
DATASET = ('object_f1', 'panoptic_quality', 'segmentation_quality')  # from counts of all images
TITLES = ('true', 'found', 'matched', 'merged', 'split', 'F1', 'PQ', 'SQ', 'AP')


def object_ratios(objects: Tensor, iou: Tensor) -> dict[str, Tensor]:
    """Return F1, qualities and average precision, each (...) float64, NaN for 0 / 0.

    objects: (..., 4 + T) and iou: (...), see instances.count_objects.
    """
    columns = objects.double()
    both = columns[..., TRUE] + columns[..., PREDICTED]
    matches = columns[..., MATCHED:]
    precision = (matches / (both[..., None] - matches)).mean(dim=-1)  # TP / (TP + FP + FN)
    matched = matches[..., 0]
    return {
        'object_f1': 2 * matched / both,
        'panoptic_quality': 2 * iou / both,
        'segmentation_quality': iou / matched,
        'average_precision': precision,
    }


def summarize_instances(counts: InstanceCounts, masks: MaskEncoding) -> dict:
    """Return the scores of objects as plain values, None where there is nothing to score.

    `classes` has counts and scores of each class of the objects, the scores beside it are means
    over them. Scores of DATASET come from the counts of all images; `..._per_image` are means over
    the images. `numbered` is the number of images whose masks number their objects.
    """
    classes = counts.classes
    pooled = object_ratios(counts.objects.sum(dim=0), counts.iou.sum(dim=0))  # (K,)
    each = object_ratios(counts.objects, counts.iou)['average_precision']  # (N, K)
    total = counts.objects.sum(dim=0).tolist()
    scores: dict = {'images': len(counts.objects), 'numbered': int(counts.numbered.sum())}
    scores |= {f'{name}_dataset': mean_or_none(pooled[name][[*classes]]) for name in DATASET}
    rows = [
        {'class': k, 'value': value_to_json(masks.values[k])}
        | {'name': masks.names[k] if masks.names else None}
        | dict(zip((*COUNTS, 'matched'), total[k], strict=False))
        | {f'{name}_dataset': mean_or_none(pooled[name][k]) for name in DATASET}
        | {'average_precision_per_image': mean_or_none(each[:, k])}
        for k in classes
    ]
    precisions = [row['average_precision_per_image'] for row in rows]
    known = [value for value in precisions if value is not None]
    scores['average_precision_per_image'] = sum(known) / len(known) if known else None
    for variant, values in zip(('', '_thinned'), counts.partitions.unbind(dim=1), strict=True):
        for name, column in zip(PARTITION, values.unbind(dim=1), strict=True):
            scores[f'{name}{variant}_per_image'] = mean_or_none(column)
    return scores | {'classes': rows}


def instance_columns(counts: InstanceCounts, n: int, k: int) -> dict:
    """Return the columns of --csv of image `n` and class `k`; the image's own are in each row."""
    names = [f'objects_{name}' for name in (*COUNTS, 'matched')]
    own = k in counts.classes
    values = counts.objects[n, k].tolist() if own else [None] * len(names)
    columns = dict(zip(names, values, strict=False))
    ratios = object_ratios(counts.objects[n, k], counts.iou[n, k])
    columns |= {name: mean_or_none(value) if own else None for name, value in ratios.items()}
    for variant, row in zip(('', '_thinned'), counts.partitions[n], strict=True):
        columns |= {
            f'{name}{variant}': mean_or_none(value)
            for name, value in zip(PARTITION, row, strict=True)
        }
    return columns


def object_rows(scores: dict) -> list[list]:
    """Return a row for each class of the objects and, of several, their mean: title, TITLES."""
    rows = [
        [row['name'] or f'value {row["value"]}']
        + [row[name] for name in ('true', 'predicted', 'matched', 'merged', 'split')]
        + _ratios(row)
        for row in scores['classes']
    ]
    if len(rows) > 1:
        sums = [sum(column) for column in list(zip(*rows, strict=True))[1:6]]
        rows.append(['all of these', *sums, *_ratios(scores)])
    return rows


def _ratios(scores: dict) -> list[float | None]:
    return [*(scores[f'{name}_dataset'] for name in DATASET), scores['average_precision_per_image']]


def partition_rows(scores: dict) -> list[tuple[str, float | None, float | None]]:
    """Return title, score, and score after border thinning, of the PARTITION scores."""
    titles = (
        'adapted Rand F', 'adapted Rand precision', 'adapted Rand recall',
        'variation of information, split', 'variation of information, merge',
    )  # fmt: skip
    return [
        (title, scores[f'{name}_per_image'], scores[f'{name}_thinned_per_image'])
        for title, name in zip(titles, PARTITION, strict=True)
    ]


def describe_objects(scores: dict) -> str:
    """Return the line that says what the objects are."""
    values = ', '.join(row['name'] or f'value {row["value"]}' for row in scores['classes'])
    numbered, images = scores['numbered'], scores['images']
    how = f'connected components, in {numbered} of {images} images the numbers of the masks'
    if numbered in (0, images):
        how = 'the numbers of the masks' if numbered else 'connected components'
    return f'objects: {values}; true ones: {how}'


def format_instances(scores: dict) -> list[str]:
    """Format the scores as lines of at most 80 columns."""
    head = ''.join(f'{title:>8}' for title in TITLES[:5]) + ''.join(f'{t:>7}' for t in TITLES[5:])
    lines = [f'{"objects":12}{head}']
    for title, *values in object_rows(scores):
        counts = ''.join(f'{count:>8}' for count in values[:5])
        figures = counts + ''.join(f'{number(value):>7}' for value in values[5:])
        lines.append(f'{title:12}{figures}' if len(title) <= 12 else f'{title}\n{"":12}{figures}')
    lines += wrap(describe_objects(scores), 80)
    lines.append(f'{"mean over the images":34}  plain  after border thinning')
    lines += [f'{title:34}{number(a):>7}{number(b):>7}' for title, a, b in partition_rows(scores)]
    return lines
