"""Distances between surfaces: by hand, and by all pairs of pixels."""

import numpy as np
import pytest

from utils.evaluation.surfaces import surface_distances
from utils.masks.encoding import IGNORE


def square(top, left, side, shape=(12, 14)):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def surface(own):
    """Return the surface pixels of (H, W) bool one by one, (S, 2)."""
    height, width = own.shape
    return np.array([
        (y, x)
        for y, x in np.argwhere(own)
        if any(
            not (0 <= a < height and 0 <= b < width) or not own[a, b]
            for a, b in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        )
    ])  # fmt: skip


def test_a_moved_column_has_the_distance_of_its_move():
    column = np.zeros((6, 9), np.uint8)
    column[:, 2] = 1
    moved = np.roll(column, 3, axis=1)
    assert surface_distances(moved, column, 2)[1].tolist() == [3, 3]
    assert surface_distances(moved, column, 2, (5.0, 0.5))[1].tolist() == [1.5, 1.5]
    assert surface_distances(moved.T, column.T, 2, (0.5, 5.0))[1].tolist() == [1.5, 1.5]
    assert surface_distances(column, column, 2)[1].tolist() == [0, 0]


def test_an_area_within_another_by_hand():
    # A pixel in the middle of a ring of 8: 4 at distance 1, 4 at the root of 2.
    distances = [1.0] * 4 + [2**0.5] * 4
    far, mean = surface_distances(square(5, 5, 1), square(4, 4, 3), 2)[1]
    assert far == pytest.approx(np.percentile(distances, 95))
    assert mean == pytest.approx((sum(distances) + 1) / 9)  # and 1 back


def test_a_class_in_one_mask_only_is_infinitely_far_and_in_none_not_scored():
    empty = np.zeros((12, 14), np.uint8)
    assert surface_distances(empty, square(1, 1, 3), 2)[1].tolist() == [np.inf, np.inf]
    assert surface_distances(square(1, 1, 3), empty, 2)[1].tolist() == [np.inf, np.inf]
    assert np.isnan(surface_distances(empty, empty, 2)).all()
    assert np.isnan(surface_distances(empty, square(1, 1, 3), 2)[0]).all()  # the background
    assert not np.isnan(surface_distances(empty, square(1, 1, 3), 2, background=None)[0]).any()


def test_ignored_pixels_have_no_surface():
    truth, predicted = square(3, 3, 4), square(3, 3, 4)
    truth[3:7, 7:] = IGNORE
    predicted[3:7, 7:] = 1  # beyond the truth's right side nothing is known
    assert surface_distances(predicted, truth, 2)[1].tolist() == [0, 0]


def test_the_edge_of_the_image_is_surface():
    whole, half = square(0, 0, 14, (6, 8)), square(0, 0, 4, (6, 8))
    assert surface_distances(whole, whole, 2)[1].tolist() == [0, 0]
    sides = [
        np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1)
        for a, b in [
            (surface(whole == 1), surface(half == 1)),
            (surface(half == 1), surface(whole == 1)),
        ]
    ]
    assert surface_distances(half, whole, 2)[1, 1] == pytest.approx(np.concatenate(sides).mean())


@pytest.mark.parametrize('seed', range(6))
def test_distances_equal_those_of_all_pairs(seed):
    generator = np.random.default_rng(seed)
    truth, predicted = (
        square(*generator.integers(0, 8, 2), generator.integers(2, 7)) for _ in range(2)
    )
    predicted[generator.random(predicted.shape) < 0.03] = 1
    spacing = tuple(generator.uniform(0.3, 2, 2))
    points = [surface(mask == 1) * spacing for mask in (truth, predicted)]
    table = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    sides = table.min(axis=1), table.min(axis=0)
    found = surface_distances(predicted, truth, 2, spacing)[1]
    assert found[0] == pytest.approx(max(np.percentile(side, 95) for side in sides))
    assert found[1] == pytest.approx(np.concatenate(sides).mean())
