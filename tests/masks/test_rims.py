"""Values that are thin rims, as in data sets whose outlines do not count."""

import numpy as np
import pytest
from scenes import objects, rim

from utils.masks.rims import rim_values


def test_a_rim_between_classes_is_found_at_any_size_and_width():
    classes = np.array([0, 1, 2, 1, 2])[objects(3, 4)]
    for times, width in ((1, 1), (1, 4), (4, 4), (4, 5)):
        large = np.kron(classes, np.ones((times, times), int))
        assert rim_values(rim(large, 255, width)) == [255], (times, width)


@pytest.mark.parametrize('what', ['lines', 'ring', 'blobs', 'two values', 'one value'])
def test_thin_and_small_classes_are_no_rims(what):
    mask = np.zeros((64, 96), np.uint8)
    if what == 'lines':  # vessels and fibres
        mask[::16], mask[:, ::24] = 1, 2
    elif what == 'ring':  # muscle around a ventricle, and another ventricle beside it
        rows, columns = np.mgrid[:64, :96]
        distance = np.hypot(rows - 32, columns - 40)
        mask[distance < 26], mask[distance < 14] = 1, 2
        mask[np.hypot(rows - 32, columns - 80) < 14] = 3
    elif what == 'blobs':
        mask[10:20, 10:20], mask[30:50, 40:60] = 1, 2
    elif what == 'two values':
        mask[10:20] = 1
    assert rim_values(mask) == []
