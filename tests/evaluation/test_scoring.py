"""Scores at full resolution equal counts of what predict.py writes; ceiling and sweep by hand."""

import json

import numpy as np
import pytest
import torch
from devices import on_device
from drawing import data_set
from networks import brightness_network, save
from PIL import Image

import evaluate
import predict
from utils.evaluation.intervals import bootstrap_interval
from utils.evaluation.metrics import (
    THRESHOLDS,
    best_threshold,
    class_counts,
    confusion_matrix,
    count_thresholds,
    sweep_table,
)
from utils.evaluation.scoring import rescaled_truth
from utils.masks.encoding import IGNORE

DATA = ['-m', 'm.pth', '--images', 'imgs', '--masks', 'masks', *on_device()]


def scores(*options):
    assert evaluate.main([*DATA, '--json', 's.json', *options]) == 0
    with open('s.json') as file:  # noqa: PTH123
        return json.load(file)


def network(classes=2):
    torch.manual_seed(0)
    save('m.pth', brightness_network(classes), mask_values=[0, 255] if classes < 3 else None)


def dice(predicted, truth):
    both = (predicted & truth).sum()
    return 2 * both / (predicted.sum() + truth.sum())


@pytest.mark.parametrize('classes', [1, 2])
@pytest.mark.parametrize('options', [[], ['-t', '0.9']])
def test_what_is_scored_is_what_predict_writes(folder, classes, options):
    data_set(folder, 3, size=(67, 51))
    network(classes)
    found = scores('-s', '0.5', *options)
    names = [f'disc{k:02}' for k in range(3)]
    inputs = [f'imgs/{name}.png' for name in names]
    outputs = [f'{name}_out.png' for name in names]
    command = ['-m', 'm.pth', '-s', '0.5', '-i', *inputs, '-o', *outputs, *on_device()]
    assert predict.main([*command, *options]) == 0
    pairs = [
        (np.asarray(Image.open(o)) > 0, np.asarray(Image.open(f'masks/{n}.png')) > 0)
        for o, n in zip(outputs, names, strict=True)
    ]
    assert found['dice_per_image'] == pytest.approx(np.mean([dice(*pair) for pair in pairs]))
    cells = [[sum(((t == a) & (p == b)).sum() for p, t in pairs) for b in (0, 1)] for a in (0, 1)]
    assert found['confusion'] == np.array(cells).tolist()
    assert sum(map(sum, found['confusion'])) == 3 * 67 * 51
    assert found['at_scale'] is False


def test_masks_of_another_size_than_their_image_are_scored_at_their_own(folder):
    data_set(folder, 2, size=(64, 48))
    for path in (folder / 'masks').iterdir():
        Image.open(path).resize((100, 90), Image.Resampling.NEAREST).save(path)
    network()
    assert sum(map(sum, scores('--resize-masks')['confusion'])) == 2 * 100 * 90
    assert sum(map(sum, scores('--resize-masks', '--at-scale')['confusion'])) == 2 * 64 * 48


def test_at_scale_scores_the_masks_scaled_down(folder):
    data_set(folder, 2, size=(64, 48))
    network()
    found = scores('-s', '0.5', '--at-scale')
    assert found['at_scale'] is True
    assert sum(map(sum, found['confusion'])) == 2 * 32 * 24
    assert 'ceiling' not in found
    full = scores('-s', '0.5')
    assert full['dice_dataset'] != found['dice_dataset']
    assert full['dice_reference'] == found['dice_reference']  # as published: always at scale


@pytest.mark.slow
def test_batch_size_and_workers_change_no_score(folder):
    data_set(folder, 3, size=(64, 48))
    data_set(folder, 2, size=(65, 49), names=['a', 'zz'])  # at half size as large as the others
    network()
    expected = scores('-s', '0.5', '--threshold-sweep')
    assert [len(expected['ranking']), expected['images']] == [5, 5]
    for options in (['-b', '3'], ['-b', '5', '--workers', '2']):
        found = scores('-s', '0.5', '--threshold-sweep', *options)
        del found['dice_reference']
        assert found.items() <= expected.items()


def test_the_ceiling_is_the_truth_scaled_down_and_up_again(folder):
    # Stripes of one pixel: at half size by nearest neighbour one of two remains, or all is lost.
    (folder / 'imgs').mkdir()
    (folder / 'masks').mkdir()
    mask = np.zeros((32, 32), np.uint8)
    mask[:, ::2] = 255  # the even columns; nearest neighbour takes the odd ones
    mask[:16, 8:24] = 255
    Image.fromarray(mask).save('masks/a.png')
    Image.fromarray(mask).convert('RGB').save('imgs/a.png')
    network()
    # What is left is the block of 16 x 16, of a truth of 256 + 16 x 8 / 2 + 16 x 8 / 2 + 16 x 16.
    truth = int((mask > 0).sum())
    assert scores('-s', '0.5')['ceiling']['dice_dataset'] == pytest.approx(
        2 * 256 / (256 + truth), abs=0.02
    )
    assert scores('-s', '1')['ceiling'] == {'dice_dataset': 1.0, 'dice_per_image': 1.0}


@pytest.mark.parametrize('values', [(0, 255), (0, 100, 255)])
@pytest.mark.parametrize('scale', ['0.5', '0.25'])
def test_ignored_pixels_do_not_lower_the_ceiling(folder, values, scale):
    # Stripes of blocks as large as a pixel at scale, and in each block ignored pixels, those that
    # nearest neighbour takes among them; in the middle of the picture all pixels are ignored.
    data_set(folder, 2, size=(24, 16), values=values)
    block, generator = round(1 / float(scale)), np.random.default_rng(0)
    for path in (folder / 'masks').iterdir():
        stripes = np.asarray(Image.open(path))[8].repeat(block)
        mask = np.tile(stripes, (16 * block, 1))
        ignored = generator.random(mask.shape) < 0.3
        ignored[block // 2 :: block, block // 2 :: block] = True
        ignored[::block, ::block] = False
        ignored[6 * block : 9 * block, 8 * block : 14 * block] = True
        Image.fromarray(np.where(ignored, 50, mask).astype(np.uint8)).save(path)
        image = folder / 'imgs' / path.name
        Image.open(image).resize(mask.shape[::-1]).save(image)
    encoding = {'ignore': [50]}
    save('m.pth', brightness_network(len(values)), mask_values=[*values], mask_encoding=encoding)
    assert scores('-s', scale)['ceiling'] == {'dice_dataset': 1.0, 'dice_per_image': 1.0}


def test_the_rescaled_truth_of_three_classes_and_of_ignored_pixels():
    mask = torch.tensor([[0, 1, 2, IGNORE]], dtype=torch.uint8)
    truth = torch.tensor([[0, 1, 2, 2]], dtype=torch.uint8)
    assert rescaled_truth(mask, truth, 3).tolist() == [[[0, 1, 2, 2]]]
    wide = truth.repeat_interleave(2, 1).repeat(2, 1)
    assert rescaled_truth(mask, wide, 3)[0, 1].tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    wide[:, -2:] = IGNORE
    assert rescaled_truth(mask, wide, 3)[0, 1, :6].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_sweep_counts_as_each_threshold_alone_would():
    generator = torch.Generator().manual_seed(1)
    probability = torch.rand(20, 30, generator=generator)
    probability[0, :19] = torch.tensor(THRESHOLDS)  # a pixel must pass the threshold, not equal it
    truth = torch.randint(0, 2, (20, 30), generator=generator)
    truth[5, :7] = IGNORE
    counts = count_thresholds(probability, truth)
    for k, threshold in enumerate(THRESHOLDS):
        cells = confusion_matrix((probability > threshold)[None].long(), truth[None], 2)
        assert counts[k].tolist() == class_counts(cells)[0, 1].tolist()


@pytest.mark.slow
def test_the_best_threshold_is_named_and_of_equals_the_nearest_to_one_half(folder, capsys):
    counts = torch.zeros(1, len(THRESHOLDS), 3, dtype=torch.int64)
    counts[..., 1] = 5
    counts[0, 6:12, 0] = 5  # thresholds 0.35 to 0.6 find five, with as many too much
    rows = sweep_table(counts)
    assert rows[6] == {
        'threshold': 0.35, 'dice_dataset': pytest.approx(2 / 3),
        'dice_per_image': pytest.approx(2 / 3),
    }  # fmt: skip
    assert rows[5]['dice_dataset'] == 0
    assert best_threshold(rows) == 0.5
    assert best_threshold(sweep_table(counts * 0)) is None
    data_set(folder, 2)
    network()
    found = scores('--threshold-sweep')
    assert len(found['threshold_sweep']) == 19
    best = max(row['dice_dataset'] for row in found['threshold_sweep'])
    assert scores('-t', str(found['best_threshold']))['dice_dataset'] == pytest.approx(best)
    out = capsys.readouterr().out
    assert f'best with predict.py --mask-threshold {found["best_threshold"]:g}' in out
    assert out.count('  best') == 1


def test_the_interval_is_that_of_the_means_spread():
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    low, high = bootstrap_interval(values)
    error = values.std() / 20  # of the mean of 400
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(np.append(values, np.nan)) == (low, high)
    assert bootstrap_interval(np.array([0.7, 0.7])) == pytest.approx((0.7, 0.7))
    assert bootstrap_interval(np.array([0.7, np.nan])) is None


def test_the_worst_images_come_first(folder, capsys):
    data_set(folder, 4)
    network()
    Image.new('RGB', (48, 32)).save('imgs/disc02.png')  # nothing will be found
    found = scores('--worst', '2')
    ranking = found['ranking']
    assert ranking[0] == {'image': 'disc02', 'dice': 0}
    assert [row['dice'] for row in ranking] == sorted(row['dice'] for row in ranking)
    out = capsys.readouterr().out
    assert 'worst images\n  0.0000  disc02\n' in out
    assert len(out.split('worst images\n')[1].splitlines()) == 2
    assert max(map(len, out.splitlines())) <= 80
    scores('--worst', '0')
    assert 'worst images' not in capsys.readouterr().out


def test_the_boundary_tolerance_is_in_pixels_of_the_mask(folder, capsys):
    data_set(folder, 2, size=(64, 48))
    network()
    near = scores('-s', '0.5', '--boundary-tolerance', '0')
    far = scores('-s', '0.5', '--boundary-tolerance', '6')
    assert near['boundary_f_per_image'] < far['boundary_f_per_image'] <= 1
    assert near['classes'][0]['boundary_f_per_image'] is None
    assert near['classes'][1]['boundary_f_per_image'] == near['boundary_f_per_image']
    assert 'within 6 pixels' in capsys.readouterr().out
