"""Thinning: objects grow until lines part them; none is joined, split or lost."""

import numpy as np
import pytest

from utils.evaluation.thinning import thin_borders
from utils.masks.components import label_components


@pytest.mark.parametrize('seed', range(8))
def test_objects_grow_and_stay_apart(seed):
    generator = np.random.default_rng(seed)
    blocks = np.repeat(np.repeat(generator.random((16, 20)), 4, axis=0), 4, axis=1)
    blocks += 0.6 * generator.random(blocks.shape)
    labels = label_components((blocks > generator.uniform(0.5, 1.1)).astype(np.int64))
    grown = thin_borders(labels)
    assert np.array_equal(grown[labels > 0], labels[labels > 0])
    assert (grown > 0).sum() > (labels > 0).sum()
    again = label_components((grown > 0).astype(np.int64))
    assert again.max() == labels.max()
    assert len(np.unique(np.stack([grown, again])[:, grown > 0], axis=1).T) == labels.max()


@pytest.mark.parametrize('width', [1, 2, 5, 8])
def test_a_border_of_any_width_becomes_a_line_of_one_pixel_to_the_edge(width):
    labels = np.zeros((9, 6 + width), np.int32)
    labels[:, :3], labels[:, 3 + width :] = 1, 2
    grown = thin_borders(labels)
    for turned in (grown, thin_borders(labels.T).T):
        assert ((turned == 0).sum(axis=1) == 1).all()
        assert {*turned[:, 0]} == {1}
        assert {*turned[:, -1]} == {2}
    middle = np.argmax(grown == 0, axis=1)
    assert np.abs(middle - 3 - (width - 1) / 2).max() <= 0.5


def test_borders_without_objects_and_objects_without_borders_stay():
    assert (thin_borders(np.zeros((5, 6), np.int32)) == 0).all()
    assert (thin_borders(np.ones((5, 6), np.int32)) == 1).all()
    touching = np.array([[1, 1, 2, 2]])
    assert np.array_equal(thin_borders(touching), touching)


def test_a_line_that_ends_within_an_object_keeps_its_end_and_becomes_thin():
    labels = np.ones((11, 15), np.int32)
    labels[4:7, 5:] = 0
    grown = thin_borders(labels)
    assert (grown[:, 8:] == 0).sum(axis=0).tolist() == [1] * 7
    assert (grown[5] == 0).sum() >= 8


@pytest.mark.slow
def test_closed_rings_are_as_thin_as_scikit_images_skeleton():
    morphology = pytest.importorskip('skimage.morphology')
    y, x = np.mgrid[:60, :60]
    far = np.hypot(y - 30, x - 29.5)
    border = (far > 14) & (far < 21)
    grown = thin_borders(label_components((~border).astype(np.int64)))
    skeleton = morphology.skeletonize(border)
    assert abs((grown == 0).sum() - skeleton.sum()) <= 0.05 * skeleton.sum()
    assert np.abs(far[grown == 0] - 17.5).max() < 1.5
