"""All figures of an evaluation: as plain values, as rows of a CSV file, and as text.

Axis letters: N images, K classes.
"""

from dataclasses import dataclass

from utils.masks.encoding import MaskEncoding

from .boundary import boundary_scores
from .dice import dice_reference
from .intervals import bootstrap_interval
from .metrics import format_table, image_dice, image_rows, number, summarize
from .scoring import Counts, best_threshold, sweep_table


@dataclass(frozen=True)
class Conditions:
    """What a figure holds for: the model file, scale, batch size, threshold and tolerance."""

    model: str
    scale: float
    at_scale: bool
    batch_size: int
    threshold: float
    tolerance: int

    def describe(self, images: int) -> str:
        """The first line of a report."""
        return f'{self.model}: {images} images at scale {self.scale:g}, scored at {self.size}'

    @property
    def size(self) -> str:
        """The size that is scored at, in words."""
        return 'that scale' if self.at_scale else "the masks' own size"

    def settings(self) -> dict[str, str]:
        """All but the model by name, as text."""
        return {
            'scale': f'{self.scale:g}',
            'scored at': self.size,
            'threshold': f'{self.threshold:g}',
            'boundary tolerance': f'{self.tolerance} pixels',
        }


def summarize_all(
    counts: Counts, conditions: Conditions, masks: MaskEncoding, ids: list[str]
) -> dict:
    """Plain values of all figures, None where there is nothing to score.

    ids: of the N images, in the order of the counts. Beside metrics.summarize's: `dice_interval`,
    of the mean over images; `boundary_f_per_image`, here and in each of `classes`; `confusion`,
    pixels by true class (rows) and predicted class; `ceiling`, the Dice that the scale allows;
    `threshold_sweep` and `best_threshold`; `ranking`, ids and Dice from the worst image on.
    """
    scores = {'model': conditions.model, 'scale': conditions.scale}
    scores |= {'at_scale': conditions.at_scale, 'threshold': conditions.threshold}
    scores |= summarize(counts.pixels, masks.values, names=masks.names)
    scores['dice_reference'] = dice_reference(counts.scaled, conditions.batch_size)
    each = image_dice(counts.pixels)
    # In the order of the names, not of the batches, so that the drawn images are always the same.
    by_name = sorted(range(len(ids)), key=lambda n: ids[n])
    scores['dice_interval'] = bootstrap_interval(each[by_name].numpy())
    outlines = boundary_scores(counts.boundary)  # (N, K)
    scores['boundary_tolerance'] = conditions.tolerance
    scores['boundary_f_per_image'] = _plain(outlines[:, 1:].nanmean(dim=1).nanmean())
    for row, values in zip(scores['classes'], outlines.T, strict=True):
        row['boundary_f_per_image'] = _plain(values.nanmean())
    scores['confusion'] = counts.confusion.tolist()
    if counts.ceiling is not None:
        limit = summarize(counts.ceiling, masks.values)
        scores['ceiling'] = {name: limit[name] for name in ('dice_dataset', 'dice_per_image')}
    if counts.sweep is not None:
        scores['threshold_sweep'] = sweep_table(counts.sweep)
        scores['best_threshold'] = best_threshold(scores['threshold_sweep'])
    ranked = [n for n in by_name if each[n] == each[n]]
    ranked.sort(key=lambda n: each[n].item())
    scores['ranking'] = [{'image': ids[n], 'dice': each[n].item()} for n in ranked]
    return scores


def csv_rows(counts: Counts, ids: list[str], names: list[str] | None) -> list[dict]:
    """metrics.image_rows with each row's boundary F-score."""
    rows = image_rows(counts.pixels, ids, names)
    outlines = boundary_scores(counts.boundary).flatten()
    return [row | {'boundary_f': _plain(f)} for row, f in zip(rows, outlines, strict=True)]


def format_scores(scores: dict, worst: int) -> str:
    """The figures as text of at most 80 columns, with so many of the worst images."""
    lines = [format_table(scores)]
    if scores['dice_interval']:
        low, high = scores['dice_interval']
        lines.append(
            f'Dice per image {number(scores["dice_per_image"])}, 95 % interval {low:.4f} to '
            f'{high:.4f} (bootstrap)'
        )
    lines.append(
        f'boundary F per image {number(scores["boundary_f_per_image"])}, within '
        f'{scores["boundary_tolerance"]} pixels'
    )
    if 'ceiling' in scores:
        limit = scores['ceiling']
        lines.append(
            f'ceiling of scale {scores["scale"]:g}: Dice {number(limit["dice_dataset"])} all '
            f'pixels together, {number(limit["dice_per_image"])} per image'
        )
    if 'threshold_sweep' in scores:
        lines += ['', 'threshold  Dice of all pixels  mean over the images']
        for row in scores['threshold_sweep']:
            mark = '  best' if row['threshold'] == scores['best_threshold'] else ''
            lines.append(
                f'{row["threshold"]:9.2f}{number(row["dice_dataset"]):>20}'
                f'{number(row["dice_per_image"]):>22}{mark}'
            )
        if scores['best_threshold']:
            lines.append(f'best with predict.py --mask-threshold {scores["best_threshold"]:g}')
    shown = scores['ranking'][:worst]
    if shown:
        lines += ['', 'worst images']
        lines += [f'{number(row["dice"]):>8}  {row["image"]}' for row in shown]
    return '\n'.join(lines)


def _plain(value: object) -> float | None:
    """A scalar tensor as a number, NaN as None."""
    value = float(value)
    return None if value != value else value
