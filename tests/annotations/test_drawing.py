"""Polygons, ellipses and runs to pixels: by hand, and against a rule pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest

from utils.annotations.drawing import draw, ellipse, fill_polygon, rectangle, runs_of
from utils.annotations.records import AnnotatedPicture, Outlines, Shape

SIZE = (10, 7)


def drawn(*areas, size=SIZE, values=(1, 2, 3)):
    """The mask of areas of different classes."""
    shapes = [Shape(f'c{k}', area) for k, area in enumerate(areas)]
    picture = AnnotatedPicture(Path('a.json'), ('a.png',), size, shapes)
    return draw(picture, size, {f'c{k}': value for k, value in enumerate(values)})


def polygon(*points):
    return Outlines((np.array(points, dtype=float),))


def filled(ring, size):
    result = np.zeros(size[::-1], bool)
    if found := fill_polygon(np.array(ring, dtype=float), size):
        window, inside = found
        result[window] = inside
    return result


def by_pixel(ring, size):
    """The even-odd rule, for each pixel's centre and each edge."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    crossings = np.zeros(size[::-1], int)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y0 != y1:
            crossings += ((y0 > y) != (y1 > y)) & (x < x0 + (x1 - x0) * (y - y0) / (y1 - y0))
    return crossings % 2 == 1


def test_a_polygon_of_whole_numbers_covers_the_pixels_between_them():
    mask, _, _ = drawn(polygon((2, 1), (6, 1), (6, 4), (2, 4)))
    expected = np.zeros((7, 10), np.uint8)
    expected[1:4, 2:6] = 1
    assert mask.dtype == np.uint8
    assert (mask == expected).all()


def test_pixels_belong_to_the_polygon_that_holds_their_centres():
    assert np.argwhere(filled([(1.4, 2.4), (3.6, 2.4), (3.6, 3.6), (1.4, 3.6)], SIZE)).tolist() == [
        [2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3],
    ]  # fmt: skip
    assert not filled([(1.6, 2.6), (2.4, 2.6), (2.4, 3.4), (1.6, 3.4)], SIZE).any()


def test_outlines_with_corners_anywhere_are_filled_as_pixel_by_pixel():
    rng = np.random.default_rng(3)
    for _ in range(60):
        ring = rng.uniform(-8, 30, (rng.integers(3, 12), 2))
        assert (filled(ring, (24, 20)) == by_pixel(ring, (24, 20))).all()


def test_polygons_side_by_side_share_no_pixel_and_leave_none_out():
    rng = np.random.default_rng(5)
    centre, angles = rng.uniform(6, 14, 2), np.sort(rng.uniform(0, 2 * np.pi, 9))
    rim = centre + 40 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    count = sum(
        filled([centre, rim[k], rim[(k + 1) % 9]][:: 1 - 2 * (k % 2)], (20, 20)).astype(int)
        for k in range(9)
    )
    assert (count == 1).all()


def test_a_hole_joined_by_a_line_there_and_back_is_a_hole():
    outer = [(1, 1), (9, 1), (9, 6), (1, 6)]
    inner = [(3, 2), (3, 4), (6, 4), (6, 2)]
    mask, _, _ = drawn(polygon(*outer, outer[0], *inner, inner[0], outer[0]))
    expected = np.zeros((7, 10), np.uint8)
    expected[1:6, 1:9] = 1
    expected[2:4, 3:6] = 0
    assert (mask == expected).all()


def test_an_outline_beyond_the_picture_is_cut():
    mask, _, _ = drawn(polygon((-50, -50), (4, -50), (4, 2), (-50, 2)))
    assert (mask[:2, :4] == 1).all()
    assert mask.sum() == 8
    assert not drawn(polygon((20, 20), (30, 20), (30, 30)))[0].any()


def test_later_shapes_cover_earlier_ones_and_pixels_of_two_classes_are_counted():
    areas = [rectangle((0, 0), (4, 4)), rectangle((2, 2), (6, 6)), rectangle((3, 3), (4, 4))]
    mask, claimed, empty = drawn(*areas)
    assert mask[3, 3] == 3
    assert mask[2, 2] == 2
    assert claimed == 4
    assert not empty
    assert drawn(*areas, values=(1, 1, 1))[1] == 0


def test_shapes_without_a_pixel_are_returned():
    thin = polygon((1, 1), (5, 1), (5, 1.2))
    assert [shape.label for shape in drawn(rectangle((0, 0), (2, 2)), thin)[2]] == ['c1']


def test_an_ellipse_covers_the_pixels_within_it():
    mask, _, _ = drawn(ellipse((5, 3.5), (4, 2)))
    y, x = np.mgrid[:7, :10] + 0.5
    assert (mask == (((x - 5) / 4) ** 2 + ((y - 3.5) / 2) ** 2 < 1)).all()
    upright, _, _ = drawn(ellipse((5, 3.5), (2, 4), 90))
    assert (mask == upright).all()


def test_a_rectangle_turns_clockwise_around_its_centre_or_a_corner():
    around_centre, _, _ = drawn(rectangle((2, 2), (6, 4), 90))
    assert (around_centre == drawn(rectangle((3, 1), (5, 5)))[0]).all()
    around_corner, _, _ = drawn(rectangle((6, 1), (9, 3), 90, pivot=(6, 1)))
    assert (around_corner == drawn(rectangle((4, 1), (6, 4)))[0]).all()


@pytest.mark.parametrize('corner', [(0, 0), (3, 2), (-2, -1), (8, 5), (40, 0), (0, -40)])
def test_runs_lie_where_they_say_and_are_cut_at_the_picture(corner):
    pixels = np.random.default_rng(1).random((4, 5)) < 0.5
    mask, _, _ = drawn(runs_of(pixels, corner))
    expected = np.zeros((7, 10), bool)
    for y, x in np.argwhere(pixels):
        column, row = x + corner[0], y + corner[1]
        if 0 <= row < 7 and 0 <= column < 10:
            expected[row, column] = True
    assert (mask == expected).all()
