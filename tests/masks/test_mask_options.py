"""Options about mask values: names, order, and other values ignored, snapped or refused."""

import json

import numpy as np
import pytest
import torch
from drawing import data_set
from PIL import Image, ImageFilter
from running import run_train

import evaluate
import predict
from utils.data.dataset import SegmentationDataset
from utils.inference.checkpoint import load_checkpoint
from utils.masks.classes import MaskOptions
from utils.masks.encoding import IGNORE

QUICK = ['-e', '1', '-v', '0', '-b', '4', '--base-channels', '2']
LAST = 'checkpoints/last.pth'


def refused(capsys, *options, naming):
    """Training stops with exit code 2 and a message with all these texts."""
    assert run_train(*QUICK, *options) == 2
    err = capsys.readouterr().err
    assert not [text for text in naming if text not in err], err


def name_classes(folder, table, place='masks'):
    text = table if isinstance(table, str) else json.dumps(table)
    (folder / place / 'classes.json').write_text(text, encoding='utf-8')


@pytest.mark.parametrize('place', ['masks', '.'])
def test_names_come_from_a_file_and_show_everywhere(folder, capsys, place):
    data_set(folder, 4, values=(0, 128, 255))
    name_classes(folder, {'sky': 255, 'ground': 0, 'body': 128}, place)
    assert run_train(*QUICK[:2], '-b', '4', '--base-channels', '2') == 0
    out = capsys.readouterr().out
    assert '0 (ground) ' in out
    assert '255 (sky) ' in out
    masks = load_checkpoint(LAST).masks
    assert masks.values == [255, 0, 128]  # the file's order is that of the classes
    assert masks.names == ['sky', 'ground', 'body']
    data = ['--images', 'imgs', '--masks', 'masks', '--json', 's.json', '--csv', 's.csv']
    (folder / place / 'classes.json').unlink()  # the checkpoint knows
    assert evaluate.main(['-m', LAST, *data]) == 0
    assert '\nground  ' in capsys.readouterr().out
    rows = json.loads((folder / 's.json').read_text())['classes']
    assert [(row['name'], row['value']) for row in rows] == [
        ('sky', 255), ('ground', 0), ('body', 128)
    ]  # fmt: skip
    assert 'disc00,1,ground,' in (folder / 's.csv').read_text()
    assert predict.main(['-m', LAST, '-i', 'imgs/disc00.png', '-n']) == 0
    assert ': sky ' in capsys.readouterr().out


def test_colours_have_names_too(folder, capsys):
    _, masks = data_set(folder, 3)
    for path in masks.iterdir():
        grey = np.asarray(Image.open(path)) // 255
        Image.fromarray(np.array([[0, 0, 0], [0, 0, 255]], np.uint8)[grey]).save(path)
    name_classes(folder, {'ground': [0, 0, 0], 'sky': [0, 0, 255], 'sun': [255, 255, 0]})
    assert run_train(*QUICK) == 0
    assert load_checkpoint(LAST).masks.names == ['ground', 'sky', 'sun']
    assert load_checkpoint(LAST).model['n_classes'] == 3  # named, though not in these masks
    out = capsys.readouterr().out
    assert '(0, 0, 255) (sky) ' in out
    assert 'classes from masks/classes.json: 3 names' in out.replace(str(folder), '')
    assert 'no mask has, and that keep their places: sun' in out


@pytest.mark.parametrize(
    ('text', 'naming'),
    [
        ('{"a": 0,', ['classes.json', 'Expecting property name']),
        ('[0, 255]', ['classes.json', '{"background": 0, "body": 128}']),
        ('{"a": 0, "b": "255"}', ['classes.json', 'mask value for b;', '"body": 128']),
        ('{"a": 0, "b": [0, 0, 256]}', ['classes.json', 'mask value for b;']),
        ('{"a": 0, "b": true}', ['classes.json', 'mask value for b;']),
        ('{"a": 0, "a": 255}', ['classes.json', 'a is named twice']),
        ('{"a": 0, "b": 0}', ['classes.json', '[0, 0]', 'differ']),
        ('{"a": 0, "b": [0, 0, 255]}', ['classes.json', '(0, 0, 255)', 'all grey or all colours']),
        ('{"a": 0}', ['classes.json', '2 to 254']),
        ('[' * 100_000, ['classes.json', 'cannot be read']),
        ('{"a": ' * 100_000, ['classes.json', 'cannot be read']),
        ('{"a": 0, "b": [[1, 2, 3], 0, 0]}', ['classes.json', 'mask value for b;']),
        ('{"a": 0, "b": 1' + '0' * 30 + '}', ['classes.json', 'mask value for b;']),
        ('{"a": 0, "b": 1' + '0' * 5000 + '}', ['classes.json']),
        ('{"a": 0, "b\\ud800": 255}', ['classes.json', "'b\\ud800'", 'a lone surrogate']),
        ('{"a": 0, "b": 7}', ['[0, 7]', '255: ']),
    ],
)
def test_a_file_of_names_that_is_wrong_says_so(folder, capsys, text, naming):
    data_set(folder, 2)
    name_classes(folder, text)
    refused(capsys, naming=naming)


def test_classes_that_disagree_with_a_list_are_refused(folder, capsys):
    data_set(folder, 2)
    naming = ['--classes is 3', '--mask-values', '[0, 255]']
    refused(capsys, '--mask-values', '0,255', '-c', '3', naming=naming)
    name_classes(folder, {'a': 0, 'b': 255})
    refused(capsys, '-c', '3', naming=['classes.json', '[0, 255]'])
    assert run_train(*QUICK, '-c', '1') == 0
    assert load_checkpoint(LAST).model['n_classes'] == 1


def test_the_order_of_mask_values_is_that_of_the_classes(tmp_path):
    folders = data_set(tmp_path, 2)
    plain, turned = (
        SegmentationDataset(*folders, wanted=MaskOptions(mask_values=values))[0]['mask']
        for values in ([0, 255], [255, 0])
    )
    assert torch.equal(plain, 1 - turned)


def test_other_values_than_the_wanted_are_an_error_with_shares_and_files(folder, capsys):
    data_set(folder, 3, values=(0, 128, 255))
    naming = ['[0, 255]', '128: ', '% of pixels, first in disc00.png']
    naming += ['--ignore-value 128', '--snap-masks']
    refused(capsys, '--mask-values', '0,255', naming=naming)


def test_snapping_takes_the_nearest_value_and_reports_how_much_it_moved(folder, capsys):
    _, masks = data_set(folder, 3)
    for path in masks.iterdir():
        values = np.array(Image.open(path))
        values[0, :10] = 200  # 30 of 4608 pixels in all
        values[1, :10] = 5
        Image.fromarray(values).save(path)
    assert run_train(*QUICK, '--mask-values', '0,255', '--snap-masks') == 0
    assert f'note: {100 * 60 / (3 * 48 * 32):.3g} % of mask pixels' in capsys.readouterr().out
    dataset = SegmentationDataset('imgs', 'masks', mask_values=load_checkpoint(LAST).masks)
    mask = dataset[0]['mask']
    assert (mask[0, :10] == 1).all()
    assert (mask[1, :10] == 0).all()
    data = ['--images', 'imgs', '--masks', 'masks']
    assert evaluate.main(['-m', LAST, *data]) == 0  # the checkpoint snaps as well


@pytest.mark.slow
def test_jpeg_masks_are_explained_and_snapped_or_binarized(folder, capsys):
    _, masks = data_set(folder, 3, size=(64, 48))
    originals = {}
    for path in list(masks.iterdir()):
        originals[path.stem] = np.asarray(Image.open(path)) // 255
        Image.open(path).save(path.with_suffix('.jpg'), quality=75)
        path.unlink()
    names = 'disc00.jpg, disc01.jpg, disc02.jpg'
    refused(capsys, naming=['JPEG', names, '--binarize 127', '--snap-masks'])
    for options in (['--binarize', '127'], ['--mask-values', '0,255', '--snap-masks']):
        assert run_train(*QUICK, *options) == 0
        encoding = load_checkpoint(LAST).masks
        assert encoding.values == [0, 255]
        item = SegmentationDataset('imgs', 'masks', mask_values=encoding)[0]
        assert np.array_equal(item['mask'].numpy(), originals['disc00'])
        assert predict.main(['-m', LAST, '-i', 'imgs/disc00.png', '-o', 'o.png']) == 0
        assert set(np.unique(np.asarray(Image.open('o.png')))) <= {0, 255}
        assert evaluate.main(['-m', LAST, '--images', 'imgs', '--masks', 'masks']) == 0


@pytest.mark.parametrize('noise', [3, 30])  # of few values in all, and too many for a mask
def test_lossy_colours_are_snapped_and_never_to_be_binarized(folder, capsys, noise):
    _, masks = data_set(folder, 2)
    for k, path in enumerate(masks.iterdir()):
        disc = np.asarray(Image.open(path)) > 0
        added = np.random.default_rng(k).integers(0, noise, (*disc.shape, 3))
        colours = np.where(disc[..., None], (255 - added) * [1, 0, 0] + added * [0, 1, 1], added)
        Image.fromarray(colours.astype(np.uint8)).save(path)
    assert run_train(*QUICK) == 2
    message = capsys.readouterr().err
    assert '--snap-masks' in message
    assert '--binarize' not in message
    wanted = MaskOptions(mask_values=[(0, 0, 0), (255, 0, 0)], snap_masks=True)
    dataset = SegmentationDataset('imgs', 'masks', wanted=wanted)
    assert [*dataset.scan.values()] == [(0, 0, 0), (255, 0, 0)]


def test_photographs_among_the_masks_are_refused_file_by_file(folder, capsys):
    _, masks = data_set(folder, 2)
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(masks / 'disc01.png')
    refused(capsys, naming=['masks/disc01.png', '1536 distinct values', '--snap-masks'])


def test_binarized_masks_may_ignore_a_value_too(folder):
    data_set(folder, 3, values=(0, 100, 255))
    assert run_train(*QUICK, '--binarize', '127', '--ignore-value', '100') == 0
    dataset = SegmentationDataset('imgs', 'masks', mask_values=load_checkpoint(LAST).masks)
    raw = np.asarray(Image.open('masks/disc00.png'))
    expected = np.where(raw == 100, IGNORE, raw // 255)
    assert np.array_equal(dataset[0]['mask'].numpy(), expected)


def test_a_jpeg_of_a_few_values_is_no_guess_either(folder, capsys):
    _, masks = data_set(folder, 2, values=(0, 1, 2))
    for path in list(masks.iterdir()):
        Image.open(path).save(path.with_suffix('.jpg'), quality=100)
        path.unlink()
    refused(capsys, naming=['JPEG', 'disc00.jpg, disc01.jpg'])


def test_smoothed_masks_are_recognised_and_rare_classes_are_not(folder, capsys):
    _, masks = data_set(folder, 2, size=(128, 96))
    for path in masks.iterdir():
        Image.open(path).resize((64, 48)).resize((128, 96), Image.Resampling.BILINEAR).filter(
            ImageFilter.ModeFilter(3)
        ).point(lambda v: round(v / 25) * 25).save(path)
    refused(capsys, naming=['under 1 % of the pixels each', 'smoothed masks', '--binarize 127'])
    rare = np.zeros((96, 128), np.uint8)
    rare[0, :20] = np.arange(20)
    for path in masks.iterdir():
        Image.fromarray(rare).save(path)
    assert run_train(*QUICK) == 0
    assert load_checkpoint(LAST).model['n_classes'] == 20


@pytest.mark.slow
def test_ignored_values_count_in_neither_loss_nor_score(folder, capsys):
    _, masks = data_set(folder, 4, values=(0, 1, 255))
    assert run_train(*QUICK, '--ignore-value', '255') == 0
    assert '255 (ignored) ' in capsys.readouterr().out
    assert load_checkpoint(LAST).mask_values == [0, 1]
    raw = np.asarray(Image.open(masks / 'disc00.png'))
    item = SegmentationDataset('imgs', 'masks', mask_values=load_checkpoint(LAST).masks)[0]
    assert torch.equal(item['mask'] == IGNORE, torch.from_numpy(raw == 255))
    data = ['--images', 'imgs', '--masks', 'masks', '--csv', 's.csv']
    assert evaluate.main(['-m', LAST, *data]) == 0
    scored = np.genfromtxt('s.csv', delimiter=',', names=True)
    first = scored[scored['class'] == 0][0], scored[scored['class'] == 1][0]
    assert sum(row['tp'] + row['fn'] for row in first) == (raw != 255).sum()


@pytest.mark.parametrize(
    ('options', 'naming'),
    [
        ('--snap-masks', ['--snap-masks', '--mask-values']),
        ('--binarize 9 --mask-values 0,255', ['--binarize', '--mask-values', '--snap-masks']),
        ('--mask-values 0,255 --ignore-value 0', ['0 is in --ignore-value', '--mask-values']),
        ('--mask-values 0:0:0,9:9:9 --ignore-value 9', ['(9, 9, 9) is in --ignore-value']),
        ('--mask-values 0,0', ['--mask-values is [0, 0]', 'differ']),
        ('--mask-values 0,9:9:9', ['--mask-values', 'all grey or all colours']),
        ('--mask-values 7', ['--mask-values', '2 to 254']),
        ('--binarize 255', ['[0, 255]', 'only one', '0: 100 % of pixels']),
        ('--ignore-value 0', ['only one', '255: ']),
        ('--mask-values 0,9 --ignore-value 255', ['[0, 9]', 'only one', '0: ']),
    ],
)
def test_options_that_contradict_themselves_or_the_masks(folder, capsys, options, naming):
    data_set(folder, 2)
    refused(capsys, *options.split(), naming=naming)


@pytest.mark.parametrize('text', ['a', '0,', '0;1', '1:2', '0:0:256', '0.5,1'])
def test_lists_of_values_are_numbers_or_colours(folder, capsys, text):
    with pytest.raises(SystemExit):
        run_train('--mask-values', text)
    err = capsys.readouterr().err
    assert all(form in err for form in ('0,128,255', '0:0:0'))


@pytest.mark.slow
def test_a_resumed_run_keeps_how_masks_are_read(folder):
    data_set(folder, 4, values=(0, 100, 255))
    options = ['--mask-values', '255,0', '--ignore-value', '100']
    assert run_train('-e', '1', *options) == 0
    assert run_train('--resume', '-e', '2') == 0
    masks = load_checkpoint(LAST).masks
    assert (masks.values, masks.ignore) == ([255, 0], [100])
