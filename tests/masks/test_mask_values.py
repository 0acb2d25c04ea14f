"""Masks of every kind become class indices and come back as they were."""

import numpy as np
import pytest
from drawing import disc
from PIL import Image

from utils.masks.encoding import mask_array, to_image, to_indices
from utils.masks.values import count_values, merge_counts
from utils.runtime.errors import UserError


def reopened(picture, path, **options):
    picture.save(path, **options)
    return mask_array(Image.open(path), path)


@pytest.mark.parametrize(
    'values',
    [
        [0, 1],
        [0, 255],
        [0, 85, 170, 255],
        [1, 2, 3, 4],
        [7, 9],
        [0, 40000],
        [[0, 0, 0], [255, 0, 0], [255, 255, 0]],
    ],
)
def test_writing_and_reading_a_mask_gives_its_values_and_indices_back(tmp_path, values):
    indices = np.arange(12).reshape(3, 4) % len(values)
    array = reopened(to_image(indices.astype(np.uint8), values), tmp_path / 'm.png')
    assert np.array_equal(array, np.array(values)[indices])
    assert np.array_equal(to_indices(array, values, tmp_path), indices)


def test_a_carvana_mask_is_white_on_black():
    picture = to_image(np.array([[0, 1]], dtype=np.uint8), [0, 1])
    assert np.asarray(picture.convert('L')).tolist() == [[0, 255]]


def test_small_class_numbers_get_colours_one_can_see_and_stay_numbers():
    picture = to_image(np.array([[0, 1, 2, 3]], dtype=np.uint8), [0, 1, 2, 3])
    assert picture.mode == 'P'
    assert np.asarray(picture).tolist() == [[0, 1, 2, 3]]
    colours = np.asarray(picture.convert('RGB'))[0]
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(c) for c in colours}) == 4
    assert colours[1:].max(axis=1).min() > 100


@pytest.mark.parametrize(
    ('mode', 'expected'),
    [
        ('1', [[0, 1]]),
        ('L', [[0, 255]]),
        ('LA', [[0, 255]]),
        ('RGB', [[0, 255]]),  # a grey picture in three channels
        ('RGBA', [[0, 255]]),
        ('I', [[0, 255]]),
    ],
)
def test_black_and_white_masks_of_any_mode_have_two_grey_values(tmp_path, mode, expected):
    picture = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert(mode)
    assert mask_array(picture, tmp_path).tolist() == expected


def test_palette_masks_give_their_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 5]], dtype=np.uint8))
    picture.putpalette([200] * 18)
    assert reopened(picture, tmp_path / 'p.png').tolist() == [[0, 1, 5]]
    assert reopened(picture, tmp_path / 'p.gif', optimize=False).tolist() == [[0, 1, 5]]


def test_a_mode_that_holds_no_labels_is_named():
    with pytest.raises(UserError, match=r'm\.tif: mask of mode F; expected grey'):
        mask_array(Image.new('F', (2, 2)), 'm.tif')


@pytest.mark.parametrize('values', [(0, 255), (3, 60000), ((0, 0, 0), (0, 9, 0), (250, 0, 1))])
def test_pixels_of_each_value_are_counted(values):
    classes = np.array([[0, 0, 1], [len(values) - 1] * 3])
    dtype = np.uint16 if values[-1] == 60000 else np.uint8
    counts = count_values(np.array(values, dtype=dtype)[classes])
    expected = {values[k]: int((classes == k).sum()) for k in np.unique(classes)}
    assert counts == expected


def test_counts_of_grey_and_colour_masks_merge_as_colours():
    merged = merge_counts([{0: 3, 255: 1}, {(0, 0, 0): 2, (255, 0, 0): 2}])
    assert merged == {(0, 0, 0): 5, (255, 0, 0): 2, (255, 255, 255): 1}


def test_a_grey_mask_among_colours_and_an_unknown_value_are_told_apart():
    colours = [[0, 0, 0], [255, 0, 0]]
    assert to_indices(np.zeros((1, 2), np.uint8), colours, 'm').tolist() == [[0, 0]]
    with pytest.raises(UserError, match=r'm\.png: mask value 7 is none of \[0, 255\]'):
        to_indices(np.array([[0, 7]], np.uint8), [0, 255], 'm.png')
    with pytest.raises(UserError, match=r'm\.png: mask value \[1, 2, 3\] is none of'):
        to_indices(np.array([[[1, 2, 3]]], np.uint8), colours, 'm.png')
    with pytest.raises(UserError, match=r'a colour mask where grey values \[0, 1\]'):
        to_indices(np.array([[[1, 2, 3]]], np.uint8), [0, 1], 'm.png')


def test_indices_of_a_whole_mask_equal_the_drawing():
    _, mask = disc(0, values=(0, 100, 200))
    expected = mask // 100
    assert np.array_equal(to_indices(mask.astype(np.uint8), [0, 100, 200], 'm'), expected)
