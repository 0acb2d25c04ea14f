"""Which class counts as background, and that every score leaves out that one and no other."""

import json

import numpy as np
import pytest
import torch
from devices import on_device
from drawing import data_set, decode_rle
from networks import brightness_network, save
from PIL import Image
from running import checked, rows, run_train

import evaluate
import predict
from utils.data.dataset import SegmentationDataset
from utils.inference.checkpoint import load_checkpoint
from utils.masks.classes import MaskOptions
from utils.masks.components import largest_components
from utils.masks.encoding import IGNORE
from utils.masks.visualize import ERROR_COLOURS, error_map

DATA = ['-m', 'm.pth', '--images', 'imgs', '--masks', 'masks', *on_device()]
PETS = (2, 3, 1)  # background, outline (ignored), pet: from the outside to the centre


def scores(*options):
    assert evaluate.main([*DATA, '--json', 's.json', *options]) == 0
    with open('s.json') as file:  # noqa: PTH123
        return json.load(file)


def halves(folder, values, edges=(16, 24)):
    """Pictures of 32 x 32, white from column 16; their masks change value at these columns."""
    (folder / 'imgs').mkdir()
    (folder / 'masks').mkdir()
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    for k, edge in enumerate(edges):
        Image.fromarray(pixels).save(f'imgs/{k}.png')
        mask = np.full((32, 32), values[0], np.uint8)
        mask[:, edge:] = values[1]
        Image.fromarray(mask).save(f'masks/{k}.png')


@pytest.mark.slow
def test_where_value_0_is_ignored_no_class_is_left_out(folder, capsys):
    data_set(folder, 6, values=(1, 0, 2))
    assert run_train('-e', '1', '-b', '3', '--base-channels', '2', '--ignore-value', '0') == 0
    assert 'background: none' in capsys.readouterr().out
    for name in ('best.pth', 'last.pth'):
        checkpoint = load_checkpoint(f'checkpoints/{name}')
        assert checkpoint.masks.background is None
        dice = [row['dice_dataset'] for row in checkpoint.metrics['classes']]
        assert checkpoint.metrics['dice_dataset'] == pytest.approx(np.mean(dice))
    [row] = rows()
    assert float(row['dice_dataset']) == pytest.approx(float(row['dice_all_classes']))
    found = scores('-m', 'checkpoints/best.pth')
    assert found['background'] is None
    assert 'background: none' in capsys.readouterr().out


def test_scores_by_hand_without_a_background(folder, capsys):
    # Predicted: columns 0 to 15 and 16 to 31. True: 16 and 16 in the first, 24 and 8 in the second.
    halves(folder, (1, 2))
    encoding = {'ignore': [0], 'background': None}
    save('m.pth', brightness_network(), mask_values=[1, 2], mask_encoding=encoding)
    found = scores('--boundary-tolerance', '0')
    left, right = 2 * 32 / (32 + 40), 2 * 24 / (32 + 24)
    assert found['dice_dataset'] == pytest.approx((left + right) / 2)
    assert found['iou_dataset'] == pytest.approx((32 / 40 + 24 / 32) / 2)
    second = (2 * 16 / 40 + 2 * 8 / 24) / 2
    assert found['dice_per_image'] == pytest.approx((1 + second) / 2)
    assert found['dice_reference'] == pytest.approx((1 + second) / 2)
    assert [row['dice'] for row in found['ranking']] == pytest.approx([second, 1])
    assert found['dice_interval'][1] <= 1
    outlines = [row['boundary_f_per_image'] for row in found['classes']]
    assert outlines == [0.5, 0.5]
    assert found['boundary_f_per_image'] == 0.5
    assert found['ceiling']['dice_dataset'] == 1
    out = capsys.readouterr().out
    assert 'background: none, mean scores count all classes' in out
    assert 'original leaves class 0 out, value 1' in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(('background', 'index', 'expected'), [(0, 1, 24 / 32), (1, 0, 32 / 40)])
def test_scores_by_hand_are_of_the_other_class(folder, capsys, background, index, expected):
    halves(folder, (1, 2))
    encoding = {'background': background, 'names': ['cat', 'wall']}
    save('m.pth', brightness_network(), mask_values=[1, 2], mask_encoding=encoding)
    found = scores('--report', 'r')
    assert found['background'] == background
    assert found['iou_dataset'] == pytest.approx(expected)
    assert found['dice_dataset'] == found['classes'][index]['dice_dataset']
    assert found['boundary_f_per_image'] == found['classes'][index]['boundary_f_per_image']
    assert found['classes'][background]['boundary_f_per_image'] is None
    assert found['ranking'][0]['dice'] == pytest.approx([2 * 16 / 40, 2 * 8 / 24][index])
    told = ['background: value 1 (cat)', 'background: value 2 (wall)'][background]
    assert told in capsys.readouterr().out
    assert told in (folder / 'r/index.html').read_text(encoding='utf-8')


def test_the_mean_over_all_classes_is_told_beside_that_without_the_background(folder, capsys):
    halves(folder, (0, 255))
    save('m.pth', brightness_network(), mask_values=[0, 255])
    found = scores('--report', 'r')
    assert found['iou_dataset'] == pytest.approx(24 / 32)
    assert found['all_classes']['iou_dataset'] == pytest.approx((32 / 40 + 24 / 32) / 2)
    dice = (2 * 32 / (32 + 40) + 2 * 24 / (32 + 24)) / 2
    assert found['all_classes']['dice_dataset'] == pytest.approx(dice)
    assert f'all classes     {dice:.4f}  0.7750' in capsys.readouterr().out
    assert '<td>0.7750</td><td>mIoU</td>' in (folder / 'r/index.html').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    ('values', 'options', 'names', 'index', 'words'),
    [
        ((0, 255), '', None, 0, 'background: value 0, '),
        ((0, 128, 255), '--background 255', None, 2, 'background: value 255, '),
        ((0, 128, 255), '--background none', None, None, 'background: none, '),
        ((1, 0, 2), '--ignore-value 0', None, None, 'background: none, '),
        ((1, 0, 2), '--mask-values 2,1 --ignore-value 0', None, None, 'background: none, '),
        (PETS, '--ignore-value 3', None, None, 'note: background: none'),
        (PETS, '--ignore-value 3 --background 2', None, 1, 'background: value 2, '),
        ((5, 7, 9), '', None, None, '--background 5 or --background 7 or --background 9'),
        (PETS, '--ignore-value 3 -c 1', None, 0, 'note: background: value 1, foreground: value 2'),
        (PETS, '--ignore-value 3 -c 1 --mask-values 2,1', None, 0, 'foreground: value 1'),
        ((0, 255), '-c 1', None, 0, 'background: value 0, foreground: value 255'),
        # Two classes in descending order were asked for as background and foreground.
        (PETS, '--ignore-value 3 --mask-values 2,1', None, 0, 'background: value 2, '),
        (PETS, '--ignore-value 3 --mask-values 1,2', None, None, 'note: background: none'),
        ((0, 255), '', {'paper': 255, 'ink': 0}, 0, 'note: background: value 255 (paper), '),
        ((0, 255), '', {'ink': 255, 'Bg': 0}, 1, 'background: value 0 (Bg), '),
        ((0, 255), '--mask-values 255,0', None, 0, 'note: background: value 255, '),
        ((0, 1, 2), '--mask-values 2,1,0', None, 2, 'background: value 0, '),
        ((0, 255), '--binarize 100 --background 255', None, 1, 'background: value 255, '),
        ((0, 1, 2), '', {'road': 0, '_Background_': 1, 'car': 2}, 1, 'value 1 (_Background_), '),
        ((1, 0, 2), '--ignore-value 0', {'car': 1, 'BG': 2}, 1, 'background: value 2 (BG), '),
        ((0, 1, 2), '', {'sky': 2, 'ground': 0, 'car': 1}, 1, 'background: value 0 (ground), '),
    ],
)
def test_the_background_is_as_asked_or_by_name_or_by_value_0(
    folder, capsys, values, options, names, index, words
):
    data_set(folder, 4, values=values)
    if names:
        (folder / 'classes.json').write_text(json.dumps(names))
    out, report = checked(capsys, *options.split())
    assert (report.get('background', 'untold'), report['problems']) == (index, []), out
    assert words in out
    assert out.count('background: ') == 1
    assert ('note: background' in out) == words.startswith(('note', '--'))


@pytest.mark.parametrize(
    ('options', 'index'),
    [('', 0), ('--background 0:0:255', 1), ('--ignore-value 0:0:0', None),
     ('--ignore-value 0', None), ('--background 0', 0), ('--background none', None)],
)  # fmt: skip
def test_of_colours_the_background_is_black(folder, capsys, options, index):
    _, masks = data_set(folder, 4, values=(0, 1, 2))
    table = np.array([[0, 0, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    for path in masks.iterdir():
        Image.fromarray(table[np.asarray(Image.open(path))]).save(path)
    out, report = checked(capsys, *options.split())
    assert (report.get('background', 'untold'), report['problems']) == (index, []), out


@pytest.mark.parametrize(('option', 'index'), [('', 0), ('0:0:255', 1), ('1', 1), ('9:9:9', 2)])
def test_a_colour_names_the_index_of_a_palette(folder, capsys, option, index):
    _, masks = data_set(folder, 4, values=(0, 1, 2))
    for path in masks.iterdir():
        mask = Image.open(path)
        mask.putpalette([0, 0, 0, 0, 0, 255, 9, 9, 9])
        mask.save(path)
    out, report = checked(capsys, *(['--background', option] if option else []))
    assert (report.get('background', 'untold'), report['problems']) == (index, []), out


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ('--background 7', ['--background 7: no class has that value', 'none or one of 1,2,3']),
        ('--background 3 --ignore-value 3', ['--background 3: no class', 'none or one of 1,2']),
        ('--ignore-value 3 -c 1 --background 2', ['--classes 1', '--mask-values 2,1']),
        ('--ignore-value 3 -c 1 --background none', ['--classes 1', '--background none']),
        ('--ignore-value 3 --background none --weight-map', ['--no-weight-map', '--background']),
    ],
)
def test_a_background_that_cannot_be_is_refused_before_training(folder, capsys, options, words):
    data_set(folder, 4, values=PETS)
    assert run_train('-e', '1', *options.split()) == 2
    error = capsys.readouterr().err
    assert not [word for word in words if word not in error], error
    assert not (folder / 'checkpoints').exists()


@pytest.mark.parametrize('option', ['0,1', '1:2', 'no', '', '0:0:999'])
def test_a_background_that_is_no_value_is_refused_by_the_parser(folder, capsys, option):
    with pytest.raises(SystemExit) as stopped:
        run_train('--background', option)
    assert stopped.value.code == 2
    assert 'argument --background: ' in capsys.readouterr().err


def test_a_checkpoint_that_names_none_is_scored_as_it_was_without_class_0(folder):
    halves(folder, (1, 2))
    save('m.pth', brightness_network(), mask_values=[1, 2], mask_encoding={'ignore': [0]})
    assert load_checkpoint('m.pth').masks.background == 0
    found = scores()
    assert found['iou_dataset'] == pytest.approx(24 / 32)
    assert found['background'] == 0


@pytest.mark.slow
def test_the_foreground_of_threshold_sweep_and_runs_is_the_class_that_is_not_background(folder):
    # Of a ramp from black to white, class 1 is predicted where it is bright.
    (folder / 'imgs').mkdir()
    (folder / 'masks').mkdir()
    ramp = np.tile(np.linspace(90, 165, 64).astype(np.uint8), (32, 1))
    Image.fromarray(ramp).convert('RGB').save('imgs/a.png')
    Image.fromarray(np.where(ramp > 127, 2, 1).astype(np.uint8)).save('masks/a.png')
    for name, background in (('m.pth', 1), ('usual.pth', 0)):
        encoding = {'background': background}
        save(name, brightness_network(), mask_values=[1, 2], mask_encoding=encoding)
    bright = predicted('usual.pth', '-t', '0.2')
    assert np.array_equal(predicted('m.pth', '-t', '0.8'), bright)  # both: P(class 1) > 0.2
    assert not np.array_equal(predicted('m.pth', '-t', '0.2'), bright)
    found = scores('-t', '0.8', '--threshold-sweep')
    assert found['threshold'] == 0.8
    row = next(row for row in found['threshold_sweep'] if row['threshold'] == 0.8)
    assert row['dice_dataset'] == pytest.approx(found['dice_dataset'])
    usual = scores('-m', 'usual.pth', '-t', '0.2')
    assert found['confusion'] == usual['confusion']
    assert predict.main(['-m', 'm.pth', '-i', 'imgs/a.png', '-n', '--rle', 'r.csv']) == 0
    runs = (folder / 'r.csv').read_text().splitlines()[1].partition(',')[2]
    assert np.array_equal(decode_rle(runs, (64, 32)), predicted('m.pth') == 1)


def predicted(model, *options):
    assert predict.main(['-m', model, '-i', 'imgs/a.png', '-o', 'out.npy', *options]) == 0
    return np.load('out.npy')


def test_only_the_foregrounds_largest_component_is_kept():
    indices = np.array([[0, 0, 1, 0, 2, 1, 2]], np.uint8)
    assert largest_components(indices).tolist() == [[0, 0, 1, 0, 2, 0, 0]]
    assert largest_components(indices, background=1).tolist() == [[0, 0, 1, 1, 2, 1, 1]]


def test_the_weight_map_takes_the_background_for_what_lies_between_cells(folder):
    # Two cells that touch on a background of 7; and the same with a background of 0.
    folders = {}
    for name, background in (('usual', 0), ('other', 7)):
        (folder / name / 'imgs').mkdir(parents=True)
        (folder / name / 'masks').mkdir()
        mask = np.full((32, 48), background, np.uint8)
        mask[8:24, 6:20], mask[8:24, 20:34] = 1, 2
        for part, pixels in (('imgs', mask), ('masks', mask)):
            Image.fromarray(pixels).save(folder / name / part / 'a.png')
        folders[name] = (folder / name / 'imgs', folder / name / 'masks')
    asked = MaskOptions(background=7)
    usual = SegmentationDataset(*folders['usual'], weight_map=True)[0]
    other = SegmentationDataset(*folders['other'], weight_map=True, wanted=asked)[0]
    assert usual['border'].max() > 0
    assert torch.equal(other['border'], usual['border'])
    assert torch.equal(other['mask'] == 2, usual['mask'] == 0)


def test_the_errors_page_shows_no_class_as_background_if_none_is():
    truth = np.array([[0, 0, 1, 1, IGNORE]], np.uint8)
    found = np.array([[0, 1, 0, 1, 1]], np.uint8)
    for background, names in (
        (1, ['right', 'missed', 'too much', None, 'ignored']),
        (None, ['right', 'another class', 'another class', 'right', 'ignored']),
    ):
        colours = [list(ERROR_COLOURS.get(name, (0, 0, 0))) for name in names]
        assert np.asarray(error_map(truth, found, background))[0].tolist() == colours
