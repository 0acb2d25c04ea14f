"""Connected components: by hand, and against a flood fill."""

import numpy as np
import pytest

from utils.masks.components import label_components, largest_components, shapes_of_values


@pytest.mark.parametrize(
    ('mask', 'kept'),
    [
        (['110', '000', '111'], ['000', '000', '111']),
        (['110', '001', '000'], ['110', '000', '000']),  # corners do not touch
        (['101', '101', '111'], ['101', '101', '111']),  # a bridge below
        (['1011', '1000', '1022', '0002'], ['1000', '1000', '1022', '0002']),
        (['12', '21'], ['12', '00']),  # of equal ones the topmost
        (['000'], ['000']),
        (['011', '100'], ['011', '000']),  # a row's end and the next one's start are far apart
    ],
)
def test_only_the_largest_component_of_each_class_stays(mask, kept):
    mask, kept = (
        np.array([list(map(int, row)) for row in rows], np.uint8) for rows in (mask, kept)
    )
    assert np.array_equal(largest_components(mask), kept)
    assert largest_components(mask).dtype == np.uint8


def flood(mask):
    """Components of foreground, (class, pixels), by walking from pixel to pixel."""
    left = {tuple(place) for place in np.argwhere(mask > 0).tolist()}
    pieces = []
    while left:
        piece, edge = set(), [min(left)]
        while edge:
            y, x = edge.pop()
            if (y, x) in left:
                left.remove((y, x))
                piece.add((y, x))
                near = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
                edge += [p for p in near if p in left and mask[p] == mask[y, x]]
        pieces.append((mask[y, x], piece))
    return pieces


@pytest.mark.parametrize('density', [0.3, 0.6, 0.8])
def test_components_of_random_masks_agree_with_a_flood_fill(density):
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = ((rng.random((25, 31)) < density) * rng.integers(1, 3, (25, 31))).astype(np.uint8)
        pieces = flood(mask)
        expected, labels = np.zeros_like(mask), np.zeros(mask.shape, int)
        for k in (1, 2):
            best = max((piece for label, piece in pieces if label == k), key=len)
            expected[tuple(zip(*best, strict=True))] = k
        for number, (_, piece) in enumerate(pieces, 1):
            labels[tuple(zip(*piece, strict=True))] = number
        assert np.array_equal(label_components(mask), labels)
        assert np.array_equal(largest_components(mask), expected)


def test_components_are_numbered_by_their_first_pixels():
    values = np.array([[0, 2, 2], [1, 0, 2], [1, 1, 0], [0, 0, 3]])
    assert label_components(values).tolist() == [[0, 1, 1], [2, 0, 1], [2, 2, 0], [0, 0, 3]]
    assert not label_components(np.zeros((2, 3), dtype=int)).any()


def test_values_are_described_by_their_largest_piece_and_centre():
    mask = np.array([[5, 5, 0, 7], [5, 5, 0, 7], [0, 0, 0, 0], [7, 0, 0, 0]], np.uint16)
    values, largest, centres = shapes_of_values(mask)
    assert values.tolist() == [5, 7]
    assert largest.tolist() == [1, 2 / 3]
    assert centres.tolist() == [[0.5, 0.5], [4 / 3, 2]]
    assert len(shapes_of_values(np.zeros((3, 3), int))[0]) == 0
