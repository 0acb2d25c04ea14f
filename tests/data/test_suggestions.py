"""Values that mean something else than a class each are named, with the options that say so."""

import json
import re

import numpy as np
import pytest
from running import run_train
from scenes import objects, organs, rim, save_set

import train
from utils.data.dataset import SegmentationDataset
from utils.masks.classes import MaskOptions
from utils.masks.encoding import IGNORE

QUICK = ['-e', '1', '-v', '0', '-b', '4', '--base-channels', '2']


def proposed(capsys, *options, code=0):
    """Return the options that --check proposes: those that end a line after a colon."""
    assert run_train('--check', *options) == code
    out = capsys.readouterr().out
    return re.findall(r': (--.*)$', out, re.MULTILINE)


def items(options=''):
    """Return the masks (N, H, W) that training sees with these options."""
    words = ['--images', 'imgs', '--masks', 'masks', '-s', '1', *options.split()]
    wanted = MaskOptions.from_args(train.get_args(words))
    dataset = SegmentationDataset('imgs', 'masks', wanted=wanted)
    return np.stack([dataset[k]['mask'] for k in range(len(dataset))])


def cells(seeds=10, most=9):
    return [objects(seed, 3 + seed % most) for seed in range(seeds)]


@pytest.mark.parametrize('form', ['grey', 'deep', 'palette', 'colour', 'red'])
def test_numbers_of_objects_are_recognised_and_become_one_class(folder, capsys, form):
    masks = cells()
    save_set(folder, masks, form)
    assert proposed(capsys) == ['--binarize 0']
    assert np.array_equal(items('--binarize 0'), np.stack(masks) > 0)


def test_a_run_says_so_too_until_it_is_told(folder, capsys):
    save_set(folder, cells(4))
    assert run_train(*QUICK) == 0
    assert ': --binarize 0\n' in capsys.readouterr().out
    assert run_train(*QUICK, '--binarize', '0') == 0
    out = capsys.readouterr().out
    assert 'objects' not in out
    assert 'moved' not in out


@pytest.mark.parametrize(('form', 'count'), [('grey', 40), ('deep', 40), ('deep', 300)])
def test_many_numbers_are_refused_with_zero_as_threshold(folder, capsys, form, count):
    numbers = np.kron(np.arange(1, 1 + 20 * 30).reshape(20, 30), np.ones((3, 3), int))
    numbers = np.where(numbers <= count, numbers, 0)
    numbers[::3] = 0
    save_set(folder, [numbers, np.flipud(numbers), np.where(numbers < 30, numbers, 0)], form)
    found = proposed(capsys, code=2)
    assert found[0] == '--binarize 0'
    assert '--binarize 127' not in found
    assert items('--binarize 0').max() == 1


def test_more_numbers_than_a_mask_of_classes_may_have(folder, capsys):
    numbers = np.arange(40 * 40).reshape(40, 40)
    save_set(folder, [numbers, numbers], 'deep')
    assert proposed(capsys, code=2) == ['--binarize 0'] * 2
    assert np.array_equal(items('--binarize 0')[0], numbers > 0)


@pytest.mark.parametrize('count', [3, 5])
@pytest.mark.parametrize('form', ['grey', 'palette'])
def test_organs_in_one_piece_each_are_classes(folder, capsys, form, count):
    save_set(folder, [organs(seed, count) for seed in range(6)], form)
    assert proposed(capsys) == ['--ignore-value 0']


def test_classes_of_several_objects_are_classes(folder, capsys):
    table = np.array([0, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3])
    save_set(folder, [table[mask] for mask in cells()])
    assert proposed(capsys) == ['--ignore-value 0']


def test_numbers_of_objects_with_a_rim_leave_the_rim_out(folder, capsys):
    masks = [rim(mask, 255) for mask in cells()]
    save_set(folder, masks, 'palette')
    assert proposed(capsys) == ['--binarize 0 --ignore-value 255']
    expected = np.where(np.stack(masks) == 255, IGNORE, np.stack(masks) > 0)
    assert np.array_equal(items('--binarize 0 --ignore-value 255'), expected)
    options = ['--binarize', '0', '--ignore-value', '255', '--json', 'r.json']
    assert run_train('--check', *options) == 0
    report = json.loads((folder / 'r.json').read_text())
    counted = expected[expected != IGNORE]
    assert report['classes'][1]['share'] == pytest.approx(counted.mean())
    assert (report['binarize'], report['ignore'], report['proposals']) == (0, [255], [])


def test_the_folder_of_classes_beside_that_of_objects_is_named(folder, capsys):
    save_set(folder, cells(4), 'palette')
    (folder / 'masks').rename(folder / 'SegmentationObject')
    save_set(folder, [np.array([0, 1, 2] * 4)[mask] for mask in cells(4)], 'palette')
    (folder / 'masks').rename(folder / 'SegmentationClass')
    options = ['--masks', 'SegmentationObject']
    assert proposed(capsys, *options) == ['--masks SegmentationClass', '--binarize 0']


@pytest.mark.parametrize(
    ('value', 'width', 'table'),
    [
        (255, 1, [0, 1, 2, 3, 1]),  # Pascal VOC
        (3, 3, [2, 1, 1, 1, 1]),  # Oxford-IIIT Pet
        (11, 2, [0, 1, 2, 3, 4]),  # CamVid
        (128, 2, [0, 255, 255, 255, 255]),  # a trimap
    ],
)
def test_rims_are_named_as_not_labelled(folder, capsys, value, width, table):
    masks = [rim(np.array(table)[objects(seed, 4)], value, width) for seed in range(4)]
    save_set(folder, masks)
    assert proposed(capsys) == [f'--ignore-value {value}']
    assert np.array_equal(items(f'--ignore-value {value}') == IGNORE, np.stack(masks) == value)
    assert proposed(capsys, '--ignore-value', str(value)) == []


@pytest.mark.parametrize(
    ('table', 'form', 'expected'),
    [
        ([0, 1, 2, 255], 'grey', '255'),
        ([0, 1, 2, 3, 11], 'grey', '11'),
        ([0, 1, 2, 4, 4], 'grey', '0'),  # BraTS has no class 3
        ([0, 1, 4, 13, 150], 'grey', '0'),  # ADE20K
        ([3, 7, 8, 26, 11], 'grey', '3'),  # Cityscapes
        ([0, 1, 2, 3], 'colour', '0:0:0'),  # CamVid
        ([0, 127, 255, 127], 'grey', '0'),
        ([*range(12), 60, 91, 181, 255], 'grey', '255'),  # COCO-Stuff
    ],
)
def test_values_that_may_mean_not_labelled_are_named_in_one_line(
    folder, capsys, table, form, expected
):
    save_set(folder, [np.array(table * 3)[objects(seed, 3 * len(table) - 1)] for seed in range(4)],
             form)  # fmt: skip
    assert proposed(capsys) == [f'--ignore-value {expected}']
    assert proposed(capsys, '--ignore-value', expected) == []


@pytest.mark.parametrize(
    ('table', 'form', 'value'),
    [
        ([255, 128, 0], 'grey', '255'),  # REFUGE: 0 is the cup
        ([255, 0, 0], 'grey', '255'),  # DIBCO: 0 is ink
        ([2, 1, 0], 'colour', '0:128:0'),
    ],
)
def test_a_value_that_fills_the_borders_is_named_as_background(folder, capsys, table, form, value):
    save_set(folder, [np.array(table)[objects(seed, 2)] for seed in range(4)], form)
    assert proposed(capsys) == [f'--background {value}']
    assert proposed(capsys, '--background', value) == []
    half = np.where(np.arange(96) < 48, table[0], 0) * np.ones((64, 1), int)
    save_set(folder, [half] * 4, form)
    assert proposed(capsys) == []


@pytest.mark.parametrize(
    ('table', 'rim_value', 'ignored'),
    [
        ([6, 1, 2, 3], 0, '0'),  # 0 is the rim, as in Potsdam's labels without boundaries
        ([255, 0, 1, 2], None, '255'),  # what fills the borders is not labelled
    ],
)
def test_a_value_that_does_not_count_is_no_background(folder, capsys, table, rim_value, ignored):
    masks = [np.array(table * 2)[objects(seed, 7)] for seed in range(4)]
    masks = masks if rim_value is None else [rim(mask, rim_value) for mask in masks]
    save_set(folder, masks)
    assert proposed(capsys) == [f'--ignore-value {ignored}']
    assert proposed(capsys, '--ignore-value', ignored) == []


def test_many_class_numbers_are_no_smoothed_mask(folder, capsys):
    tiles = np.kron(np.arange(180).reshape(12, 15), np.ones((4, 4), int)) % 60  # 3 pieces each
    save_set(folder, [np.where(tiles == 7, 255, tiles), np.where(tiles == 9, 255, tiles)])
    assert proposed(capsys, code=2) == ['--ignore-value 255 --classes 60', '--classes 61']
    assert proposed(capsys, *'--ignore-value 255 --classes 60'.split()) == []


def test_named_classes_and_two_values_need_no_suggestion(folder, capsys):
    save_set(folder, [np.array([0, 1, 2, 1])[objects(seed, 3)] for seed in range(4)])
    assert proposed(capsys, '--mask-values', '0,1,2') == []
    (folder / 'masks/classes.json').write_text('{"none": 0, "cat": 1, "dog": 2}')
    assert proposed(capsys) == []
    save_set(folder, [objects(seed, 3) > 0 for seed in range(4)])
    (folder / 'masks/classes.json').unlink()
    assert proposed(capsys) == []


def test_a_stray_value_is_named_with_its_file(folder, capsys):
    masks = [255 * (objects(seed, 3) > 0) for seed in range(4)]
    masks[2][5, 5:8] = 7
    save_set(folder, masks)
    assert run_train('--check') == 0
    (line,) = re.findall('note: only a few pixels .*', capsys.readouterr().out)
    assert 'value 7 ' in line
    assert '02.png' in line
    assert line.endswith(': --ignore-value 7')
    assert len(np.unique(items('--ignore-value 7'))) == 3


def test_suggestions_add_up_with_each_other_and_with_what_is_given(folder, capsys):
    masks = [rim(np.array([0, 1, 2, 3, 4])[objects(seed, 4)], 255) for seed in range(4)]
    masks[1][3, 3] = 9
    save_set(folder, masks)
    assert proposed(capsys) == ['--ignore-value 255', '--ignore-value 255,9']
    given = ['--ignore-value', '4', '--classes', '6']
    expected = ['--ignore-value 4,255 --classes 5', '--ignore-value 4,255,9 --classes 4']
    assert proposed(capsys, *given) == expected


def test_a_wrong_number_of_classes_is_explained_by_what_the_values_mean(folder, capsys):
    save_set(folder, [rim(objects(seed, 3) > 0, 255) for seed in range(4)])
    assert proposed(capsys, '-c', '2', code=2)[0] == '--ignore-value 255'
    assert run_train(*QUICK, '-c', '2', '--ignore-value', '255') == 0


def test_the_report_says_how_values_are_taken_and_proposes_every_option(folder):
    save_set(folder, [rim(objects(seed, 3), 255) for seed in range(4)])
    assert run_train('--check', '--json', 'r.json') == 0
    report = json.loads((folder / 'r.json').read_text())
    assert report['proposals'] == ['--ignore-value 255']
    assert (report['ignore'], report['binarize'], report['mask_divisor']) == ([], None, None)
