"""Figures of two networks on the same images: scores with intervals, what is lost, the table."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import brightness_network

from utils.evaluation.intervals import bootstrap_interval
from utils.masks.encoding import MaskEncoding
from utils.pruning.figures import loss_of_dice, network_figures, table, to_json
from utils.runtime.precision import MixedPrecision

CPU = MixedPrecision(torch.device('cpu'), amp=False)


@pytest.fixture
def data():
    """Pictures of which some columns are bright, where the mask lacks some of these columns."""
    batches = []
    for columns, wrong in ((16, 0), (24, 8), (32, 0), (24, 4), (32, 16)):
        image, mask = torch.zeros(3, 32, 32, dtype=torch.uint8), torch.zeros(32, 32)
        image[..., :columns] = 255
        mask[:, : columns - wrong] = 1
        batches.append({'image': image[None], 'mask': mask[None].to(torch.uint8)})
    masks = MaskEncoding([0, 255])
    return SimpleNamespace(
        validation_loader=batches, dataset=SimpleNamespace(masks=masks, decode='reduced')
    )


def test_scores_by_hand_with_intervals_over_the_images(data, monkeypatch):
    found = network_figures(brightness_network(), (32, 32), data, CPU)
    found_columns, true = np.array([16, 24, 32, 24, 32]), np.array([16, 16, 32, 20, 16])
    each = 2 * true / (found_columns + true)  # what is true is found
    assert found['each'] == pytest.approx(each, abs=0.02)  # one column of outline is uncertain
    assert found['dice_per_image'] == pytest.approx(found['each'].mean())
    assert found['dice_interval'] == pytest.approx(bootstrap_interval(found['each']))
    assert found['iou_per_image'] == pytest.approx((true / found_columns).mean(), abs=0.03)
    assert found['iou_interval'][0] < found['iou_per_image'] < found['iou_interval'][1]
    assert found['dice'] == pytest.approx(2 * 100 / (100 + 128), abs=0.02)
    assert list(found['classes'].values()) == [found['dice']]
    assert found['milliseconds'] > 0
    data.validation_loader = None
    empty = network_figures(brightness_network(), (32, 32), data, CPU)
    assert set(empty) == set(found) and empty['dice'] is None
    assert loss_of_dice(empty, empty) is None
    assert 'lost' not in table({'before': empty, 'after': empty})


def column(each, **others):
    each = np.array(each)
    found = {'parameters': 12345, 'multiply_adds': 678900, 'milliseconds': 4.56, 'widths': [8]}
    found |= {'dice': 0.9, 'iou': 0.8, 'dice_per_image': float(each.mean()), 'iou_per_image': 0.75}
    found |= {'dice_interval': bootstrap_interval(each), 'iou_interval': (0.7, 0.79)}
    return found | {'classes': {'value 255': 0.9}, 'each': each} | others


def test_what_is_lost_is_a_difference_of_the_same_images():
    before, after = column([0.9, 0.5, 0.7]), column([0.89, 0.48, 0.7])
    lost = loss_of_dice(before, after)
    assert lost['mean'] == pytest.approx(0.01)
    assert lost['interval'] == pytest.approx(bootstrap_interval(np.array([0.01, 0.02, 0])))
    width = before['dice_interval'][1] - before['dice_interval'][0]
    assert lost['interval'][1] - lost['interval'][0] < width / 5
    nothing = column([np.nan, np.nan])
    assert loss_of_dice(nothing, nothing) is None


def test_the_table_has_a_column_for_each_network_and_a_row_for_each_of_several_classes():
    before, after = column([0.9, 0.7]), column([0.8, 0.7], classes={'value 255': 0.8})
    lines = table({'before': before, 'after': after}).splitlines()
    assert lines[0].split() == ['before', 'after']
    text = '\n'.join(lines)
    assert '12,345' in text and '678,900' in text and '4.6' in text
    assert '0.7000 to 0.9000' in text and '0.7000 to 0.7900' in text
    assert lines[-1] == 'lost: 5.00 points of Dice an image, 95 % interval 0.00 to 10.00'
    assert 'Dice of' not in text and 's of training' not in text
    classes = {'body': 0.95, 'wheels': 0.85}
    figures = {name: column([0.9, 0.7], classes=classes) for name in ('before', 'after', 'rival')}
    figures['after']['seconds'], figures['rival']['seconds'] = 12.34, None
    lines = table(figures).splitlines()
    rows = {line[:24].strip(): line[24:].split() for line in lines}
    assert rows['Dice of wheels'] == ['0.8500'] * 3
    assert rows['s of training'] == ['-', '12.3', '-']


def test_the_json_has_plain_values():
    import json

    before = column([0.9, 0.7])
    found = json.loads(json.dumps(to_json({'before': before, 'after': before})))
    assert found['lost'] == {'mean': 0.0, 'interval': [0.0, 0.0]}
    assert 'each' not in found['before'] and found['after']['dice_interval'] == [0.7, 0.9]
