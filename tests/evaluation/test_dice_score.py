"""Dice equals the reference; the loss equals hand values in both modes and ignores padding."""

import math

import pytest
import torch
from reference import image, labels, load_json
from torch.nn import functional as F

from utils.evaluation.dice import dice_coeff, dice_loss, multiclass_dice_coeff
from utils.inference.logits import class_indices, class_probabilities
from utils.masks.encoding import IGNORE
from utils.training.optimization.loss import segmentation_loss

REFERENCE = load_json('dice.json')
SOFT = image('soft', (3, 17, 19))
HARD = labels('hard', (3, 17, 19), 2).float()
EMPTY = torch.zeros(3, 17, 19)
SOFTMAX = (image('logits', (2, 4, 11, 13)) * 4).softmax(dim=1)
ONEHOT = F.one_hot(labels('classes', (2, 11, 13), 4), 4).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('dice_coeff soft hard', lambda: dice_coeff(SOFT, HARD)),
        ('dice_coeff soft hard reduce_batch_first', lambda: dice_coeff(SOFT, HARD, True)),
        ('dice_coeff empty empty', lambda: dice_coeff(EMPTY, EMPTY)),
        ('dice_coeff empty hard', lambda: dice_coeff(EMPTY, HARD)),
        ('dice_loss binary soft hard', lambda: dice_loss(SOFT, HARD)),
        (
            'multiclass_dice_coeff softmax onehot',
            lambda: multiclass_dice_coeff(SOFTMAX, ONEHOT),
        ),
        (
            'multiclass_dice_coeff softmax onehot reduce_batch_first',
            lambda: multiclass_dice_coeff(SOFTMAX, ONEHOT, True),
        ),
        (
            'multiclass_dice_coeff without background',
            lambda: multiclass_dice_coeff(SOFTMAX[:, 1:], ONEHOT[:, 1:]),
        ),
        (
            'dice_loss multiclass softmax onehot',
            lambda: dice_loss(SOFTMAX, ONEHOT, multiclass=True),
        ),
    ],
)
def test_dice_equals_the_reference(name, value):
    assert value().item() == pytest.approx(REFERENCE[name], abs=1e-6)


def test_every_reference_value_of_dice_is_tested():
    (marks,) = [m for m in test_dice_equals_the_reference.pytestmark if m.name == 'parametrize']
    assert [name for name, _ in marks.args[1]] == list(REFERENCE)


def test_dice_of_one_mask_by_hand():
    # intersection 1, sizes 2 and 1: 2 * 1 / 3
    a, b = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    assert dice_coeff(a, b).item() == pytest.approx(2 / 3, abs=1e-6)


def test_dice_refuses_masks_of_different_shapes_naming_them():
    with pytest.raises(ValueError, match=r'shape \(1, 2, 2\) and \(2, 2\)'):
        dice_coeff(torch.zeros(1, 2, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r'takes \(N, H, W\) masks, got \(2, 2\)'):
        dice_coeff(torch.zeros(2, 2), torch.zeros(2, 2), reduce_batch_first=True)


def test_binary_loss_by_hand():
    # Logit 0 everywhere: entropy ln 2; Dice 2 * (2 * 0.5) / (4 * 0.5 + 2) = 0.5.
    loss = segmentation_loss(torch.zeros(1, 1, 2, 2), torch.tensor([[[0, 1], [1, 0]]]))
    assert loss.item() == pytest.approx(math.log(2) + 0.5, abs=1e-6)


def test_multiclass_loss_by_hand():
    # Four equal logits: entropy ln 4; mean probability of the true class 1/4.
    loss = segmentation_loss(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [2, 3]]]))
    assert loss.item() == pytest.approx(math.log(4) + 0.75, abs=1e-6)


@pytest.mark.parametrize('k', [1, 2, 4])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64])
def test_ignored_pixels_change_neither_loss_nor_gradient(k, dtype):
    torch.manual_seed(0)
    logits = torch.randn(2, k, 6, 5, requires_grad=True)
    masks = torch.randint(0, max(k, 2), (2, 6, 5)).to(dtype)
    padded_logits = F.pad(logits.detach(), [0, 3, 0, 2], value=7.0).requires_grad_()
    padded_masks = F.pad(masks, [0, 3, 0, 2], value=IGNORE)
    loss, padded_loss = (
        segmentation_loss(logits, masks),
        segmentation_loss(padded_logits, padded_masks),
    )
    loss.backward()
    padded_loss.backward()
    torch.testing.assert_close(padded_loss, loss)
    torch.testing.assert_close(padded_logits.grad[:, :, :6, :5], logits.grad)
    assert padded_logits.grad[:, :, 6:].abs().max() == 0
    assert padded_logits.grad[..., 5:].abs().max() == 0


def test_a_batch_of_nothing_but_ignored_pixels_gives_a_finite_loss():
    for k in (1, 3):
        masks = torch.full((1, 4, 4), IGNORE)
        assert segmentation_loss(torch.randn(1, k, 4, 4), masks).isfinite()


@pytest.mark.parametrize('k', [1, 2])
def test_loss_is_computed_in_float32_or_wider(k):
    masks = torch.randint(0, 2, (1, 8, 8))
    for given, computed in [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            assert segmentation_loss(torch.randn(1, k, 8, 8, dtype=given), masks).dtype == computed


def test_threshold_acts_on_one_and_two_classes_and_not_on_more():
    one = torch.tensor([[[[0.3, 0.6, 0.8]]]])
    two = torch.cat([1 - one, one], dim=1)
    for probabilities in (one, two):
        assert class_indices(probabilities).tolist() == [[[0, 1, 1]]]
        assert class_indices(probabilities, 0.7).tolist() == [[[0, 0, 1]]]
    three = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1)
    assert class_indices(three, 0.1).tolist() == [[[0]]]


def test_probabilities_are_float32_and_sum_to_one():
    logits = torch.randn(2, 3, 4, 5).bfloat16()
    probabilities = class_probabilities(logits)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 4, 5))
    assert class_probabilities(torch.zeros(1, 1, 1, 1)).item() == 0.5
