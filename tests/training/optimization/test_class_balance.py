"""Class weights and the per-class Dice loss equal hand values, in both kinds of network."""

import math

import pytest
import torch
from torch.nn import functional as F

from utils.masks.encoding import IGNORE
from utils.runtime.errors import UserError
from utils.training.optimization.loss import loss_weights, segmentation_loss

# Three pixels of class 0 and one of class 1; the logits are 0, so that every probability is 1/2.
MASKS = torch.tensor([[[0, 0], [0, 1]]])


def test_weights_make_the_entropy_a_weighted_mean():
    # One wrong-ish logit pair: pixel of class 1 has logits (0, 0), the others (2, 0).
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0] = torch.tensor([[2.0, 2.0], [2.0, 0.0]])
    easy, hard = math.log(1 + math.exp(-2)), math.log(2)
    weighted = segmentation_loss(logits, MASKS, class_weights=torch.tensor([1.0, 3.0]))
    plain = segmentation_loss(logits, MASKS)
    expected = (3 * easy + 3 * hard) / 6 - (3 * easy + hard) / 4
    assert (weighted - plain).item() == pytest.approx(expected, abs=1e-6)


def test_weights_of_a_binary_network_are_of_background_and_foreground():
    logits = torch.tensor([[[[-2.0, -2.0], [-2.0, 0.0]]]])
    easy, hard = math.log(1 + math.exp(-2)), math.log(2)
    weighted = segmentation_loss(logits, MASKS, class_weights=torch.tensor([1.0, 3.0]))
    expected = (3 * easy + 3 * hard) / 6 - (3 * easy + hard) / 4
    assert (weighted - segmentation_loss(logits, MASKS)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('k', [1, 2])
def test_per_class_dice_by_hand(k):
    # Dice of class 0: 2 * 1.5 / (2 + 3) = 0.6; of class 1: 2 * 0.5 / (2 + 1) = 1/3.
    loss = segmentation_loss(torch.zeros(1, k, 2, 2), MASKS, per_class=True)
    assert loss.item() == pytest.approx(math.log(2) - math.log(0.6 / 3) / 2, abs=1e-6)


def test_a_class_that_the_batch_does_not_hold_is_left_out_of_the_dice_loss():
    # Dice of class 0: 2 * 1 / (4/3 + 3) = 6/13; of class 1: 2 * 1/3 / (4/3 + 1) = 2/7.
    loss = segmentation_loss(torch.zeros(1, 3, 2, 2), MASKS, per_class=True)  # nothing of class 2
    assert loss.item() == pytest.approx(math.log(3) - math.log(6 / 13 * 2 / 7) / 2, abs=1e-6)


@pytest.mark.parametrize('k', [1, 2])
@pytest.mark.parametrize('pixels', [1, 100])
def test_an_unknown_class_pulls_as_hard_however_rare_and_unlikely_it_is(k, pixels):
    """Of two classes, each has half the weight; the gradient of 1 - Dice is under 0.0001 here."""
    masks = torch.zeros(1, 100, 100, dtype=torch.uint8)
    masks.view(-1)[:pixels] = 1
    logits = torch.zeros(1, k, 100, 100)
    logits[:, -1] = -10.0
    pulls = []
    for dice in (True, False):
        leaf = logits.clone().requires_grad_()
        segmentation_loss(leaf, masks, per_class=True, dice=dice).backward()
        pulls.append(leaf.grad[0, -1].flatten()[:pixels].sum())
    assert (pulls[1] - pulls[0]).item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize('k', [1, 3])
def test_ignored_pixels_count_in_neither(k):
    logits = torch.linspace(-2, 2, k * 4).view(1, k, 2, 2)
    options = {'class_weights': torch.arange(1.0, max(k, 2) + 1), 'per_class': True}
    padded = segmentation_loss(
        F.pad(logits, [0, 2], value=5.0), F.pad(MASKS, [0, 2], value=IGNORE), **options
    )
    torch.testing.assert_close(padded, segmentation_loss(logits, MASKS, **options))
    empty = torch.full((1, 2, 2), IGNORE)
    assert segmentation_loss(logits, empty, **options).isfinite()


def test_auto_weights_go_with_one_over_the_root_of_the_share_and_average_to_one():
    weights = loss_weights('auto', [0.81, 0.18, 0.01])
    assert weights[2] / weights[0] == pytest.approx(9)
    assert sum(w * s for w, s in zip(weights, [0.81, 0.18, 0.01], strict=True)) == pytest.approx(1)
    assert loss_weights(None, [0.5, 0.5]) is None
    assert loss_weights('1,2.5', [0.5, 0.5]) == [1, 2.5]


@pytest.mark.parametrize('option', ['1', '1,2,3', 'a,b', '1,-1', 'nan,1', '1,inf', ''])
def test_other_weights_are_refused_saying_how_many_are_expected(option):
    with pytest.raises(UserError, match='expected auto, or 2 numbers of at least 0'):
        loss_weights(option, [0.5, 0.5])


def test_weights_of_nothing_but_zeros_are_refused():
    with pytest.raises(UserError, match='--loss-weights 0,0: at least one must be over 0'):
        loss_weights('0,0', [0.5, 0.5])
