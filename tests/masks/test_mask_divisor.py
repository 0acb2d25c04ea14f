"""Masks of class * N + object: --mask-divisor takes the class, in all programs."""

import json

import numpy as np
import pytest
from PIL import Image
from running import run_train
from scenes import objects, save_set

import evaluate
import predict
from utils.data.dataset import SegmentationDataset
from utils.inference.checkpoint import load_checkpoint
from utils.masks.components import label_components
from utils.masks.encoding import MaskEncoding, to_indices

QUICK = ['-e', '1', '-v', '0', '-b', '4', '--base-channels', '2']
LAST = 'checkpoints/last.pth'


def numbered(seed, divisor):
    """Return class * divisor + object of classes 1 and 2, 0 elsewhere, and the classes."""
    numbers = objects(seed, 4 + seed % 4)
    classes = np.where(numbers > 0, 1 + numbers % 2, 0)
    return classes * divisor + numbers, classes


@pytest.mark.parametrize('divisor', [100, 256, 1000, 10000])
def test_the_divisor_is_found_and_gives_the_classes(folder, capsys, divisor):
    masks, classes = zip(*(numbered(seed, divisor) for seed in range(5)), strict=True)
    save_set(folder, masks, 'deep')
    assert run_train('--check', '--json', 'r.json') == 0
    assert f': --mask-divisor {divisor}\n' in capsys.readouterr().out
    assert run_train(*QUICK, '--mask-divisor', str(divisor)) == 0
    encoding = load_checkpoint(LAST).masks
    assert (encoding.values, encoding.divisor) == ([0, 1, 2], divisor)
    dataset = SegmentationDataset('imgs', 'masks', mask_values=encoding)
    assert all(np.array_equal(dataset[k]['mask'], classes[k]) for k in range(5))


def test_values_below_the_divisor_are_classes_as_in_cityscapes(folder, capsys):
    masks = []
    for seed in range(5):
        stuff = np.full((64, 96), 7)
        stuff[30:] = 8
        cars = objects(seed, 3 + seed % 3)
        masks.append(np.where(cars > 0, 26000 + cars, stuff))
    save_set(folder, masks)
    assert run_train('--check') == 0
    assert ': --mask-divisor 1000\n' in capsys.readouterr().out
    assert run_train(*QUICK, '--mask-divisor', '1000') == 0
    assert load_checkpoint(LAST).mask_values == [7, 8, 26]


@pytest.mark.slow
def test_all_programs_take_and_write_class_values(folder):
    save_set(folder, [numbered(seed, 1000)[0] for seed in range(4)])
    assert run_train('-e', '1', '-v', '0', '-b', '4', '--mask-divisor', '1000') == 0
    data = ['--images', 'imgs', '--masks', 'masks', '--json', 's.json']
    assert evaluate.main(['-m', LAST, *data]) == 0
    rows = json.loads((folder / 's.json').read_text())['classes']
    assert [row['value'] for row in rows] == [0, 1, 2]
    inputs = ['-i', *sorted(map(str, (folder / 'imgs').iterdir()))]
    assert predict.main(['-m', LAST, *inputs, '-o', 'found/']) == 0
    written = [np.asarray(Image.open(path)) for path in sorted((folder / 'found').iterdir())]
    assert {*np.unique(written)} <= {0, 1, 2}
    assert run_train('--resume', '-e', '2') == 0
    assert load_checkpoint(LAST).masks.divisor == 1000


def test_the_weight_map_sets_objects_of_a_class_apart(folder):
    mask = np.zeros((64, 96), int)
    mask[10:30, 10:30], mask[10:30, 30:50] = 1001, 1002
    images, masks = save_set(folder, [mask, mask])
    dataset = SegmentationDataset(
        images, masks, mask_values=MaskEncoding([0, 1], divisor=1000), weight_map=True
    )
    assert label_components(dataset[0]['mask'].numpy()).max() == 2


def test_divisors_beyond_the_values_change_nothing():
    values = np.array([[0, 7, 200]], np.uint8)
    indices = to_indices(values, MaskEncoding([0, 7, 200], divisor=1000), '')
    assert indices.tolist() == [[0, 1, 2]]
    wide = to_indices(
        np.array([[26001, 7, -1]]), MaskEncoding([7, 26], ignore=[-1], divisor=1000), ''
    )
    assert wide.tolist() == [[1, 0, 255]]


@pytest.mark.parametrize('other', [['--binarize', '0'], ['--mask-values', '0,1', '--snap-masks']])
def test_a_divisor_excludes_other_ways_to_merge_values(folder, capsys, other):
    save_set(folder, [numbered(0, 1000)[0]] * 2)
    assert run_train(*QUICK, '--mask-divisor', '1000', *other) == 2
    assert '--mask-divisor takes the class' in capsys.readouterr().err


def test_colours_have_no_divisor(folder, capsys):
    save_set(folder, [objects(seed, 3) for seed in range(2)], 'colour')
    assert run_train(*QUICK, '--mask-divisor', '1000') == 2
    assert 'mask in colour; --mask-divisor takes numbers' in capsys.readouterr().err
