"""Patterns: what the stars match is the id, further stars are instances, {class} names classes."""

import numpy as np
import pytest
from PIL import Image

from utils.data.dataset import SegmentationDataset
from utils.data.pairing.matching import match_files
from utils.masks.joined import JoinedMask
from utils.runtime.errors import UserError


def draw(path, value=0, size=(6, 4), mode='L', box=None):
    """Write a picture of one value, with a box of 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full(size[::-1], value, np.uint8)
    if box:
        array[box] = 255
    Image.fromarray(array).convert(mode).save(path)


def found(images, masks):
    return {pair.id: pair.mask for pair in match_files(images, masks).pairs}


def test_what_the_stars_match_is_the_id(folder):
    for n in (21, 22):
        draw(folder / f'images/{n}_training.png')
        draw(folder / f'manual/{n}_manual1.gif')
        draw(folder / f'manual/{n}_manual2.gif')
    masks = found(folder / 'images/*_training.png', folder / 'manual/*_manual1.gif')
    assert {name: mask.name for name, mask in masks.items()} == {
        '21': '21_manual1.gif',
        '22': '22_manual1.gif',
    }


def test_a_folder_and_a_pattern_pair_by_the_folders_stems(folder):
    draw(folder / 'images/a.png')
    draw(folder / 'masks/m_a.png')
    assert list(found(folder / 'images', folder / 'masks/m_*.png')) == ['a']
    assert list(found(folder / 'images/*', folder / 'masks/m_*')) == ['a']  # of any extension


def test_stars_in_folders_are_part_of_the_id(folder):
    for city in ('aachen', 'bochum'):
        draw(folder / f'left/{city}/1_left.png')
        draw(folder / f'fine/{city}/1_ids.png')
        draw(folder / f'fine/{city}/1_colour.png')
    masks = found(folder / 'left/*/*_left.png', folder / 'fine/*/*_ids.png')
    assert masks.keys() == {'aachen/1', 'bochum/1'}
    assert masks['bochum/1'] == folder / 'fine/bochum/1_ids.png'


def test_two_stars_match_any_folders(folder):
    for place in ('', 'x/', 'x/y/'):
        draw(folder / f'images/{place}a.png')
        draw(folder / f'masks/{place}a_m.png')
    masks = found(folder / 'images/**/*.png', folder / 'masks/**/*_m.png')
    assert masks.keys() == {'/a', 'x/a', 'x/y/a'}


def test_equal_stars_count_once_and_further_stars_are_instances(folder):
    for name in ('p', 'q'):
        draw(folder / f'{name}/images/{name}.png', 90)
        draw(folder / f'{name}/masks/one.png', box=np.s_[:2, :2])
        draw(folder / f'{name}/masks/two.png', box=np.s_[2:, 3:])
    dataset = SegmentationDataset(folder / '*/images/*.png', folder / '*/masks/*.png')
    assert dataset.ids == ['p', 'q']
    assert dataset.masks.values == [0, 255]
    expected = np.zeros((4, 6), np.uint8)
    expected[:2, :2] = expected[2:, 3:] = 1
    np.testing.assert_array_equal(dataset[0]['mask'], expected)
    assert any(
        'joined, as instances of one class' in note for note in dataset.scan.notes(dataset.masks, 1)
    )


def test_the_class_is_in_the_name(folder):
    for number in (1, 2):
        draw(folder / f'i/{number}.png', 90)
        draw(folder / f'm/task-{number}-tag-cat-0.png', box=np.s_[:2])
        draw(folder / f'm/task-{number}-tag-dog-0.png', box=np.s_[1:3])
    dataset = SegmentationDataset(folder / 'i/*.png', folder / 'm/task-*-tag-{class}-*.png')
    assert dataset.masks.values == [0, 1, 2]
    assert dataset.masks.names == ['background', 'cat', 'dog']
    # Row 1 is in both masks: the later class covers the earlier.
    assert dataset[1]['mask'][:, 0].tolist() == [1, 2, 2, 0]


def test_masks_of_one_image_must_have_one_size(folder):
    draw(folder / 'i/1.png', size=(6, 4))
    draw(folder / 'm/1_a.png', size=(6, 4), box=np.s_[:2])
    draw(folder / 'm/1_b.png', size=(5, 4), box=np.s_[:2])
    with pytest.raises(UserError, match=r'1_b\.png has 5 x 4 pixels and .*1_a\.png.* 6 x 4'):
        SegmentationDataset(folder / 'i/*.png', folder / 'm/*_*.png')


def test_smoothed_instances_are_foreground_from_half_on(folder):
    draw(folder / '0.png')
    values = np.array([[0, 100, 200, 255]], np.uint8)
    Image.fromarray(values).save(folder / 'grey.png')
    Image.fromarray(values // 255).save(folder / 'ones.png')
    grey = JoinedMask((folder / 'grey.png',), (255,)).open()
    ones = JoinedMask((folder / 'ones.png',), (255,)).open()
    assert grey.tolist() == [[0, 0, 255, 255]]
    assert ones.tolist() == [[0, 0, 0, 255]]


def test_names_with_stars_and_brackets_that_exist_are_no_patterns(folder):
    draw(folder / 'a[1]*/x.png')
    draw(folder / 'm{class}/x.png')
    assert list(found(folder / 'a[1]*', folder / 'm{class}')) == ['x']


def test_patterns_that_match_the_same_files_are_told_apart(folder):
    draw(folder / 'd/a.png')
    draw(folder / 'd/a_mask.png')
    assert list(found(folder / 'd/*.png', folder / 'd/*_mask.png')) == ['a']
    with pytest.raises(UserError, match=r'match the same files'):
        match_files(folder / 'd/*.png', folder / 'd/*.png')


@pytest.mark.parametrize(
    ('pattern', 'message'),
    [
        ('d/*.gif', r'd/\*\.gif matches no picture\. There are a\.png'),
        ('e/*.png', r'there is no folder .*e\.'),
        ('d/{class}.png', r'expected a star'),
        ('d/{class}*{class}.png', r'expected \{class\} once'),
    ],
)
def test_a_pattern_that_matches_nothing_says_what_is_there(folder, pattern, message):
    draw(folder / 'd/a.png')
    draw(folder / 'm/a.png')
    with pytest.raises(UserError, match=message):
        match_files(folder / pattern, folder / 'm')


def test_the_suffix_option_is_for_folders(folder):
    draw(folder / 'd/a.png')
    with pytest.raises(UserError, match=r"write it into the pattern: --masks '.*/\*_m\.\*'"):
        match_files(folder / 'd/*.png', folder / 'd', '_m')


def test_two_masks_of_an_image_without_a_star_to_tell_them_apart_are_a_problem(folder):
    draw(folder / 'i/a.png')
    draw(folder / 'm/a.png')
    draw(folder / 'm/a.gif')
    (problem,) = match_files(folder / 'i/*', folder / 'm/*').problems
    assert 'a.gif and' in problem.text and 'expected one' in problem.text


def test_links_back_to_a_folder_above_are_not_followed(folder):
    for n in (1, 2):
        draw(folder / f'set/a/imgs/{n}.png')
        draw(folder / f'set/b/masks/{n}.png')
    (folder / 'set/a/back').symlink_to(folder / 'set')
    (folder / 'set/a/other').symlink_to(folder / 'set/b')
    (folder / 'set/b/other').symlink_to(folder / 'set/a')
    pairs = match_files(folder / 'set/**/a/imgs/*.png', folder / 'set/**/b/masks/*.png').pairs
    assert sorted(pair.image.relative_to(folder).as_posix() for pair in pairs) == [
        'set/a/imgs/1.png', 'set/a/imgs/2.png'
    ]  # fmt: skip
