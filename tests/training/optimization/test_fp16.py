"""float16 with its gradient scaler learns like bfloat16, from the first step on."""

import warnings
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from unet import UNet
from utils.runtime.precision import MixedPrecision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.loss import segmentation_loss
from utils.training.optimization.recipes import RECIPES
from utils.training.resume import plan_steps
from utils.training.step import TrainStep

CPU = torch.device('cpu')


def loss_after(steps, recipe, rate, precision):
    """Return the mean loss of the last quarter of so many steps on bright patches of noise."""
    torch.manual_seed(1)
    chosen = RECIPES[recipe]
    # At width 4 the last convolution learns 16 times as fast, and roundings grow to 1 to 4 %.
    model = UNet(1, 2, base_channels=8).train()
    optimizer = chosen.optimizer(model, rate)
    step = TrainStep(model, optimizer, MixedPrecision(CPU, True, precision), StepGuard(model))
    step.criterion = partial(segmentation_loss, per_class=chosen.dice_loss == 'per-class')
    generator, losses = torch.Generator().manual_seed(9), []
    for _ in range(steps):
        images = F.avg_pool2d(torch.rand(2, 1, 32, 32, generator=generator), 5, 1, 2)
        losses.append(step([(images, (images[:, 0] > 0.5).to(torch.uint8))], 2)[0])
    assert step.guard.bad_steps() == (0, 0)
    return float(torch.stack(losses)[-steps // 4 :].mean()), float(losses[0])


@pytest.mark.slow
@pytest.mark.parametrize(('recipe', 'rate'), [('fast', 2e-3), ('classic', 1e-4)])
def test_float16_learns_as_bfloat16_does(recipe, rate):
    (half, first), (brain, _) = (loss_after(16, recipe, rate, name) for name in ('fp16', 'bf16'))
    assert half == pytest.approx(brain, rel=0.01)
    assert half < 0.95 * first


@pytest.mark.parametrize('renewed', [False, True])
def test_the_scaler_takes_gradients_before_it_has_scaled_a_loss(renewed):
    """torch allocates the scale with the first loss, which a step may lack: 'Attempted unscale_'"""
    precision = MixedPrecision(CPU, amp=True, name='fp16')
    if renewed:
        precision.renew_scaler()
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.full((1,), 65536.0)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.scaler.unscale_(optimizer)
    precision.scaler.step(optimizer)
    precision.scaler.update()
    assert weight.item() == 0.5


def test_a_first_step_that_the_scaler_skips_raises_no_warning_about_the_schedule():
    recipe = RECIPES['fast']
    model = UNet(1, 2, base_channels=2).train()
    optimizer = recipe.optimizer(model, 1e-3)
    schedule, precision = (
        recipe.schedule(optimizer, plan_steps(1, 9, None)),
        MixedPrecision(CPU, True, 'fp16'),
    )
    step = TrainStep(model, optimizer, precision, StepGuard(model))
    before = [parameter.clone() for parameter in model.parameters()]
    batch = torch.full((1, 1, 32, 32), float('inf')), torch.zeros(1, 32, 32, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        step([batch], 1)
        schedule.after_step()
    assert precision.scaler.get_scale() == 2.0**15  # skipped
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
