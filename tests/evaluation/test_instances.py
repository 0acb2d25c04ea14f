"""Scores of objects: figures that a person can check, and those of scikit-image."""

import math

import numpy as np
import pytest
import torch

from utils.evaluation.instance_scores import object_ratios
from utils.evaluation.instances import (
    COUNTS,
    IOU_PERCENT,
    PARTITION,
    Objects,
    compare_partitions,
    count_instances,
    count_objects,
    overlaps_of,
    pieces,
)
from utils.masks.components import label_components
from utils.masks.encoding import IGNORE


def row(text):
    """Return class indices (1, W) of digits; '.' is 0, '?' ignored."""
    values = {'.': 0, '?': IGNORE}
    return np.array([[values[c] if c in values else int(c) for c in text]], np.uint8)


def count(truth, predicted, classes=(1,), k=2):
    """Return counts by name, sum of IoU, and ratios of each class of two rows."""
    truth, predicted = row(truth), row(predicted)
    labels = label_components(np.where(np.isin(truth, classes), truth, 0).astype(np.int64))
    found = count_instances(predicted, truth, labels, classes, k)
    ratios = object_ratios(found['objects'], found['iou'])
    columns = (*COUNTS, *IOU_PERCENT)
    rows = [dict(zip(columns, line, strict=True)) for line in found['objects'].tolist()]
    return rows, found['iou'].tolist(), ratios


def test_matches_qualities_and_average_precision_by_hand():
    # One cell found exactly, one by three of its four pixels, one missed; one piece too many.
    rows, iou, ratios = count('1111.1111.1111......', '1111.111........11..')
    assert rows[1] | {'true': 3, 'predicted': 3, 'merged': 0, 'split': 0} == rows[1]
    assert [rows[1][percent] for percent in IOU_PERCENT] == [2] * 5 + [1] * 5  # 0.75 is not over it
    assert iou == [0, 1.75]
    assert ratios['object_f1'][1] == pytest.approx(2 / 3)
    assert ratios['segmentation_quality'][1] == pytest.approx(1.75 / 2)
    assert ratios['panoptic_quality'][1] == pytest.approx(1.75 / 3)
    assert ratios['average_precision'][1] == pytest.approx((5 * 2 / 4 + 5 * 1 / 5) / 10)
    assert all(math.isnan(ratio[0]) for ratio in ratios.values())  # of the background


def test_half_of_the_union_is_no_match():
    rows, iou, _ = count('1111....', '11......')
    assert (rows[1][50], iou[1]) == (0, 0)
    rows, iou, _ = count('11111...', '111.....')
    assert (rows[1][50], rows[1][60], iou[1]) == (1, 0, 0.6)


def test_merged_and_split_objects_by_hand():
    rows, _, _ = count('1111.1111.1111', '111111111.11.1')
    assert rows[1] | {'merged': 2, 'split': 1} == rows[1]
    # A piece that holds less than half of the second cell has merged nothing.
    rows, _, _ = count('1111.1111', '111111...')
    assert rows[1] | {'merged': 0, 'split': 0} == rows[1]
    # Halves of two cells are one piece, which lies in the first of them only.
    rows, _, _ = count('11..11', '.1111.')
    assert rows[1] | {'merged': 2, 'split': 0} == rows[1]


def test_objects_of_other_classes_do_not_match():
    rows, iou, ratios = count('111.222', '222.222', (1, 2), 3)
    assert [r['true'] for r in rows] == [0, 1, 1]
    assert [r['predicted'] for r in rows] == [0, 0, 2]
    assert [r[50] for r in rows] == [0, 0, 1]
    assert iou == [0, 0, 1]
    assert ratios['panoptic_quality'][1:].tolist() == [0, pytest.approx(1 / 1.5)]
    rows, _, _ = count('1122', '1111', (1, 2), 3)
    assert [r['merged'] for r in rows] == [0, 0, 0]  # the second is of another class: not found


def test_touching_classes_are_objects_of_their_own_and_others_are_left_out():
    found = pieces(row('1122.33'), (1, 3), unknown=row('1122.33') == IGNORE)
    assert found.labels.tolist() == [[1, 1, 0, 0, 0, 2, 2]]
    assert found.classes.tolist()[1:] == [1, 3]


def test_ignored_pixels_belong_to_no_object():
    # The prediction in the ignored pixels neither counts nor joins the pieces beside them.
    rows, iou, _ = count('111?111..???', '1111111..111')
    assert rows[1] | {'true': 2, 'predicted': 2, 'merged': 0, 50: 2, 95: 2} == rows[1]
    assert iou == [0, 2]


def test_the_adapted_rand_score_and_the_variation_of_information_by_hand():
    # Ordered pairs of two pixels in one object: truth 2 + 2, prediction 6, both 2.
    found = dict(zip(PARTITION, compare_partitions(row('1122'), row('1112')), strict=True))
    assert found['rand'] == pytest.approx(2 * 2 / (4 + 6))
    assert found['rand_precision'] == pytest.approx(2 / 6)
    assert found['rand_recall'] == pytest.approx(2 / 4)
    assert found['vi_split'] == pytest.approx(0.5)  # half of the pixels: 1 bit, the others 0
    third = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert found['vi_merge'] == pytest.approx(3 / 4 * third)


def test_only_pixels_of_true_objects_count_and_those_not_found_are_one_object():
    found = compare_partitions(row('.1111.'), row('22..33'))
    assert found[0] == pytest.approx(2 * 2 / (12 + 2))
    assert compare_partitions(row('.1111.'), row('2.11.3'))[0] == pytest.approx(2 * 4 / (12 + 4))


def test_scores_of_equal_partitions_and_of_nothing():
    assert compare_partitions(row('11.22'), row('22.11')).tolist() == [1, 1, 1, 0, 0]
    assert np.isnan(compare_partitions(row('....'), row('1111'))).all()
    single = compare_partitions(row('1...'), row('1...'))  # one pixel makes no pair
    assert np.isnan(single[:3]).all()
    assert single[3:].tolist() == [0, 0]
    rows, _, ratios = count('....', '....')
    assert rows[1][50] == 0
    assert all(math.isnan(ratio[1]) for ratio in ratios.values())
    _, _, ratios = count('....', '.1..')
    assert ratios['panoptic_quality'][1] == ratios['average_precision'][1] == 0


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(5))
def test_random_partitions_score_as_in_scikit_image(seed):
    metrics = pytest.importorskip('skimage.metrics')
    generator = np.random.default_rng(seed)
    truth, predicted = generator.integers(0, [[[6]], [[4]]], (2, 20, 30))
    found = compare_partitions(truth, predicted)
    error, *sides = metrics.adapted_rand_error(truth, predicted)
    information = metrics.variation_of_information(truth, predicted, ignore_labels=[0])
    assert found[0] == pytest.approx(1 - error)
    assert sorted(found[1:3]) == pytest.approx(sorted(sides))  # named the other way around there
    assert found[3:] == pytest.approx(information)


@pytest.mark.parametrize('seed', range(3))
def test_counts_equal_those_of_a_comparison_of_all_pairs(seed):
    generator = np.random.default_rng(seed)
    noise = np.repeat(np.repeat(generator.random((2, 12, 16)), 3, axis=1), 3, axis=2)
    noise[1] = np.where(generator.random(noise[1].shape) < 0.9, noise[0], noise[1])
    truth, predicted = (label_components((part > 0.5).astype(np.int64)) for part in noise)
    pairs = overlaps_of(truth, predicted)
    assert pairs.pixels.sum() == truth.size
    ones = [Objects(part, np.ones(part.max() + 1, np.int64)) for part in (truth, predicted)]
    counts, iou = count_objects(*ones, 2)
    cells = [truth == k for k in range(1, truth.max() + 1)]
    found = [predicted == k for k in range(1, predicted.max() + 1)]
    table = np.array([[(a & b).sum() / (a | b).sum() for b in found] for a in cells])
    assert counts[1, :2].tolist() == list(table.shape)
    expected = [(table > percent / 100).sum() for percent in IOU_PERCENT]
    assert counts[1, 4:].tolist() == expected
    assert iou[1] == pytest.approx(table[table > 0.5].sum())
    inside = np.array([[2 * (a & b).sum() >= a.sum() for b in found] for a in cells])
    holds = np.array([[2 * (a & b).sum() >= b.sum() for b in found] for a in cells])
    if (inside.sum(axis=1) < 2).all():  # no two halves
        assert counts[1, 2] == inside[:, inside.sum(axis=0) > 1].any(axis=1).sum()
    if (holds.sum(axis=0) < 2).all():
        assert counts[1, 3] == (holds.sum(axis=1) > 1).sum()


def test_ratios_of_several_images_are_those_of_each():
    objects = torch.tensor([[2, 2, 0, 0, *[1] * 10], [0, 1, 0, 0, *[0] * 10]])
    ratios = object_ratios(objects, torch.tensor([0.9, 0.0], dtype=torch.float64))
    assert ratios['average_precision'].tolist() == pytest.approx([1 / 3, 0])
    assert ratios['object_f1'].tolist() == [0.5, 0]


def test_a_cell_of_two_equal_halves_lies_in_the_first():
    truth, predicted = row('1102222'), row('1111122')
    ones = np.ones(3, np.int64)
    counts, _ = count_objects(Objects(truth, ones), Objects(predicted, ones), 2)
    assert counts[1, 2] == 2
