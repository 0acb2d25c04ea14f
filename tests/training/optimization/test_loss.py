"""The training loss equals hand values in both modes and ignores padding."""

import math

import pytest
import torch
from torch.nn import functional as F

from utils.masks.encoding import IGNORE
from utils.training.optimization.loss import segmentation_loss


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
