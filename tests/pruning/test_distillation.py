"""The distillation loss by hand, and a training step that has it."""

import math

import pytest
import torch
from torch.optim import SGD

from unet import UNet
from utils.masks.encoding import IGNORE
from utils.pruning.distillation import Distillation, distillation_loss
from utils.training.optimization.loss import segmentation_loss, sum_totals


def test_the_divergence_by_hand():
    # the teacher says 3/4 and 1/4, the student 1/2 and 1/2
    taught = torch.tensor([math.log(3.0), 0.0]).view(1, 2, 1, 1)
    masks = torch.zeros(1, 1, 1, dtype=torch.uint8)
    right = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert distillation_loss(torch.zeros(1, 2, 1, 1), taught, masks).item() == pytest.approx(right)
    binary = distillation_loss(torch.zeros(1, 1, 1, 1), taught[:, :1], masks)  # 3/4 foreground
    assert binary.item() == pytest.approx(right)
    assert distillation_loss(taught, taught, masks).item() == pytest.approx(0, abs=1e-7)


def test_ignored_pixels_do_not_count_and_nothing_is_left_of_masks_without_others():
    logits, taught = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    masks = torch.zeros(2, 4, 5, dtype=torch.uint8)
    masks[:, 2:] = IGNORE
    found = distillation_loss(logits, taught, masks)
    right = distillation_loss(logits[:, :, :2], taught[:, :, :2], masks[:, :2])
    torch.testing.assert_close(found, right)
    assert distillation_loss(logits, taught, torch.full_like(masks, IGNORE)) == 0


def test_the_shares_of_micro_batches_make_the_loss_of_the_step():
    logits, taught = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5)
    masks = torch.randint(0, 2, (3, 4, 5), dtype=torch.uint8)
    masks[0, 0] = IGNORE
    parts = [slice(0, 1), slice(1, 3)]
    totals = sum_totals([(masks[part],) for part in parts])
    shares = [distillation_loss(logits[p], taught[p], masks[p], totals) for p in parts]
    torch.testing.assert_close(sum(shares), distillation_loss(logits, taught, masks))


@pytest.mark.parametrize('padding', ['same', 'valid'])
def test_a_step_learns_from_the_teacher_on_the_images_of_the_step(padding, monkeypatch):
    from types import SimpleNamespace

    from utils.inference.logits import logits_of
    from utils.runtime.precision import MixedPrecision
    from utils.training.optimization.guard import StepGuard
    from utils.training.step import TrainStep

    torch.manual_seed(0)
    model, teacher = (UNet(3, 2, base_channels=c, padding=padding) for c in (2, 3))
    precision = MixedPrecision(torch.device('cpu'), amp=False)
    step = TrainStep(model, SGD(model.parameters(), 0.1), precision, StepGuard(model))
    state = SimpleNamespace(model=model, precision=precision)
    run = SimpleNamespace(state=state, step_runner=SimpleNamespace(step=step))
    found = Distillation.attach(run, teacher)
    images, masks = torch.rand(2, 3, 32, 48), torch.randint(0, 2, (2, 32, 48))
    with torch.no_grad():
        taught = logits_of(teacher, images, (32, 48))
        logits = logits_of(model.train(), images, (32, 48))
    assert found.taught is None  # without gradients nothing is asked
    right = segmentation_loss(logits, masks) + distillation_loss(logits, taught, masks)
    loss, _ = step([(images, masks)], 2)
    torch.testing.assert_close(loss, right, rtol=1e-4, atol=1e-5)
    assert not teacher.training and all(p.grad is None for p in teacher.parameters())


def test_logits_of_a_network_that_the_teacher_does_not_know_are_an_error():
    criterion = Distillation(UNet(3, 2, base_channels=1), segmentation_loss)
    with pytest.raises(ValueError, match='the teacher has seen no images'):
        criterion(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4))
