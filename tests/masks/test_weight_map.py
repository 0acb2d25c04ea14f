"""Border weight map: distances, cells, loss and cache."""

import numpy as np
import pytest
import torch
from PIL import Image
from running import run_train, same_weights
from torch.nn import functional as F

from utils.data.cache.stores import MemoryStore, StoredItems, record_ends
from utils.data.dataset import SegmentationDataset
from utils.evaluation.instances import count_merged
from utils.inference.checkpoint import load_checkpoint
from utils.masks.classes import MaskOptions
from utils.masks.components import label_components
from utils.masks.weight_map import border_weights, from_bytes, to_bytes, touching
from utils.training.optimization.loss import segmentation_loss

TWO_CELLS = np.array([[1, 1, 0, 0, 1, 1]] * 3, dtype=np.uint8)


def by_brute_force(cells, w0=10.0, sigma=5.0):
    """Each pixel's distance to each pixel of each cell's border, one after the other."""
    height, width = cells.shape
    borders = {}
    for row in range(height):
        for column in range(width):
            around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            inside = [(r, c) for r, c in around if 0 <= r < height and 0 <= c < width]
            if cells[row, column] and any(cells[p] != cells[row, column] for p in inside):
                borders.setdefault(cells[row, column], []).append((row, column))
    expected = np.zeros(cells.shape)
    for row in range(height):
        for column in range(width):
            far = [
                min(np.hypot(row - r, column - c) for r, c in places) for places in borders.values()
            ]
            if len(far) > 1:
                one, two = sorted(far)[:2]
                expected[row, column] = w0 * np.exp(-((one + two) ** 2) / (2 * sigma**2))
    return expected


@pytest.mark.parametrize('seed', range(4))
def test_the_map_equals_a_brute_force_computation(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, (3, 5)).repeat(6, axis=0).repeat(6, axis=1)  # some touch
    values[rng.random(values.shape) < 0.1] = 0
    cells = label_components(values)
    assert cells.max() > 3
    assert np.abs(border_weights(cells) - by_brute_force(cells)).max() < 1e-4
    assert np.abs(border_weights(cells, 3.0, 1.5) - by_brute_force(cells, 3.0, 1.5)).max() < 1e-4


def test_between_two_cells_the_weight_is_that_of_the_gaps_width():
    weights = border_weights(label_components(TWO_CELLS))
    # beside one cell, two pixels from the other: d1 + d2 = 3 in the gap, 0 + 3 at the borders
    assert weights[1, 1:5] == pytest.approx([10 * np.exp(-9 / 50)] * 4)
    assert weights[1, 0] == pytest.approx(10 * np.exp(-25 / 50))  # 1 + 4


def test_one_cell_or_none_has_no_weights():
    assert not border_weights(np.zeros((4, 5), dtype=int)).any()
    assert not border_weights(label_components(TWO_CELLS[:, :3])).any()


def test_touching_cells_are_set_apart_by_one_pixel():
    cells = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 3, 3, 0]])
    assert touching(cells).tolist() == [[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_bytes_hold_the_weights_to_a_two_hundredth_of_the_largest():
    weights = np.linspace(0, 10, 999, dtype=np.float32)
    found = from_bytes(torch.from_numpy(to_bytes(weights))).numpy()
    assert np.abs(found - weights).max() < 0.5 * 10 / 255 + 1e-5


def test_the_weighted_cross_entropy_is_the_sum_over_pixels_by_their_number():
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])  # (1, 2, 1, 2)
    masks, border = torch.tensor([[[0, 1]]]), torch.tensor([[[0.0, 3.0]]])
    entropy = F.cross_entropy(logits, masks, reduction='none')[0, 0]
    expected = (entropy[0] + 4 * entropy[1]) / 2
    assert segmentation_loss(logits, masks, border=border, dice=False) == pytest.approx(expected)
    doubled = segmentation_loss(
        logits, masks, border, class_weights=torch.tensor([1.0, 2.0]), dice=False
    )
    assert doubled == pytest.approx((entropy[0] + 5 * entropy[1]) / 2)
    masks[0, 0, 1] = 255  # ignored
    found = segmentation_loss(logits, masks, border=border, dice=False)
    assert found == pytest.approx(entropy[0])


@pytest.fixture
def cells(folder):
    """A grey picture of two cells and their mask of 0 and 255, and one of numbers that touch."""
    for name in ('imgs', 'masks', 'numbers'):
        (folder / name).mkdir()
    for k in range(3):
        mask = np.zeros((32, 48), dtype=np.uint8)
        mask[4 + k : 28, 6:22] = mask[4 : 28 - k, 24:42] = 255
        Image.fromarray(mask // 3 + 20).save(folder / f'imgs/{k}.png')
        Image.fromarray(mask).save(folder / f'masks/{k}.png')
        mask[4 + k : 28, 6:22], mask[4 : 28 - k, 22:42] = 1, 2
        Image.fromarray(mask).save(folder / f'numbers/{k}.png')
    return folder


def test_items_have_the_map_of_their_cells_and_a_store_keeps_it(cells):
    dataset = SegmentationDataset('imgs', 'masks', weight_map=True)
    item = dataset[0]
    expected = border_weights(label_components(item['mask'].numpy()))
    assert item['border'].dtype == torch.uint8
    assert np.array_equal(item['border'], to_bytes(expected))
    assert item['border'].max() > 200
    store = StoredItems(dataset, MemoryStore(record_ends(dataset)[-1], shared=False))
    made, read = store[0], store[0]
    assert all(torch.equal(item[name], one[name]) for name in item for one in (made, read))
    assert record_ends(dataset)[0] > record_ends(SegmentationDataset('imgs', 'masks'))[0]


def test_numbers_of_cells_that_touch_are_set_apart_under_binarize(cells):
    wanted = MaskOptions(binarize=0)
    plain = SegmentationDataset('imgs', 'numbers', wanted=wanted)[0]['mask']
    item = SegmentationDataset('imgs', 'numbers', wanted=wanted, weight_map=True)[0]
    assert label_components(plain.numpy()).max() == 1
    assert label_components(item['mask'].numpy()).max() == 2
    assert item['border'][10, 21] > 200


def test_a_map_is_computed_once(cells, monkeypatch):
    calls = []
    monkeypatch.setattr(
        'utils.data.dataset.border_weights', lambda c: calls.append(1) or border_weights(c)
    )
    assert (
        run_train('-e', '3', '-v', '0', '--weight-map', '--cache', 'ram', '--augment', 'flip') == 0
    )
    assert len(calls) == 3


@pytest.mark.slow
def test_options_change_the_weights(cells):
    small = ['-e', '1', '-v', '0', '--base-channels', '2', '--augment', 'none']
    assert run_train(*small, '--output', 'a') == 0
    for option in (['--weight-map'], ['--dice-loss', 'none'], ['--augment', 'elastic']):
        assert run_train(*small, *option, '--output', 'b') == 0
        assert not same_weights('a/last.pth', 'b/last.pth')


@pytest.mark.slow
def test_the_papers_recipe_makes_its_network_with_the_map_unless_told_not_to(cells, capsys):
    small = ['-e', '1', '-v', '0', '--base-channels', '2', '--recipe', 'paper']
    assert run_train(*small, '--output', 'a') == 0
    assert 'epochs 1 (3 steps), batch size 1, learning rate 0.001' in capsys.readouterr().out
    last = load_checkpoint('a/last.pth')
    kinds = {'padding': 'valid', 'norm': 'none', 'dropout': 0.5}
    assert last.model.items() >= kinds.items()
    groups = last.training['optimizer']['param_groups']
    assert (groups[0]['momentum'], groups[0]['lr']) == (0.99, 1e-3)
    for options in (['--no-weight-map'], ['--tile', '20'], ['--augment', 'none']):
        assert run_train(*small, *options, '--output', 'b') == 0
        assert not same_weights('a/last.pth', 'b/last.pth')
    assert run_train(*small, '--padding', 'same', '--norm', 'batch', '--output', 'b') == 0
    assert load_checkpoint('b/last.pth').model.keys() & kinds.keys() == {'dropout'}


def test_merged_cells_are_those_that_share_a_predicted_piece():
    truth = np.array([[1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1]])
    assert count_merged(truth, truth) == (4, 0, 4)
    joined = np.array([[1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0]])
    assert count_merged(joined, truth) == (3, 2, 4)
    touched = np.array([[1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1]])
    assert count_merged(touched, truth) == (3, 0, 4)
    assert count_merged(truth * 0, truth) == (0, 0, 4)
