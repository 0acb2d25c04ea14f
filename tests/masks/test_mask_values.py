"""Masks of every kind become class indices and come back as they were."""

import numpy as np
import pytest
from drawing import disc
from PIL import Image

from utils.masks.encoding import MaskEncoding, to_image, to_indices
from utils.masks.metadata import merge_counts
from utils.masks.values import count_values, mask_array, value_from_json, value_to_json
from utils.runtime.errors import UserError

COLOURS = MaskEncoding([(0, 0, 0), (255, 0, 0), (255, 255, 0)])


def reopened(picture, path, **options):
    picture.save(path, **options)
    return mask_array(Image.open(path), path)


@pytest.mark.parametrize(
    'values',
    [[0, 1], [0, 255], [0, 85, 170, 255], [1, 2, 3, 4], [7, 9], [0, 40000], COLOURS.values],
)
def test_writing_and_reading_a_mask_gives_its_values_and_indices_back(tmp_path, values):
    masks = MaskEncoding(values)
    indices = np.arange(12).reshape(3, 4) % len(values)
    array = reopened(to_image(indices.astype(np.uint8), masks), tmp_path / 'm.png')
    assert np.array_equal(array, np.array(values)[indices])
    assert np.array_equal(to_indices(array, masks, tmp_path), indices)


def test_a_carvana_mask_is_white_on_black():
    picture = to_image(np.array([[0, 1]], dtype=np.uint8), MaskEncoding([0, 1]))
    assert np.asarray(picture.convert('L')).tolist() == [[0, 255]]


def test_small_class_numbers_get_colours_one_can_see_and_stay_numbers():
    masks = MaskEncoding([0, 1, 2, 3])
    picture = to_image(np.array([[0, 1, 2, 3]], dtype=np.uint8), masks)
    assert picture.mode == 'P'
    assert np.asarray(picture).tolist() == [[0, 1, 2, 3]]
    colours = np.asarray(picture.convert('RGB'))[0]
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(c) for c in colours}) == 4
    assert colours[1:].max(axis=1).min() > 100


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'RGB', 'RGBA', 'I'])
def test_black_and_white_masks_of_any_mode_have_two_grey_values(tmp_path, mode):
    picture = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert(mode)
    assert mask_array(picture, tmp_path).tolist() == [[0, 1 if mode == '1' else 255]]


def test_palette_masks_give_their_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 5]], dtype=np.uint8))
    picture.putpalette([200] * 18)
    assert reopened(picture, tmp_path / 'p.png').tolist() == [[0, 1, 5]]
    assert reopened(picture, tmp_path / 'p.gif', optimize=False).tolist() == [[0, 1, 5]]


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


def test_a_grey_mask_among_colours_has_colours_with_equal_bands():
    assert to_indices(np.zeros((1, 2), np.uint8), COLOURS, 'm').tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ('mask', 'masks', 'message'),
    [
        ([[0, 7]], MaskEncoding([0, 255]), r'm\.png: .* 7 .*\[0, 255\]'),
        ([[[1, 2, 3]]], COLOURS, r'm\.png: .*\(1, 2, 3\)'),
        ([[[1, 2, 3]]], MaskEncoding([0, 1]), r'm\.png: .*colour.*grey.*\[0, 1\]'),
    ],
)
def test_a_value_without_a_class_is_named_with_its_file(mask, masks, message):
    with pytest.raises(UserError, match=message):
        to_indices(np.array(mask, np.uint8), masks, 'm.png')


def test_indices_of_a_whole_mask_equal_the_drawing():
    _, mask = disc(0, values=(0, 100, 200))
    found = to_indices(mask.astype(np.uint8), MaskEncoding([0, 100, 200]), 'm')
    assert np.array_equal(found, mask // 100)


def test_colours_are_tuples_inside_and_lists_in_checkpoints():
    colours = [[0, 0, 0], [0, 0, 255]]
    masks = MaskEncoding(colours, ignore=[[9, 9, 9]], names=['ground', 'sky'])
    assert masks.values == [(0, 0, 0), (0, 0, 255)]
    assert masks.ignore == [(9, 9, 9)]
    entries = masks.to_checkpoint()
    assert entries['mask_values'] == colours
    assert entries['mask_encoding']['ignore'] == [[9, 9, 9]]
    assert MaskEncoding(entries['mask_values'], **entries['mask_encoding']) == masks
    for value in (7, [1, 2, 3]):
        assert value_to_json(value_from_json(value)) == value
