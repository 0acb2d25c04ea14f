"""Scores of objects (cells) in one image, from the overlaps of true and predicted objects.

Objects are numbered from 1 in label images, (H, W) integers; 0 is no object. The sources:

- average precision over IoU thresholds: Caicedo et al., "Nucleus segmentation across imaging
  experiments: the 2018 Data Science Bowl", Nature Methods 16 (2019);
- panoptic quality: Kirillov et al., "Panoptic Segmentation", CVPR 2019;
- adapted Rand score: Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation
  algorithms for connectomics", Frontiers in Neuroanatomy 9 (2015), the ISBI 2012 challenge;
- variation of information: Meilă, "Comparing clusterings", Journal of Multivariate Analysis 98
  (2007).

Axis letters: N images, H and W pixels, K classes, T IoU thresholds.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.masks.components import label_components
from utils.masks.encoding import IGNORE

from .thinning import thin_borders

IOU_PERCENT = tuple(range(50, 100, 5))  # thresholds of the IoU; whole numbers compare exactly
COUNTS = ('true', 'predicted', 'merged', 'split')  # first columns of object counts, then the T
PARTITION = ('rand', 'rand_precision', 'rand_recall', 'vi_split', 'vi_merge')


class InstanceCounts(NamedTuple):
    """Counts of the objects in N images."""

    classes: tuple[int, ...]  # class indices of the objects
    objects: Tensor  # (N, K, 4 + T) int64, see count_objects
    iou: Tensor  # (N, K) float64, of the same
    partitions: Tensor  # (N, 2, 5) float64 of compare_partitions, without and with thinning
    numbered: Tensor  # (N,) bool, whether the mask numbers its objects


class Objects(NamedTuple):
    """A label image, and the class of each label: (L + 1,), of which the first is unused."""

    labels: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, indices: np.ndarray) -> 'Objects':
        """Take the class of each object from class indices (H, W)."""
        classes = np.zeros(int(labels.max()) + 1, dtype=np.int64)
        classes[labels.ravel()] = indices.ravel()
        return cls(labels, classes)


def pieces(indices: np.ndarray, classes: tuple[int, ...], unknown: np.ndarray) -> Objects:
    """Return the connected components of these classes in (H, W) class indices as objects.

    unknown: (H, W) bool, pixels that belong to no object.
    """
    table = np.zeros(256, dtype=np.int16)
    table[list(classes)] = np.array(classes) + 1
    values = np.where(unknown, 0, table[indices])
    return Objects.of(label_components(values), indices)


class Overlaps(NamedTuple):
    """The M pairs of a true and a predicted label that share pixels, 0 included; int64 (M,)."""

    truth: np.ndarray
    predicted: np.ndarray
    pixels: np.ndarray


def overlaps_of(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Count the pixels of each pair of labels, the contingency table without its zeros.

    Runs of equal pairs are sorted, not pixels: an image of millions has thousands.
    """
    width = int(predicted.max()) + 1
    codes = truth.ravel().astype(np.int64) * width + predicted.ravel()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    lengths = np.diff(starts, append=codes.size)
    found, which = np.unique(codes[starts], return_inverse=True)
    pixels = np.bincount(which, lengths).astype(np.int64)
    return Overlaps(found // width, found % width, pixels)


def count_objects(
    truth: Objects, predicted: Objects, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count objects of each class: (K, 4 + T) int64, and the sums of the matches' IoU, (K,).

    The columns are COUNTS and, for each of IOU_PERCENT, the matches: pairs of a true and a
    predicted object of one class whose IoU is over the threshold. Over one half, an object has at
    most one match. Merged: true objects that lie in one predicted object with other true ones;
    split: true objects in which several predicted ones lie. An object lies in another that covers
    at least half of its pixels.
    """
    pairs = overlaps_of(truth.labels, predicted.labels)
    true_sizes = np.bincount(pairs.truth, pairs.pixels, len(truth.classes)).astype(np.int64)
    sizes = np.bincount(pairs.predicted, pairs.pixels, len(predicted.classes)).astype(np.int64)
    both = (pairs.truth > 0) & (pairs.predicted > 0)
    both &= truth.classes[pairs.truth] == predicted.classes[pairs.predicted]
    pairs = Overlaps(*(part[both] for part in pairs))
    kinds = truth.classes[pairs.truth]
    union = true_sizes[pairs.truth] + sizes[pairs.predicted] - pairs.pixels

    inside = _containers(pairs.truth, pairs.predicted, pairs.pixels, true_sizes)
    merged = (inside > 0) & (np.bincount(inside, minlength=len(sizes))[inside] > 1)
    inside = _containers(pairs.predicted, pairs.truth, pairs.pixels, sizes)
    split = np.bincount(inside[inside > 0], minlength=len(true_sizes)) > 1
    columns = [
        _of_classes(truth.classes, true_sizes > 0, n_classes),
        _of_classes(predicted.classes, sizes > 0, n_classes),
        _of_classes(truth.classes, merged, n_classes),
        _of_classes(truth.classes, split, n_classes),
    ]
    for percent in IOU_PERCENT:
        matched = 100 * pairs.pixels > percent * union
        columns.append(np.bincount(kinds[matched], minlength=n_classes))
    matched = 2 * pairs.pixels > union
    iou = np.bincount(kinds[matched], (pairs.pixels / union)[matched], n_classes)
    return np.stack(columns, axis=1), iou


def _of_classes(classes: np.ndarray, chosen: np.ndarray, n_classes: int) -> np.ndarray:
    """Count the chosen labels of each class, without label 0."""
    return np.bincount(classes[1:][chosen[1:]], minlength=n_classes)


def _containers(
    inner: np.ndarray, outer: np.ndarray, pixels: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Return for each inner object of these sizes the outer one it lies in, 0 for none."""
    most = 2 * pixels >= sizes[inner]
    container = np.zeros(len(sizes), dtype=np.int64)
    container[inner[most][::-1]] = outer[most][::-1]  # of two equal halves, the first
    return container


def compare_partitions(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the PARTITION scores of two label images, (5,) float64; NaN where not defined.

    Only pixels of true objects count. Among them, all pixels of no predicted object are one object
    more, as in scikit-image. Of the pairs of pixels that are in one predicted object,
    rand_precision is the fraction that is in one true object, rand_recall the opposite, and rand
    their F-score: 1 - skimage.metrics.adapted_rand_error. vi_split and vi_merge are the
    conditional entropies of the prediction given the truth, and of the truth given the prediction,
    in bits: skimage.metrics.variation_of_information(..., ignore_labels=[0]).
    """
    pairs = overlaps_of(truth, predicted)
    inside = pairs.truth > 0
    pairs = Overlaps(*(part[inside] for part in pairs))
    total = int(pairs.pixels.sum())
    if total == 0:
        return np.full(len(PARTITION), np.nan)
    joint = pairs.pixels
    rows, columns = np.bincount(pairs.truth, joint), np.bincount(pairs.predicted, joint)
    # Ordered pairs of two pixels, as float64: their squares may pass 2**63.
    shared, true, found = (
        float(np.square(n, dtype=np.float64).sum() - total) for n in (joint, rows, columns)
    )
    with np.errstate(invalid='ignore', divide='ignore'):
        ratios = np.divide([2 * shared, shared, shared], [true + found, found, true])
    vi_split = -(joint * np.log2(joint / rows[pairs.truth])).sum() / total
    vi_merge = -(joint * np.log2(joint / columns[pairs.predicted])).sum() / total
    return np.array([*ratios, vi_split + 0.0, vi_merge + 0.0])  # + 0.0 turns -0 into 0


def count_instances(
    predicted: np.ndarray, truth: np.ndarray, labels: np.ndarray, classes: tuple[int, ...], k: int
) -> dict[str, Tensor]:
    """Count the objects of an image; return what InstanceCounts has of one, but `numbered`.

    predicted, truth: (H, W) uint8 class indices below `k`; where truth is IGNORE, nothing counts.
    labels: the true objects, (H, W), see TrueObjects. Predicted objects are the connected
    components of `classes`.
    """
    found = pieces(predicted, classes, unknown=truth == IGNORE)
    objects, iou = count_objects(Objects.of(labels, truth), found, k)
    return {
        'objects': torch.from_numpy(objects),
        'iou': torch.from_numpy(iou),
        'partitions': torch.from_numpy(compare_with_thinned(labels, found.labels)),
    }


def compare_with_thinned(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return compare_partitions without and with thinned borders of `predicted`, (2, 5)."""
    thinned = thin_borders(predicted)
    return np.stack([compare_partitions(truth, each) for each in (predicted, thinned)])


def sweep_rand(
    masks: Iterable[np.ndarray], truth: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]
) -> Tensor:
    """Return the adapted Rand F of T predicted masks, plain and thinned, (T, 2) float64.

    masks: (H, W) uint8 class indices each; the others: see count_instances.
    """
    unknown = truth == IGNORE
    found = (pieces(mask, classes, unknown).labels for mask in masks)
    rand = [compare_with_thinned(labels, each)[:, PARTITION.index('rand')] for each in found]
    return torch.from_numpy(np.stack(rand))


def count_merged(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Return how many true cells are found, how many of these are merged, and how many there are.

    predicted, truth: (H, W) integers, 0 the background; cells are connected components of a value.
    A cell is found where it lies in a predicted component, of whatever value; merged as in
    `count_objects`.
    """
    cells, found = label_components(truth), label_components(predicted)
    pairs = overlaps_of(cells, found)
    sizes = np.bincount(pairs.truth, pairs.pixels)
    both = (pairs.truth > 0) & (pairs.predicted > 0)
    pairs = Overlaps(*(part[both] for part in pairs))
    inside = _containers(pairs.truth, pairs.predicted, pairs.pixels, sizes)
    held = np.bincount(inside[inside > 0])
    return int((inside > 0).sum()), int(held[held > 1].sum()), int(cells.max())
