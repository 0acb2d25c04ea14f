"""The training loss equals hand values and a plain reference, and ignores padding."""

import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from utils.masks.encoding import IGNORE
from utils.training.optimization.loss import Totals, segmentation_loss


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


def plain_loss(logits, masks, border, class_weights, per_class, dice, totals):
    """Return segmentation_loss as it is defined, over maps of each class and pixel."""
    counts = (masks != IGNORE).to(logits.dtype)
    classes = torch.arange(max(2, logits.shape[1])).view(-1, 1, 1)
    truth = (masks.unsqueeze(1) == classes).to(logits.dtype)  # (B, K, H, W)
    if logits.shape[1] == 1:
        logs = torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    else:
        logs = logits.log_softmax(dim=1)
    probabilities = logs.exp() * counts.unsqueeze(1)
    weights = counts
    if class_weights is not None:
        weights = (truth * class_weights.view(-1, 1, 1)).sum(dim=1)
    whole = weights.sum() if border is None else counts.sum()
    if border is not None:
        weights = weights + border * counts
    entropy = -(logs * truth).sum(dim=1)
    loss = (entropy * weights).sum() / (totals.weight if totals else whole)
    if not dice:
        return loss
    if logits.shape[1] == 1 and not per_class:
        probabilities, truth = probabilities[:, 1:], truth[:, 1:]
    axes = (0, 2, 3) if per_class else (0, 1, 2, 3)
    both = (probabilities * truth).sum(dim=axes)
    sizes = (probabilities + truth).sum(dim=axes)
    if per_class:
        term = -(2 * both / sizes)[truth.sum(dim=axes) > 0].log().mean()
    else:
        term = 1 - (2 * both + 1e-6) / (sizes + 1e-6)
    return loss + (term * counts.sum() / totals.pixels if totals else term)


@pytest.mark.parametrize('per_class', [False, True])
@pytest.mark.parametrize('k', [1, 2, 12])
def test_loss_and_gradient_equal_those_of_the_plain_formulas(k, per_class):
    torch.manual_seed(0)
    for ignored, with_border, weighted, dice, part in product(
        (0, 3), (False, True), (False, True), (True, False), (False, True)
    ):
        logits = 3 * torch.randn(2, k, 10, 12).to(memory_format=torch.channels_last)
        masks = torch.randint(0, max(k, 2), (2, 10, 12), dtype=torch.uint8)
        masks[:, :ignored] = IGNORE
        border = torch.rand(2, 10, 12) if with_border else None
        class_weights = torch.rand(max(k, 2)) if weighted else None
        totals = Totals(torch.tensor(300.0), torch.tensor(400)) if part else None
        others = (border, class_weights, per_class, dice, totals)
        value, gradient = with_gradient(plain_loss, logits.double(), masks, *others)
        for dtype, error in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
            found = with_gradient(segmentation_loss, logits.to(dtype), masks, *others)
            assert abs(found[0] - value) < error * value
            assert (found[1] - gradient).abs().max() < error * gradient.abs().max()


def with_gradient(loss, logits, masks, border, class_weights, per_class, dice, totals):
    """Return a loss and its gradient, all that is float in the logits' type."""
    leaf = logits.clone().requires_grad_()
    border, class_weights = (
        None if of is None else of.to(logits.dtype) for of in (border, class_weights)
    )
    value = loss(leaf, masks, border, class_weights, per_class, dice, totals)
    value.backward()
    return value.detach(), leaf.grad
