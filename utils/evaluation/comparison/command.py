"""evaluate.py --compare: score several networks on the same images and report the differences."""

import string
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from utils.inference.predictor import Predictor
from utils.runtime.distributed import is_main_process
from utils.runtime.errors import UserError

from ..scoring import Conditions, Counts, count_dataset
from ..summary import csv_rows, summarize_evaluation
from .cost import mean_multiply_adds, parameter_count, prediction_times
from .summary import Pairing, compare_counts

if TYPE_CHECKING:  # keeps the chain of imports short
    from utils.data.dataset import SegmentationDataset

LABELS = string.ascii_uppercase

# Options of evaluate.py that score one network, and why they say nothing here.
ALONE = {
    'at_scale': 'networks may have different scales, and are compared at the size of the masks',
    'threshold_sweep': 'networks are compared at one threshold, see --mask-threshold',
    'instances': 'networks are compared by Dice',
    'surface_distances': 'networks are compared by Dice',
}


class Candidate(NamedTuple):
    """A network to compare, and the images at its scale."""

    predictor: Predictor
    dataset: 'SegmentationDataset'
    conditions: Conditions


def check_options(args: Namespace) -> None:
    """Raise UserError for options of evaluate.py that do not go with --compare."""
    for name, why in ALONE.items():
        if getattr(args, name) not in (None, False):
            option = f'--{name.replace("_", "-")}'
            raise UserError(f'{option} does not go with --compare: {why}. Leave it out.')
    if not 2 <= len(args.compare) <= len(LABELS):
        raise UserError(
            f'--compare takes from 2 to {len(LABELS)} model files, found {len(args.compare)}. '
            'Score one with --model (-m).'
        )


def check_same_classes(candidates: Sequence[Candidate]) -> None:
    """Raise UserError if the networks do not see the same classes in the masks."""
    first = candidates[0]
    expected = _classes_of(first)
    for candidate in candidates[1:]:
        if (found := _classes_of(candidate)) != expected:
            raise UserError(
                f'{candidate.conditions.model} has other classes than {first.conditions.model}: '
                f'{found}, and {expected}. Their Dice cannot be compared. Score each one with '
                '--model (-m).'
            )


def _classes_of(candidate: Candidate) -> str:
    """Return what decides which class a pixel of the masks has, and whether it counts, as text."""
    masks, classes = candidate.dataset.masks, max(2, candidate.predictor.model.n_classes)
    text = f'{classes} classes of the mask values {masks.values}, background {masks.background}'
    others = {'ignored': masks.ignore, 'threshold': masks.threshold, 'divisor': masks.divisor}
    return text + ''.join(f', {name} {value}' for name, value in others.items() if value)


def compare(candidates: Sequence[Candidate], workers: int | None) -> tuple[dict, list[dict]] | None:
    """Score the networks in turn; return all figures and the rows of a CSV file.

    workers: see count_dataset. Each rank predicts its shard; None on all ranks but the first.
    `models` has the scores of summarize_evaluation with `label` and cost, `comparisons` each
    network against the first one, see compare_counts.
    """
    counts: list[Counts] = []
    for label, candidate in zip(LABELS, candidates, strict=False):
        predictor, dataset, conditions = candidate
        if is_main_process():
            print(f'{label}  {conditions.model}, scale {predictor.scale:g}')
        counts.append(count_dataset(predictor, dataset, conditions, workers))
    if not is_main_process():
        return None
    masks = candidates[0].dataset.masks
    times = prediction_times([(c.predictor, c.dataset) for c in candidates])
    models, rows = [], []
    for label, candidate, found, time in zip(LABELS, candidates, counts, times, strict=False):
        model = candidate.predictor.model
        scores = {'label': label} | summarize_evaluation(found, candidate.conditions, masks)
        scores['parameters'] = parameter_count(model)
        scores['multiply_adds'] = mean_multiply_adds(model, candidate.dataset.sizes)
        models.append(scores | {'milliseconds': time})
        name = {'model': candidate.conditions.model}
        rows += [name | row for row in csv_rows(found, masks.names)]
    size = len(counts[0].ids)
    comparisons = [
        compare_counts(counts[0], found, Pairing(LABELS[0], label, size), masks)
        for label, found in zip(LABELS[1:], counts[1:], strict=False)
    ]
    return {'images': size, 'models': models, 'comparisons': comparisons}, rows
