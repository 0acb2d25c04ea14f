"""Re-estimated BatchNorm statistics are the average of the batches' own."""

import torch

from unet import UNet
from utils.training.optimization.batchnorm import reestimate_statistics
from utils.training.optimization.guard import StepGuard


def test_statistics_are_the_plain_average_over_the_batches():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1)).eval()
    model[0].running_mean.fill_(99)
    batches = [torch.tensor([0.0, 2.0]).view(1, 1, 1, 2), torch.tensor([4.0, 8.0]).view(1, 1, 1, 2)]
    reestimate_statistics(model, batches)
    assert model[0].running_mean.item() == (1 + 6) / 2
    assert model[0].running_var.item() == (2 + 8) / 2  # unbiased, as torch keeps it


def test_the_guard_brings_statistics_back():
    model = UNet(1, 2, base_channels=2).train()
    guard = StepGuard(model)
    model(torch.rand(2, 1, 32, 32))
    guard.before_step()
    expected = [buffer.clone() for buffer in model.buffers()]
    model(torch.rand(2, 1, 32, 32))
    assert not torch.equal(model.inc.double_conv[1].running_mean, expected[0])
    guard.undo()
    assert all(torch.equal(a, b) for a, b in zip(expected, model.buffers(), strict=True))


def test_weights_momentum_and_mode_stay():
    model = UNet(1, 2, base_channels=2).eval()
    before = [p.clone() for p in model.parameters()]
    reestimate_statistics(model, [torch.rand(2, 1, 32, 32)])
    assert not model.training
    assert model.inc.double_conv[1].momentum == 0.1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
