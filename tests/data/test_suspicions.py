"""What the page of --check suspects, told from the measures of pairs."""

import numpy as np
import pytest
from drawing import disc
from PIL import Image

from utils.data.report.outlines import fit, gradient, outline
from utils.data.report.suspicions import LOW, flat_images, inverted, twins, wrong_pairs
from utils.data.report.thumbnails import Measures

SIZE = (96, 64)


def measures(order, size=SIZE):
    """Measures of discs whose masks are those of `order`, and their gradients."""
    drawn = [disc(k, size) for k in range(len(order))]
    edges = [gradient(Image.fromarray(image)) for image, _ in drawn]
    points = [outline(mask) for _, mask in drawn]
    signature = np.zeros((16, 16), np.uint8)
    found = [
        Measures(signature, 50.0, edges[k].shape, points[j], fit(edges[k], points[j]), 0.0)
        for k, j in enumerate(order)
    ]
    return found, lambda k: edges[k]


def test_a_right_outline_fits_and_another_does_not():
    found, edges_of = measures(range(12))
    own = [m.fit for m in found]
    others = [fit(edges_of(k), found[(k + 1) % 12].outline) for k in range(12)]
    assert min(own) > 2
    assert np.median(others) < 1.3
    busy = np.zeros((64, 96), np.float32)
    busy[:, 40:] = 1  # edges everywhere, and no more of them along the outline
    square = np.zeros((64, 96), int)
    square[20:40, 60:80] = 1
    assert fit(busy, outline(square)) == pytest.approx(1)
    empty = outline(np.zeros((9, 9), int))
    assert empty.shape == (0, 2)
    assert np.isnan(fit(edges_of(0), empty))


def test_a_set_whose_masks_are_all_one_place_further_is_named_as_a_whole():
    names = [f'disc{k}' for k in range(16)]
    shifted, edges_of = measures([*range(1, 16), 0])
    (found,) = wrong_pairs(shifted, names, edges_of)
    assert found.kind == 'masks of other images?'
    assert not found.remarks
    right, edges_of = measures(range(16))
    assert wrong_pairs(right, names, edges_of) == []
    assert wrong_pairs(shifted[:7], names, edges_of) == []  # too few to tell


def test_a_mask_of_an_unknown_image_is_found_alone():
    order = [*range(16)]
    order[6] = 2
    found, edges_of = measures(order)
    (suspicion,) = wrong_pairs(found, [f'disc{k}' for k in range(16)], edges_of)
    assert [*suspicion.remarks] == [6]
    assert 'the mask of' not in suspicion.remarks[6]


def test_exchanged_masks_of_faint_images_are_found():
    order = [*range(16)]
    order[4], order[9] = 9, 4
    found, edges_of = measures(order)
    edges = [edges_of(k) for k in range(16)]
    for k in (4, 9):
        image, _ = disc(k, SIZE)
        faint = 90 + 0.16 * image + np.random.default_rng(k).normal(0, 12, image.shape)
        edges[k] = gradient(Image.fromarray(faint.clip(0, 255).astype(np.uint8)))
        found[k] = found[k]._replace(fit=fit(edges[k], found[k].outline))
    (suspicion,) = wrong_pairs(found, [f'disc{k}' for k in range(16)], lambda k: edges[k])
    assert [*suspicion.remarks] == [4, 9] or [*suspicion.remarks] == [9, 4]
    assert 'the mask of disc9 fits better' in suspicion.remarks[4]
    usual = [fit(edges[k], found[k].outline) for k in range(16) if k not in (4, 9)]
    assert fit(edges[4], found[9].outline) < 1 + LOW * (np.median(usual) - 1)  # as a faint image's


def test_inverted_masks_are_told_by_share_and_border():
    shares = np.array([0.1, 0.12, 0.13, 0.11, 0.12, 0.14, 0.1, 0.12, 0.13, 0.11, 0.88])
    border = np.array([0.0] * 10 + [1.0])
    (found,) = inverted(shares, border)
    assert found.remarks == {10: 'foreground 88 %, median of the others 12 %'}
    border[10] = 0.4  # a large object
    assert inverted(shares, border) == []
    assert inverted(np.linspace(0.05, 0.95, 11), np.ones(11)) == []  # all shares occur


def test_flat_images_and_twins_are_told_by_grey_levels():
    rng = np.random.default_rng(0)
    empty = np.zeros((0, 2), np.int16)

    def seen(signature, contrast=40.0):
        return Measures(signature, contrast, (9, 9), empty, float('nan'), 0.0)

    signatures = [rng.integers(0, 256, (16, 16)).astype(np.uint8) for _ in range(12)]
    found = [seen(s, 0.5 if k == 3 else 40.0) for k, s in enumerate(signatures)]
    (flat,) = flat_images(found)
    assert [*flat.remarks] == [3]
    found[11] = seen(np.clip(signatures[4].astype(int) + 1, 0, 255).astype(np.uint8))
    found[10] = None  # not measured
    found[9] = seen(signatures[3], 0.5)  # two flat images are no copies
    (alike,) = twins(found, [f'i{k}' for k in range(12)], range(9), [9, 10, 11])
    assert alike.beside == {11: 4}
    assert alike.remarks == {11: 'nearly equals i4'}
