"""Infinities and NaNs anywhere in a step leave a network whole; a run of them ends with code 3."""

import pytest
import torch
from devices import DEVICE, on_device
from drawing import data_set

import train
from unet import UNet
from utils.inference.checkpoint import load_checkpoint
from utils.runtime.precision import MixedPrecision
from utils.training import step as step_module
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.recipes import RECIPES
from utils.training.step import TrainStep

HERE = torch.device(DEVICE)
MASKS = torch.randint(0, 2, (2, 32, 32), generator=torch.Generator().manual_seed(0))


def finite(model):
    return all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def poison_input(model, images, value):
    images[0, 0, 3, 3] = value


def poison_gradient(model, images, value):
    weight = model.down2.maxpool_conv[1].double_conv[0].weight
    weight.register_hook(lambda gradient: torch.full_like(gradient, value))


def poison_activation(model, images, value):
    # as half precision overflows, between two BatchNorms
    model.down1.register_forward_hook(lambda module, inputs, output: output * value)


@pytest.mark.parametrize('poison', [poison_input, poison_gradient, poison_activation])
@pytest.mark.parametrize('value', [float('inf'), float('nan')])
@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
@pytest.mark.parametrize('recipe', ['fast', 'classic'])
def test_a_poisoned_step_leaves_weights_and_statistics_finite(poison, value, precision, recipe):
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=4).to(HERE).train()
    guard, precision = StepGuard(model), MixedPrecision(HERE, amp=True, name=precision)
    optimizer = RECIPES[recipe].optimizer(model, 1e-3)
    step = TrainStep(model, optimizer, precision, guard)
    step([(torch.rand(2, 3, 32, 32, device=HERE), MASKS.to(HERE))], 2)
    before = [buffer.clone() for buffer in model.buffers()]
    images = torch.rand(2, 3, 32, 32, device=HERE)
    poison(model, images, value)
    step([(images, MASKS.to(HERE))], 2)
    assert finite(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert guard.bad_steps() == (1, 1)


def test_a_good_step_ends_the_row_and_counts_as_without_a_guard():
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=4).to(HERE).train()
    guard, precision = StepGuard(model), MixedPrecision(HERE, amp=False)
    optimizer = RECIPES['fast'].optimizer(model, 1e-3)
    for poisoned in (True, True, False):
        images = torch.rand(2, 3, 32, 32, device=HERE)
        images *= float('nan') if poisoned else 1
        TrainStep(model, optimizer, precision, guard)([(images, MASKS.to(HERE))], 2)
    assert guard.bad_steps() == (2, 0)
    assert model.inc.double_conv[1].num_batches_tracked == 1


def test_the_path_of_devices_that_must_not_wait_does_the_same():
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=4).to(HERE).train()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float('nan'))
    guard = StepGuard(model)
    for good in (True, False):
        before = [buffer.clone() for buffer in model.buffers()]
        guard.before_step()
        model(torch.rand(2, 3, 32, 32, device=HERE))
        guard.keep_if(torch.tensor(good, device=HERE))
        same = all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
        assert same != good
        assert all(torch.isfinite(p.grad).all() != good for p in model.parameters())


@pytest.mark.slow
def test_training_goes_on_past_bad_steps_and_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path, 12, size=(64, 48))
    to_device, calls = step_module.to_device, []

    def poisoning(batch, device):
        images, masks = to_device(batch, device)
        calls.append(1)
        return images * (float('nan') if len(calls) % 4 == 0 else 1), masks

    monkeypatch.setattr(step_module, 'to_device', poisoning)
    options = '--images imgs --masks masks --base-channels 8 -s 1 -e 4 -v 20 -l 3e-3'
    assert train.main([*options.split(), *on_device()]) == 0
    checkpoint = load_checkpoint('checkpoints/best.pth')
    assert checkpoint.metrics['dice_dataset'] > 0.9
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.weights.values())
