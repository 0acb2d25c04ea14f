"""Networks and training steps compute on a device what they compute on the CPU, and wait for it.

In float64 and with poison, tests/training/test_training_steps.py and test_guard.py check a device.
"""

import traceback
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from device_steps import (
    CHANNELS,
    CPU,
    HERE,
    ON_CARD,
    TINY,
    Trainer,
    batch,
    card_only,
    relative,
    tf32,
)
from reference import fill, image

from unet import UNet
from utils.runtime.precision import MixedPrecision
from utils.training.step import StepRunner


def parts_for(recipe, classes=2, side=64, device=HERE, seed=0):
    """Return a batch for a recipe's network; the paper's has no padding, and border weights."""
    if recipe != 'paper':
        return batch(2, side, side, classes, device, seed)
    images, masks = batch(2, 220, 220, classes, device, seed)
    return images, masks[:, :36, :36].contiguous(), torch.full((2, 36, 36), 0.5, device=device)


def test_logits_agree_with_those_in_float64(record_property):
    """Measured on an H100: 6e-7 in float32, 1.5e-3 in TF32, 2.6e-2 in bf16, 1.6e-3 in fp16."""
    model = fill(UNet(3, 2, base_channels=CHANNELS)).eval()
    x = image('x', (2, 3, 64, 97))
    with torch.inference_mode():
        truth = model.double()(x.double())
    model.float().to(HERE, memory_format=torch.channels_last)
    limits = {'fp32': 1e-5, 'tf32': 3e-3, 'bf16': 6e-2, 'fp16': 6e-3}
    found = {}
    for name in limits:
        precision = MixedPrecision(HERE, name in ('bf16', 'fp16'), name.replace('tf32', 'fp32'))
        with torch.inference_mode(), tf32(name == 'tf32'), precision.autocast():
            found[name] = relative(model(x.to(HERE)), truth)
    record_property('found', ', '.join(f'{error:.1e} {name}' for name, error in found.items()))
    assert all(found[name] <= limit for name, limit in limits.items()), found


@pytest.mark.parametrize(
    ('recipe', 'options'),
    [
        ('fast', {}), ('fast', {'classes': 1}),
        ('fast', {'classes': 5, 'weights': [1.0, 2, 3, 4, 5]}), ('fast', {'bilinear': True}),
        ('classic', {}), ('classic', {'classes': 1}), ('paper', {'dropout': 0.0}),
    ],
    ids=str,
)  # fmt: skip
def test_three_float32_steps_agree_with_the_cpus(record_property, recipe, options):
    runs = []
    for device in (CPU, HERE):
        one = Trainer(recipe, 'fp32', device, channels=4 if TINY else 8, rate=1e-4, **options)
        before = [p.detach().double().cpu() for p in one.model.parameters()]
        parts = [parts_for(recipe, options.get('classes', 2), 64, device, k) for k in range(3)]
        losses = [one.step(*part)[0].item() for part in parts]
        after = [p.detach().double().cpu() for p in one.model.parameters()]
        moved = [(b - a).flatten() for a, b in zip(before, after, strict=True)]
        runs.append((losses, torch.cat(moved)))
    (losses, moved), (others, also) = runs
    loss = max(abs(a - b) for a, b in zip(losses, others, strict=True))
    off = relative(also, moved)
    record_property('found', f'losses within {loss:.1e}, movements of the weights {off:.1e}')
    assert loss < 2e-3
    assert off < 0.15  # AdamW's first step is a gradient's sign: that of gradients near 0 is chance


@pytest.mark.slow
def test_half_precision_learns_as_float32_does(record_property):
    """On T4, V100 and GTX cards --amp is fp16 with a scaler: its loss must fall as bf16's."""
    ends = {}
    for name in ('fp32', 'bf16', 'fp16'):
        one = Trainer('fast', name, channels=4 if TINY else 8, rate=1e-3)
        images, _ = batch(2, 32 if TINY else 64, 32 if TINY else 64)
        masks = (images[:, 0] > 0.5).to(torch.uint8)
        losses = [one.step(images, masks)[0] for _ in range(8 if TINY else 40)]
        ends[name] = losses[-1].item()
        assert ends[name] < losses[0].item()
        assert one.guard.bad_steps()[0] <= 5  # fp16 finds its scale
    record_property('found', ', '.join(f'{name} {loss:.3f}' for name, loss in ends.items()))
    assert max(ends.values()) - min(ends.values()) < 0.03


@contextmanager
def waiting_is_an_error():
    """Raise where the CPU waits for the card; on a CPU nothing waits."""
    if ON_CARD:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        if ON_CARD:
            torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize(
    ('recipe', 'precision', 'options'),
    [
        ('fast', 'bf16', {}), ('fast', 'bf16', {'weights': [1.0, 2]}),
        ('fast', 'fp32', {'classes': 1}), ('classic', 'bf16', {}), ('paper', 'bf16', {}),
    ],
    ids=str,
)  # fmt: skip
def test_no_step_waits_for_the_device(record_property, recipe, precision, options):
    one = Trainer(recipe, precision, channels=4 if TINY else 8, **options)
    parts = parts_for(recipe, options.get('classes', 2), 64)
    for _ in range(2):
        one.step(*parts)
    try:
        with waiting_is_an_error():
            one.step(*parts)
    except RuntimeError as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = [f'{f.name}:{f.lineno}' for f in frames if str(ROOT) in f.filename]
        pytest.fail(f'{where[-1]} waits: {error}')
    record_property('found', 'none waits')


def test_no_batch_waits_on_its_way_to_the_device():
    precision = SimpleNamespace(device=HERE)
    plan = SimpleNamespace(plan=SimpleNamespace(fewest=100))
    for names in (('image', 'mask'), ('image', 'mask', 'border')):
        shape = {'image': (2, 3, 64, 96)}
        planes = {n: torch.zeros(shape.get(n, (2, 64, 96)), dtype=torch.uint8) for n in names}
        if ON_CARD:
            planes = {name: plane.pin_memory() for name, plane in planes.items()}
        for step in (0, 90):  # the first one is coarse
            state = SimpleNamespace(precision=precision, step=step, schedule=plan)
            runner = StepRunner(state, None, None, 0, 0.5, 0.125)
            runner.on_device(planes)
            with waiting_is_an_error():
                found = runner.on_device(planes)
            assert {tensor.device.type for tensor in found} == {HERE.type}


@card_only
def test_a_wait_is_found():
    with pytest.raises(RuntimeError, match='synchron'), waiting_is_an_error():
        torch.ones(1, device=HERE).item()
