"""Accumulated micro-batches weigh the pixels that count, so a step equals one of a larger batch."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from running import rows, run_train
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

import utils.training.optimization.loss as losses
from unet import UNet
from utils.masks.encoding import IGNORE
from utils.runtime.precision import MixedPrecision
from utils.training.optimization.deep_supervision import DeepSupervision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.loss import segmentation_loss
from utils.training.step import TrainStep

WEIGHTS = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64)


def batch(n_classes=3, border=False):
    """Two images in float64 of whose masks 5 % and 96 % are ignored; weights of a weight map."""
    torch.manual_seed(1)
    images = torch.rand(2, 1, 32, 48, dtype=torch.float64)
    masks = torch.randint(0, max(2, n_classes), (2, 32, 48))
    masks[torch.rand(2, 32, 48) < torch.tensor([0.05, 0.96])[:, None, None]] = IGNORE
    return [images, masks, 10 * torch.rand(2, 32, 48, dtype=torch.float64)][: 2 + border]


def step_on(micro_batches, n_classes, options):
    """Return loss, norm and gradients of a step; without BatchNorm, whose statistics differ."""
    torch.manual_seed(0)
    model = UNet(1, n_classes, base_channels=2, norm='none').double()
    optimizer, weights = SGD(model.parameters(), 1.0), options.get('class_weights')
    precision, loss = MixedPrecision(torch.device('cpu'), amp=False), options
    step = TrainStep(model, optimizer, precision, StepGuard(model))
    step.criterion = partial(segmentation_loss, **loss)
    if weights is not None:
        step.sum_totals = partial(losses.sum_totals, class_weights=weights)
    step.supervision = DeepSupervision(model, step.criterion)
    loss, norm = step(micro_batches, sum(len(batch[0]) for batch in micro_batches))
    return loss, norm, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize(
    ('n_classes', 'options', 'tolerance'),
    [
        (3, {'dice': False}, 1e-9),
        (1, {'dice': False}, 1e-9),
        (3, {'dice': False, 'border': True}, 1e-9),
        (3, {'dice': False, 'class_weights': WEIGHTS}, 1e-9),
        (3, {}, 1e-7),  # all classes share one Dice ratio, with 1e-6 above and below
        (3, {'class_weights': WEIGHTS, 'border': True}, 1e-7),
    ],
)
def test_two_accumulated_images_give_the_gradient_of_a_batch_of_two(n_classes, options, tolerance):
    whole = batch(n_classes, options.get('border', False))
    options = {name: value for name, value in options.items() if name != 'border'}
    parts = [tuple(tensor[k : k + 1] for tensor in whole) for k in range(2)]
    loss, norm, expected = step_on([tuple(whole)], n_classes, options)
    found_loss, found_norm, found = step_on(parts, n_classes, options)
    torch.testing.assert_close(found_loss, loss, rtol=tolerance, atol=0)
    torch.testing.assert_close(found_norm, norm, rtol=tolerance, atol=0)
    scale = max(gradient.abs().max() for gradient in expected)
    assert (
        max((a - b).abs().max() for a, b in zip(found, expected, strict=True)) < tolerance * scale
    )


def test_totals_and_losses_never_wait_for_the_device(monkeypatch):
    read = []

    class Readings(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            read.extend([function] * ('_local_scalar_dense' in str(function)))
            return function(*args, **(kwargs or {}))

    # On a CPU the guard reads whether all is finite, and one_hot, for 2 classes and more, labels.
    monkeypatch.setattr(StepGuard, 'check', lambda *_: None)
    whole = batch(1)
    parts = [tuple(tensor[k : k + 1] for tensor in whole) for k in range(2)]
    with Readings():
        step_on(parts, 1, {'class_weights': WEIGHTS[:2]})
    assert read == []


@pytest.mark.parametrize('options', [{}, {'per_class': True}])
def test_a_micro_batch_without_a_pixel_that_counts_changes_nothing(options):
    images, masks = batch()
    empty = torch.full_like(masks, IGNORE)
    alone = step_on([(images, masks)], 3, options)
    found = step_on([(images, masks), (images, empty)], 3, options)
    torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-12)
    loss, _, gradients = step_on([(images, empty), (images, empty)], 3, options)
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)


def test_the_dice_losses_of_classes_are_averaged_by_the_pixels_that_count():
    images, masks = batch()
    parts = [(images[k : k + 1], masks[k : k + 1]) for k in range(2)]
    options = {'per_class': True}
    each = [step_on([part], 3, options)[0] for part in parts]
    counts = [int((mask != IGNORE).sum()) for _, mask in parts]
    expected = sum(n * loss for n, loss in zip(counts, each, strict=True)) / sum(counts)
    torch.testing.assert_close(step_on(parts, 3, options)[0], expected, rtol=1e-9, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize('options', ['', '--loss-weights 1,3'])
@pytest.mark.parametrize('recipe', ['classic', 'fast'])  # fast begins at half the resolution
def test_accumulate_2_trains_with_the_loss_of_batch_size_2(folder, options, recipe):
    (folder / 'imgs').mkdir()
    (folder / 'masks').mkdir()
    generator = np.random.default_rng(0)
    for k, ignored in enumerate((0.05, 0.9)):
        pixels = generator.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        mask = (pixels[..., 0] > 60 + 120 * k).astype(np.uint8)
        mask[generator.random((64, 96)) < ignored] = 7
        Image.fromarray(pixels).save(f'imgs/{k}.png')
        Image.fromarray(mask).save(f'masks/{k}.png')
    usual = f'-e 1 -v 0 --recipe {recipe} --augment none --norm none --ignore-value 7'
    usual += f' --dice-loss joint {options}'
    assert run_train(*usual.split(), '-b', '2', '--output', 'whole') == 0
    assert run_train(*usual.split(), '-b', '1', '--accumulate', '2', '--output', 'parts') == 0
    whole, parts = (float(rows(f'{name}/metrics.csv')[0]['loss']) for name in ('whole', 'parts'))
    assert parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize('class_weights', [None, WEIGHTS.float()])
def test_totals_of_masks_in_main_memory_serve_a_loss_on_a_card(class_weights):
    totals = losses.sum_totals([(batch()[1],)], class_weights)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            logits = torch.randn(2, 3, 32, 48, device='cuda')
            masks = torch.zeros(2, 32, 48, dtype=torch.uint8, device='cuda')
            weights = None if class_weights is None else torch.ones(3, device='cuda')
            loss = segmentation_loss(logits, masks, class_weights=weights, totals=totals)
    except RuntimeError as error:  # torch 2.6 asks for a driver
        if 'driver' not in str(error):
            raise
        pytest.skip(str(error).splitlines()[0])
    assert (loss.device.type, loss.dtype) == ('cuda', torch.float32)
