"""evaluate.py: scores by hand, its files, its options and its errors."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from drawing import data_set
from networks import brightness_network, save
from PIL import Image
from running import rows
from test_scoring import DATA, scores

import evaluate
from utils.data.dataloader import make_dataloader
from utils.data.dataset import SegmentationDataset
from utils.evaluation import scoring
from utils.evaluation.scoring import count_at_scale
from utils.inference import predictor as predictors
from utils.inference import tiling
from utils.inference.tiling import Tiling
from utils.runtime import memory
from utils.runtime.precision import MixedPrecision

CPU = torch.device('cpu')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three pictures of 32 x 32, white on the right half; the truth is right for the first only."""
    monkeypatch.chdir(tmp_path)
    save('m.pth', brightness_network(), mask_values=[0, 1])
    for name in ('imgs', 'masks'):
        (tmp_path / name).mkdir()
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    for k, white_from in enumerate((16, 24, 8)):
        Image.fromarray(pixels).save(f'imgs/{k}.png')
        mask = np.zeros((32, 32), np.uint8)
        mask[:, white_from:] = 1
        Image.fromarray(mask).save(f'masks/{k}.png')
    return tmp_path


def test_scores_by_hand(folder, capsys):
    # predicted 16 columns of each; truth 16, 8, 24 columns: right 16, 8, 16
    found = scores()
    assert found['dice_dataset'] == pytest.approx(2 * 40 / (48 + 48))
    assert found['dice_per_image'] == pytest.approx((1 + 16 / 24 + 32 / 40) / 3)
    assert found['precision_dataset'] == pytest.approx(40 / 48)
    assert found['recall_per_image'] == pytest.approx((1 + 1 + 16 / 24) / 3)
    assert found['dice_reference'] == pytest.approx(found['dice_per_image'])
    out = capsys.readouterr().out
    assert 'm.pth: 3 images at scale 1' in out
    assert max(map(len, out.splitlines())) <= 80


def test_dice_reference_drops_the_last_incomplete_batch(folder):
    assert scores('-b', '2')['dice_reference'] == pytest.approx((1 + 16 / 24) / 2)
    assert scores('-b', '4')['dice_reference'] is None


def test_csv_has_a_row_for_each_image_and_class(folder):
    scores('--csv', 's.csv')
    found = rows('s.csv')
    assert [(row['image'], row['class']) for row in found] == [(n, k) for n in '012' for k in '01']
    assert float(found[3]['dice']) == pytest.approx(16 / 24)


def test_scale_and_threshold_reach_the_network(folder, capsys):
    assert scores('-s', '0.5')['scale'] == 0.5
    Image.new('RGB', (32, 32), (150, 150, 150)).save('imgs/0.png')  # probability 0.85
    assert scores('-t', '0.9')['dice_dataset'] != scores('-t', '0.8')['dice_dataset']


def test_masks_of_other_values_are_matched_by_order_with_a_note(folder, capsys):
    expected = scores()
    for path in (folder / 'masks').iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)
    assert scores()['dice_dataset'] == expected['dice_dataset']
    assert 'taken in this order' in capsys.readouterr().out


def test_amp_runs_the_network_in_bfloat16(folder, monkeypatch):
    seen = []
    real = predictors.class_probabilities
    monkeypatch.setattr(
        predictors, 'class_probabilities', lambda logits: seen.append(logits.dtype) or real(logits)
    )
    scores('--amp')
    assert str(seen[0]) == 'torch.bfloat16'


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ('--json no/s.json', ['no/s.json', 'no folder no']),
        ('--csv taken', ['taken is a folder']),
        ('--report no/r', ['no/r', 'no folder no']),
        ('--report m.pth', ['m.pth is a file']),
        ('-m none.pth', ['none.pth does not exist']),
        ('-s 0.2', ['too small', 'scale 0.2']),
        ('-m four.pth -t 0.5', ['--mask-threshold', '1 or 2 classes', 'has 4']),
        ('-m four.pth --threshold-sweep', ['--threshold-sweep', '1 or 2 classes', 'has 4']),
    ],
)
def test_a_mistake_exits_2_with_what_was_found_before_anything_is_scored(
    folder, monkeypatch, capsys, options, words
):
    monkeypatch.setattr(scoring, 'count_dataset', None)
    (folder / 'taken').mkdir()
    save('four.pth', brightness_network(4), mask_values=[0, 1, 2, 3])
    assert evaluate.main([*DATA, *options.split()]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith('error: ')
    assert all(word in errors for word in words), errors


def test_importing_evaluate_and_asking_for_help_needs_neither_torch_nor_numpy():
    code = (
        'import sys; sys.modules["torch"] = sys.modules["numpy"] = None\n'
        'import evaluate; evaluate.get_args(["-h"])'
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.startswith('usage: ')


def test_the_model_is_left_in_the_mode_it_was_found(folder):
    loader = make_dataloader(SegmentationDataset('imgs', 'masks'), [[0], [1, 2]], 0, CPU)
    for training in (True, False):
        model = brightness_network().train(training)
        counts = count_at_scale(model, loader, MixedPrecision(CPU, amp=False))
        assert counts.shape == (3, 2, 3)
        assert model.training == training


@pytest.mark.parametrize('classes', [1, 2, 3])
@pytest.mark.parametrize(
    ('images', 'seen'), [(2, {(2, 64, 96)}), (1, {(1, 64, 96)}), (0.99, {(1, 64, 64)})]
)
def test_images_that_memory_would_not_hold_are_scored_one_by_one_or_by_tiles(
    folder, monkeypatch, classes, images, seen
):
    data_set(folder, 2, size=(96, 64), values=(0, 1))
    dataset = SegmentationDataset('imgs', 'masks', mask_values=list(range(max(2, classes))))
    loader = make_dataloader(dataset, [[3, 4]], 0, CPU)
    model, shapes = brightness_network(classes), []
    expected = count_at_scale(model, loader, MixedPrecision(CPU, amp=False))
    monkeypatch.setattr(memory, 'available_memory', lambda *_: int(images * 64 * 96 * 2 * 45))
    monkeypatch.setattr(tiling, 'SIDES', (64,))
    monkeypatch.setattr(tiling, 'Tiling', lambda side: Tiling(side, 16))
    model.register_forward_pre_hook(lambda _, x: shapes.append((len(x[0]), *x[0].shape[2:])))
    found = count_at_scale(model, loader, MixedPrecision(CPU, amp=False))
    assert torch.equal(found, expected)
    assert set(shapes) == seen
