"""Dice equals the original's values and hand values."""

import pytest
import torch
from reference import image, labels, load_json
from torch.nn import functional as F

from utils.evaluation.dice import dice_coeff, dice_loss, multiclass_dice_coeff

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
        ('multiclass_dice_coeff softmax onehot', lambda: multiclass_dice_coeff(SOFTMAX, ONEHOT)),
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
