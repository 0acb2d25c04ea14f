"""Classes that nearest neighbour loses at the scale of training."""

import json
import re

import numpy as np
import pytest
from drawing import pair_files
from running import run_train
from scenes import save_set

from utils.data import scan as scanning
from utils.data.dataset import SegmentationDataset
from utils.data.pairing.matching import Matching
from utils.data.scan import scan_pairs
from utils.masks.encoding import MaskEncoding

QUICK = ['-e', '1', '-b', '4', '--base-channels', '2']


def lines(count=4, every=8, start=0):
    """Lines of one pixel in every eighth row, which lie between the pixels taken at half size."""
    mask = np.zeros((64, 96), int)
    mask[start::every] = 1
    return [mask] * count


def test_a_class_that_vanishes_is_refused_with_a_scale_that_keeps_it(folder, capsys):
    save_set(folder, lines())
    assert run_train(*QUICK, '-s', '0.5') == 2
    err = capsys.readouterr().err
    assert 'class 1 has 2304 pixels (12 %) in the training masks and 0 (0 %)' in err
    (scale,) = re.findall(r': --scale (\S+)$', err, re.MULTILINE)
    assert 0.5 < float(scale) <= 1
    assert not (folder / 'checkpoints').exists()
    assert run_train(*QUICK, '-s', scale) == 0
    kept = SegmentationDataset('imgs', 'masks', float(scale))[0]['mask'].float().mean()
    assert kept >= 8 / 64 / 2
    assert ': --scale' not in capsys.readouterr().out


def test_only_training_masks_count_and_all_of_them_together(folder, capsys):
    save_set(folder, [*lines(3), *lines(1, start=1)])
    assert run_train(*QUICK, '-s', '0.5', '-v', '0') == 0
    assert ': --scale' not in capsys.readouterr().out
    (folder / 'v').mkdir()
    names = sorted(path.name for path in (folder / 'imgs').iterdir())
    for kind in ('imgs', 'masks'):
        (folder / 'v' / kind).mkdir()
        (folder / kind / names[3]).rename(folder / 'v' / kind / names[3])
    split = ['--val-images', 'v/imgs', '--val-masks', 'v/masks']
    assert run_train(*QUICK, '-s', '0.5', *split) == 2
    assert 'class 1 has' in capsys.readouterr().err


def test_a_class_that_loses_over_half_of_its_share_is_named(folder, capsys):
    masks = lines(4)
    masks[0] = masks[0].copy()
    masks[0][1, :40] = 1
    save_set(folder, masks)
    options = ['--check', '-s', '0.5', '--json', 'r.json']
    assert run_train(*options, '-v', '0') == 0
    assert re.search(r'note: class 1 has .* --scale \S+\n', capsys.readouterr().out)
    report = json.loads((folder / 'r.json').read_text())
    share, at_scale = (report['classes'][1][key] for key in ('share', 'share_at_scale'))
    assert share == pytest.approx((4 * 768 + 40) / (4 * 64 * 96))
    assert at_scale == pytest.approx(20 / (4 * 32 * 48))
    (proposal,) = report['proposals']
    assert run_train('--check', '-v', '0', *proposal.split(), '--json', 'r.json') == 0
    row = json.loads((folder / 'r.json').read_text())['classes'][1]
    assert row['share_at_scale'] >= row['share'] / 2


def test_strays_that_vanish_may_be_ignored(folder, capsys):
    masks = [np.zeros((64, 96), int) for _ in range(4)]
    for k, mask in enumerate(masks):
        mask[20:40, 10 + k : 50] = 255
    masks[1][0, 0] = 9
    save_set(folder, masks)
    assert run_train(*QUICK, '-s', '0.5', '-v', '0') == 2
    err = capsys.readouterr().err
    found = re.findall(r': (--.*)$', err, re.MULTILINE)
    assert '--ignore-value 9' in found
    assert run_train(*QUICK, '-s', '0.5', '-v', '0', '--ignore-value', '9') == 0


def test_the_scan_counts_at_the_scale_as_training_reads_masks(folder):
    rng = np.random.default_rng(0)
    for form in ('grey', 'palette', 'colour'):
        save_set(folder, [rng.integers(0, 3, (33, 47)) for _ in range(2)], form)
        for scale in (0.3, 0.5, 1.0):
            dataset = SegmentationDataset('imgs', 'masks', scale)
            for _ in range(2):  # the second time from the cache
                metadata = SegmentationDataset('imgs', 'masks', scale).scan.metadata
                for k, entry in enumerate(metadata):
                    found = np.bincount(dataset[k]['mask'].numpy().ravel(), minlength=3)
                    counts = [entry.mask.at_scale.get(v, 0) for v in dataset.mask_values]
                    assert counts == found.tolist()


def test_the_second_scan_of_a_scale_reads_nothing(folder, monkeypatch):
    pairs = pair_files(*save_set(folder, lines(2)))
    read = []
    real = scanning.read_mask_metadata
    monkeypatch.setattr(scanning, 'read_mask_metadata', lambda *a: read.append(1) or real(*a))
    for scale in (0.5, 0.25, 0.5, 0.25):
        scan_pairs(Matching(pairs, [], ''), MaskEncoding([]), False, False, scale=scale)
    assert len(read) == 4
