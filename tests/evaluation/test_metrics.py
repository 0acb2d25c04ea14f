"""Scores equal counts done by hand, whatever the batch size."""

import pytest
import torch

from utils.evaluation import metrics
from utils.evaluation.dice import dice_coeff, dice_reference, multiclass_dice_coeff
from utils.evaluation.metrics import count_pixels, count_thresholds, histogram, summarize
from utils.evaluation.scoring import Counts
from utils.evaluation.summary import csv_rows, format_table
from utils.masks.encoding import IGNORE

TRUTH = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 1]]])
PREDICTED = torch.tensor([[[0, 1, 1, 1]], [[0, 0, 0, 0]]])


def test_counts_by_hand():
    # image 0, class 1: two right, one too many; image 1, class 1: one missed
    counts = count_pixels(PREDICTED, TRUTH, 2)
    assert counts.tolist() == [[[1, 0, 1], [2, 1, 0]], [[3, 1, 0], [0, 0, 1]]]
    assert counts.dtype == torch.int64


@pytest.mark.parametrize('k', [2, 16, 100])
def test_counts_in_copies_as_on_a_gpu_equal_those_in_one(k, monkeypatch):
    torch.manual_seed(0)
    predicted, truth = torch.randint(0, k, (2, 3, 20, 30))
    truth[:, :2] = IGNORE
    probability = torch.rand(20, 30)
    plain = count_pixels(predicted, truth, k), count_thresholds(probability, truth[0].clamp(max=1))
    monkeypatch.setattr(metrics, 'copies_for', lambda device: 64)
    assert torch.equal(count_pixels(predicted, truth, k), plain[0])
    assert torch.equal(count_thresholds(probability, truth[0].clamp(max=1)), plain[1])


def test_neighbours_of_a_warp_count_in_copies_of_their_own(monkeypatch):
    seen = []
    add = torch.Tensor.scatter_add_

    def watched(counts, axis, values, ones):
        seen.append(values)
        return add(counts, axis, values, ones)

    monkeypatch.setattr(torch.Tensor, 'scatter_add_', watched)
    assert histogram(torch.zeros(1, 320, dtype=torch.int64), 6, 64).tolist() == [[320] + 5 * [0]]
    assert all(len(of.unique()) == 32 for of in seen[0].view(-1, 32))


def test_scores_by_hand():
    scores = summarize(count_pixels(PREDICTED, TRUTH, 2), [0, 255])
    assert scores['images'] == 2
    # all pixels together: tp 2, fp 1, fn 1
    assert scores['dice_dataset'] == pytest.approx(4 / 6)
    assert scores['iou_dataset'] == pytest.approx(2 / 4)
    assert scores['precision_dataset'] == pytest.approx(2 / 3)
    assert scores['recall_dataset'] == pytest.approx(2 / 3)
    # image 0: Dice 4/5, IoU 2/3; image 1: 0, 0
    assert scores['dice_per_image'] == pytest.approx(0.4)
    assert scores['iou_per_image'] == pytest.approx(1 / 3)
    background, foreground = scores['classes']
    assert (background['value'], foreground['value']) == (0, 255)
    assert background['dice_dataset'] == pytest.approx(8 / 10)
    assert foreground['share'] == pytest.approx(3 / 8)


def test_ignored_pixels_count_for_nothing():
    truth = torch.where(torch.tensor([[[False, True, False, False]]] * 2), IGNORE, TRUTH)
    counts = count_pixels(PREDICTED, truth, 2)
    assert counts.tolist() == [[[1, 0, 0], [2, 0, 0]], [[2, 1, 0], [0, 0, 1]]]


def test_uint8_masks_with_255_ignored_count_as_int64_ones():
    truth = torch.tensor([[[0, 1, IGNORE]]])
    predicted = torch.tensor([[[0, 1, 1]]])
    expected = count_pixels(predicted, truth, 2)
    assert torch.equal(count_pixels(predicted.byte(), truth.byte(), 2), expected)


def test_a_class_in_neither_truth_nor_prediction_is_left_out_and_not_scored_one():
    counts = count_pixels(PREDICTED, TRUTH, 3)
    scores = summarize(counts, [0, 1, 2])
    assert scores['classes'][2]['dice_dataset'] is None
    assert scores['classes'][2]['dice_per_image'] is None
    assert scores['dice_dataset'] == pytest.approx(4 / 6)  # of class 1 alone
    nothing = summarize(count_pixels(TRUTH * 0, TRUTH * 0, 2), [0, 1])
    assert nothing['dice_dataset'] is None
    assert nothing['dice_per_image'] is None


@pytest.mark.parametrize('batch', [1, 2, 3, 7])
def test_scores_do_not_depend_on_the_batch_size(batch):
    torch.manual_seed(0)
    truth, predicted = torch.randint(0, 3, (7, 5, 6)), torch.randint(0, 3, (7, 5, 6))
    parts = [
        count_pixels(predicted[i : i + batch], truth[i : i + batch], 3) for i in range(0, 7, batch)
    ]
    whole = summarize(count_pixels(predicted, truth, 3), [0, 1, 2])
    assert summarize(torch.cat(parts), [0, 1, 2]) == whole


@pytest.mark.parametrize(('k', 'batch'), [(2, 1), (2, 2), (3, 2), (3, 3)])
def test_dice_reference_equals_the_coefficients_averaged_over_whole_batches(k, batch):
    torch.manual_seed(1)
    truth, predicted = torch.randint(0, k, (7, 5, 6)), torch.randint(0, k, (7, 5, 6))
    truth[0] = predicted[0] = 0  # an absent class scores 1 there
    onehots = [
        torch.nn.functional.one_hot(m, k).permute(0, 3, 1, 2).double() for m in (predicted, truth)
    ]
    scores = []
    for first in range(0, 7 - batch + 1, batch):
        p, t = (o[first : first + batch, 1:] for o in onehots)
        score = multiclass_dice_coeff(p, t) if k > 2 else dice_coeff(p[:, 0], t[:, 0])
        scores.append(score.item())
    found = dice_reference(count_pixels(predicted, truth, k), batch)
    assert found == pytest.approx(sum(scores) / len(scores), abs=1e-9)


def test_dice_reference_of_less_than_a_batch_is_none():
    assert dice_reference(count_pixels(PREDICTED, TRUTH, 2), batch_size=3) is None


def test_csv_rows_name_image_class_counts_and_ratios():
    pixels, outlines = count_pixels(PREDICTED, TRUTH, 2), torch.zeros(2, 2, 4)
    rows = csv_rows(Counts(['a', 'b'], torch.zeros(2, 2), pixels, pixels, outlines), ['x', 'y'])
    named = [(row['image'], row['class'], row['name']) for row in rows]
    assert named == [('a', 0, 'x'), ('a', 1, 'y'), ('b', 0, 'x'), ('b', 1, 'y')]
    assert [rows[1][k] for k in ('tp', 'fp', 'fn')] == [2, 1, 0]
    assert rows[1]['precision'] == pytest.approx(2 / 3)
    assert rows[3]['precision'] is None  # nothing was predicted
    assert rows[1]['boundary_f'] is None  # no outlines


def test_the_table_fits_a_terminal_and_shows_what_is_missing_as_a_dash():
    table = format_table(summarize(count_pixels(PREDICTED, TRUTH, 3), [0, 1, [255, 0, 255]]))
    assert max(map(len, table.splitlines())) <= 80
    rows = [line.split() for line in table.splitlines()]
    assert rows[3] == ['value', '1', '0.6667', '0.5000', '0.6667', '0.6667',
                       '0.4000', '0.3333', '0.6667', '0.5000']  # fmt: skip
    assert rows[4:6] == [['value', '[255,', '0,', '255]'], ['-'] * 8]
    assert rows[6][:2] == ['foreground', '0.6667']
    two = format_table(summarize(count_pixels(PREDICTED, TRUTH, 2), [0, 1]))
    assert 'foreground' not in two  # it would be the row of value 1 again
