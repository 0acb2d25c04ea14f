"""Outlines and their score by hand."""

import math

import pytest
import torch

from utils.evaluation.boundary import boundary_scores, count_boundary, outline
from utils.masks.encoding import IGNORE


def square(left, size=10, side=4, value=1):
    """(size, size) of 0 with a square of `value`, `side` pixels wide, from column `left`."""
    labels = torch.zeros(size, size, dtype=torch.uint8)
    labels[3 : 3 + side, left : left + side] = value
    return labels


def test_an_outline_is_the_ring_of_a_square_and_not_the_pictures_border():
    assert outline(square(3), 1).sum() == 12  # 4 x 4 without its middle of 2 x 2
    assert not outline(torch.ones(5, 5, dtype=torch.uint8), 1).any()
    half = torch.zeros(6, 6, dtype=torch.uint8)
    half[:, 3:] = 1
    assert outline(half, 1).nonzero().tolist() == [[row, 3] for row in range(6)]


def test_counts_and_score_of_a_square_moved_by_one():
    # Moved one column, a ring shares 2 x 3 pixels of its rows and, of its columns, the ends alone.
    truth, predicted = square(3), square(4)
    exact = count_boundary(predicted, truth, 2, tolerance=0)
    assert exact.dtype == torch.int64
    assert exact.tolist() == [[0, 0, 0, 0], [6, 12, 6, 12]]
    assert boundary_scores(exact)[1] == pytest.approx(0.5)
    assert count_boundary(predicted, truth, 2, tolerance=1)[1].tolist() == [12, 12, 12, 12]


def test_precision_and_recall_differ_where_too_much_is_predicted():
    truth, predicted = square(2), square(2)
    predicted[0, 8] = 1  # a stray pixel, far off
    counts = count_boundary(predicted, truth, 2, tolerance=1)
    assert counts[1].tolist() == [12, 13, 12, 12]
    precision, recall = 12 / 13, 1
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_scores(counts)[1] == pytest.approx(expected)


@pytest.mark.parametrize('distance', [1, 2, 3])
def test_the_tolerance_is_the_distance_at_which_outlines_meet(distance):
    a, b = (torch.zeros(9, 20, dtype=torch.uint8) for _ in range(2))
    a[:, 6:], b[:, 6 + distance :] = 1, 1
    assert count_boundary(a, b, 2, distance)[1].tolist() == [9, 9, 9, 9]
    assert count_boundary(a, b, 2, distance - 1)[1].tolist() == [0, 9, 0, 9]


def test_an_outline_that_one_alone_has_scores_0_and_one_that_neither_has_nothing():
    empty = torch.zeros(10, 10, dtype=torch.uint8)
    for predicted, truth in ((square(3), empty), (empty, square(3))):
        assert boundary_scores(count_boundary(predicted, truth, 2, 2))[1] == 0
    assert math.isnan(boundary_scores(count_boundary(empty, empty, 3, 2))[2])


def test_each_class_has_its_outline_and_ignored_pixels_make_none():
    truth = square(1) + square(5, value=2)  # side by side
    counts = count_boundary(truth, truth, 3, 0)
    assert counts[:, 3].tolist() == [0, 12, 12]
    ignored = truth.clone()
    ignored[:, 5:] = IGNORE  # the second square and all beside it
    counts = count_boundary(truth, ignored, 3, 0)
    assert counts[2].tolist() == [0, 0, 0, 0]
    assert counts[1].tolist() == [10, 10, 10, 10]  # the side at the ignored part is no outline
