"""evaluate.py --compare: differences by hand, the planted better network, the page."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import on_device
from drawing import data_set
from networks import brightness_network, save
from pages import check_self_contained

import evaluate
from utils.evaluation import intervals, scoring
from utils.evaluation.comparison.differences import Difference, paired_differences
from utils.evaluation.comparison.summary import Pairing, compare_counts, describe
from utils.evaluation.intervals import resamples
from utils.evaluation.scoring import Counts
from utils.masks.encoding import MaskEncoding

BETTER = 'points of Dice (95 % interval'
COMPARE = ['--images', 'imgs', '--masks', 'masks', *on_device(), '--compare']


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, 'RESAMPLES', 200)  # 2000 take a second of each test


def counts(*images):
    """Counts (N, 2, 3) of two classes: TP, FP and FN of the foreground, of 100 pixels an image."""
    rows = [[(100 - sum(image), image[2], image[1]), image] for image in images]
    return torch.tensor(rows)


def fully(pixels, ids=None):
    ids = ids or [f'{n:02}' for n in range(len(pixels))]
    return Counts(ids, torch.zeros(2, 2), pixels, pixels, torch.zeros(len(pixels), 2, 4))


def threshold_network(name, brightness, **others):
    """Save a network that sees foreground where pixels are brighter than this, in 0 to 1."""
    model = brightness_network(**others)
    with torch.no_grad():
        model.outc.conv.bias[-1] = -20 * brightness
    save(name, model, mask_values=[0, 255])


@pytest.fixture
def discs(folder):
    """Eight noisy discs; a network that is right, and one that takes much background as well."""
    data_set(folder, 8, size=(64, 48))
    threshold_network('right.pth', 0.5)
    threshold_network('wrong.pth', 0.17)
    return folder


def compared(*options):
    assert evaluate.main([*COMPARE, *options, '--json', 's.json']) == 0
    return json.loads(Path('s.json').read_text())


def test_differences_by_hand():
    # Dice 40/50 and 20/30, against 45/50 and 20/40
    first, other = counts((20, 5, 5), (10, 5, 5)), counts((22, 1, 5), (10, 15, 5))
    found = paired_differences(first, other, [1])
    assert found.per_image.first == pytest.approx((40 / 50 + 20 / 30) / 2)
    assert found.per_image.other == pytest.approx((44 / 50 + 20 / 40) / 2)
    # Of two images, a quarter of the draws has the first one twice, a quarter the second one.
    moved = [44 / 50 - 40 / 50, 20 / 40 - 20 / 30]
    assert found.per_image.value == pytest.approx(np.mean(moved))
    assert found.per_image.interval == pytest.approx((moved[1], moved[0]))
    assert found.dataset.value == pytest.approx(64 / 90 - 60 / 80)
    assert found.dataset.interval == pytest.approx((moved[1], moved[0]))
    assert found.classes[1] == found.per_image
    assert found.classes[0].first == pytest.approx((140 / 150 + 160 / 170) / 2)
    assert found.per_image.better == 0
    turned = paired_differences(other, first, [1])
    assert turned.per_image.interval == pytest.approx((-moved[0], -moved[1]))


def test_intervals_are_those_of_resampling_both_networks_together():
    generator = torch.Generator().manual_seed(3)
    first, other = (torch.randint(0, 50, (30, 3, 3), generator=generator) for _ in range(2))
    first[:9, 2] = 0  # nothing there, and nothing predicted: no Dice
    other[5:12, 2] = 0
    found = paired_differences(first, other, [1, 2])
    tp, fp, fn = torch.stack([first, other]).double().unbind(-1)
    dice = (2 * tp / (2 * tp + fp + fn)).numpy()  # (2, N, K)
    means = {1: [], 2: [], 'mean': [], 'pooled': []}
    for drawn in resamples(30):
        for k in (1, 2):
            means[k].append(np.diff(np.nanmean(dice[:, drawn, k], axis=1)))
        means['mean'].append(np.diff(np.nanmean(np.nanmean(dice[:, drawn, 1:], axis=2), axis=1)))
        a, b, c = (part[:, drawn].sum(axis=1)[:, 1:] for part in (tp, fp, fn))
        means['pooled'].append(np.diff((2 * a / (2 * a + b + c)).mean(axis=1).numpy()))
    # Of Student's t in a table: 2.0860 for 21 images, so many have class 2, and 2.0452 for 30.
    tails = {1: 0.018754, 2: 0.016280, 'mean': 0.018754, 'pooled': 0.018754}
    differences = (found.classes[1], found.classes[2], found.per_image, found.dataset)
    for difference, (name, tail) in zip(differences, tails.items(), strict=True):
        expected = np.quantile(means[name], [tail, 1 - tail])
        assert difference.interval == pytest.approx(expected, abs=1e-4)


def test_a_class_of_one_image_and_one_image_have_no_interval():
    one = paired_differences(counts((20, 5, 5)), counts((22, 1, 5)), [1])
    assert one.per_image.value == pytest.approx(44 / 50 - 40 / 50)
    assert one.per_image.interval is one.dataset.interval is None
    assert one.per_image.better == 0
    alone = paired_differences(counts((20, 5, 5), (0, 0, 0)), counts((22, 1, 5), (0, 0, 0)), [1])
    assert alone.per_image.interval is None
    nothing = paired_differences(counts((0, 0, 0)), counts((0, 0, 0)), [1])
    assert nothing.per_image == nothing.dataset == Difference(None, None, None)
    assert nothing.per_image.value is None


def test_what_one_network_sees_where_there_is_nothing_counts_against_it():
    empty, seen = (0, 0, 0), (0, 7, 0)
    first = counts((20, 5, 5), (20, 5, 5), empty)
    other = counts((20, 5, 5), (20, 5, 5), seen)
    masks = MaskEncoding([0, 255])
    found = compare_counts(fully(first), fully(other), Pairing('A', 'B', 3), masks)
    assert found['per_image']['first'] == pytest.approx(40 / 50)
    assert found['per_image']['other'] == pytest.approx(2 / 3 * 40 / 50)
    assert found['images'][0] == {'image': '02', 'first': None, 'other': 0.0}


def test_images_are_compared_by_name_whatever_their_order():
    pixels = counts((20, 5, 5), (10, 5, 5), (22, 1, 5))
    turned = fully(pixels[[2, 0, 1]], ['02', '00', '01'])
    pairing, masks = Pairing('A', 'B', 3), MaskEncoding([0, 255])
    found = compare_counts(fully(pixels), turned, pairing, masks)
    assert found['better'] is None
    assert found['per_image']['interval'] == (0, 0)
    assert all(row['first'] == row['other'] for row in found['images'])


@pytest.mark.parametrize(
    ('first', 'other', 'interval', 'words'),
    [
        (0.9, 0.92, (0.011, 0.029), f'B is better by 2.00 {BETTER} 1.10 to 2.90)'),
        (0.92, 0.9, (-0.03, -0.01), f'A is better by 2.00 {BETTER} 1.00 to 3.00)'),
        (0.9, 0.91, (-0.001, 0.02), 'no difference (95 % interval of B - A -0.10 to +2.00 points)'),
        (0.9, 0.90001, (9e-6, 2e-5), 'no difference'),  # 0.00 points
        (0.9, 0.9, (-1e-17, 1e-17), 'no difference (95 % interval of B - A +0.00 to +0.00 points)'),
        (0.9, 0.95, None, 'not known'),
    ],
)  # fmt: skip
def test_the_verdict_in_words(first, other, interval, words):
    assert describe(Difference(first, other, interval), Pairing('A', 'B', 6)).startswith(words)


def test_five_images_are_too_few_to_rule_out_chance():
    difference = Difference(0.9, 0.92, (0.01, 0.03))
    few = 'images are too few to rule out chance'
    assert f'5 {few}' in describe(difference, Pairing('A', 'B', 5))
    assert few not in describe(difference, Pairing('A', 'B', 6))


def test_the_planted_better_network_is_found_and_two_equal_ones_do_not_differ(discs, capsys):
    found = compared('wrong.pth', 'right.pth', 'wrong.pth')
    better, equal = found['comparisons']
    assert (better['better'], equal['better']) == ('B', None)
    out = capsys.readouterr().out
    assert re.search(r'B against A: B is better by \d+\.\d\d points of Dice \(95 % interval', out)
    assert 'C against A: no difference (95 % interval of C - A +0.00 to +0.00 points)' in out
    assert max(map(len, out.splitlines())) <= 80
    low, high = better['per_image']['interval']
    assert 0.05 < low < better['per_image']['difference'] < high


@pytest.mark.slow
def test_each_network_has_the_scores_it_has_alone_at_its_own_scale(discs):
    model = brightness_network()
    save('half.pth', model, scale=0.5, mask_values=[0, 255])
    found = compared('right.pth', 'half.pth', '--csv', 's.csv')
    assert [row['scale'] for row in found['models']] == [1, 0.5]
    for row in found['models']:
        options = ['-m', row['model'], *COMPARE[:-1], '--json', 'one.json', '--csv', 'one.csv']
        assert evaluate.main(options) == 0
        alone = json.loads(Path('one.json').read_text())
        assert {name: row[name] for name in alone} == alone
        with open('one.csv') as one, open('s.csv') as both:  # noqa: PTH123
            rows = [r for r in csv.DictReader(both) if r.pop('model') == row['model']]
            assert rows == list(csv.DictReader(one))
    full, half = (row['multiply_adds'] for row in found['models'])
    assert (full, half) == (model.multiply_adds((48, 64)), model.multiply_adds((24, 32)))
    assert all(row['milliseconds'] > 0 for row in found['models'])
    assert {row['parameters'] for row in found['models']} == {
        sum(p.numel() for p in model.parameters())
    }


def test_networks_of_one_output_and_of_two_can_be_compared(discs):
    threshold_network('one.pth', 0.5, n_classes=1)
    assert compared('right.pth', 'one.pth')['comparisons'][0]['better'] is None


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ('right.pth', ['--compare', 'from 2 to 26', 'found 1', '-m']),
        ('right.pth ' * 27, ['found 27']),
        ('right.pth wrong.pth --at-scale', ['--at-scale', 'Leave it out']),
        ('right.pth wrong.pth --threshold-sweep', ['--threshold-sweep', 'Leave it out']),
        ('right.pth wrong.pth --instances', ['--instances', 'Leave it out']),
        ('right.pth wrong.pth --surface-distances', ['--surface-distances', 'Leave it out']),
        ('right.pth none.pth', ['none.pth does not exist']),
        ('right.pth wrong.pth --csv no/s.csv', ['no/s.csv', 'no folder no']),
        ('right.pth inverted.pth', ['inverted.pth has other classes than right.pth', 'background']),
        ('right.pth ignoring.pth', ['ignoring.pth has other classes than right.pth', '[7]']),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_scored(
    discs, monkeypatch, capsys, options, words
):
    monkeypatch.setattr(scoring, 'count_dataset', None)
    for name, others in (('inverted', {'background': 1}), ('ignoring', {'ignore': [7]})):
        encoding = MaskEncoding([0, 255], **others)
        save(f'{name}.pth', brightness_network(), **encoding.to_checkpoint())
    assert evaluate.main([*COMPARE, *options.split()]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith('error: ')
    assert len(errors.splitlines()) == 1
    assert all(word in errors for word in words), errors


def test_a_network_of_more_classes_is_refused_although_it_fits_the_masks(folder, capsys):
    data_set(folder, 2, values=(0, 1))
    save('two.pth', brightness_network(), mask_values=[0, 1])
    save('three.pth', brightness_network(3), mask_values=[0, 1, 2])
    assert evaluate.main([*COMPARE, 'two.pth', 'three.pth']) == 2
    assert 'three.pth has other classes than two.pth: 3 classes' in capsys.readouterr().err


def test_an_error_about_the_masks_names_the_network_that_does_not_fit_them(folder, capsys):
    data_set(folder, 2, values=(0, 1, 2))
    save('three.pth', brightness_network(3), mask_values=[0, 1, 2])
    save('two.pth', brightness_network(), mask_values=[0, 1])
    assert evaluate.main([*COMPARE, 'three.pth', 'two.pth']) == 2
    assert 'error: with two.pth: masks hold 3 distinct values' in capsys.readouterr().err


def test_model_and_compare_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.get_args(['-m', 'MODEL.pth', '--compare', 'a.pth', 'b.pth'])
    assert stop.value.code == 2
    assert 'not allowed with' in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_shows_verdicts_figures_and_where_the_networks_differ(discs):
    found = compared('wrong.pth', 'right.pth', 'wrong.pth', '--report', 'r', '--worst', '2')
    page = Path('r/index.html').read_text(encoding='utf-8')
    texts = check_self_contained(page).texts
    better = found['comparisons'][0]
    assert f'B against A: {better["verdict"]}' in texts
    for value in (better['per_image']['other'], better['dataset']['first']):
        assert f'{value:.4f}' in texts
    assert f'{found["models"][0]["parameters"]:,}' in texts
    headings = re.findall('<h3>(disc.*?): (.*?) points</h3>', page)
    assert [name for name, _ in headings] == [row['image'] for row in better['images'][:2]]
    images = re.findall(r'alt="([^"]*)" src="data:image/png', page)
    assert len(images) == 2 * 4  # the equal pair has none
    dice = [better['images'][0][name] for name in ('first', 'other')]
    assert [alt.rpartition(' points: ')[2] for alt in images[:4]] == [
        'image', 'truth', *(f'errors of {k}: Dice {d:.4f}' for k, d in zip('AB', dice, strict=True))
    ]  # fmt: skip
    assert 'No image has another Dice.' in texts
