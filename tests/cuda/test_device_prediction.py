"""Predictions of a device are those of the CPU: whole, mirrored, by tiles, folded, of huge maps."""

import copy
import time

import numpy as np
import pytest
import torch
from device_steps import CPU, HERE, TINY, card_only, tf32, wait
from PIL import Image

from unet import UNet
from utils.inference.predictor import Predictor
from utils.inference.tiling import Tiling
from utils.runtime.precision import MixedPrecision


def network(classes, channels=4 if TINY else 8, side=96):
    """Return a network of random weights whose BatchNorm has seen images."""
    torch.manual_seed(classes)
    model = UNet(3, classes, base_channels=channels).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, 3, side, side))
    return model


def predictor_of(model, device, name='fp32', scale=0.5):
    values = list(range(max(2, model.n_classes)))
    precision = MixedPrecision(device, name != 'fp32', name)
    return Predictor(copy.deepcopy(model), scale, values, precision)


@pytest.fixture
def picture():
    small = (np.random.default_rng(0).random((40, 60, 3)) * 255).astype(np.uint8)
    size = (150, 101) if TINY else (600, 401)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize('classes', [1, 2, 5])
def test_probabilities_are_those_of_the_cpu(record_property, picture, classes):
    """Measured on an H100: within 2e-7."""
    ways = {
        'whole': lambda predictor: None,
        'mirrored': lambda predictor: setattr(predictor, 'mirrored', True),
        'by tiles': lambda predictor: setattr(predictor, 'tiling', Tiling(64, 32)),
        'folded': lambda predictor: predictor.use_backend('torch'),
    }
    found, model = {}, network(classes)
    for name, change in ways.items():
        one, other = predictor_of(model, HERE), predictor_of(model, CPU)
        change(one)
        if name != 'folded':  # folding is compared with the network as it is
            change(other)
        expected = other.predict_probabilities(picture)
        with tf32(False):
            found[name] = (one.predict_probabilities(picture).cpu() - expected).abs().max().item()
    record_property('found', ', '.join(f'{name} {off:.0e}' for name, off in found.items()))
    assert max(found.values()) < 1e-4


@pytest.mark.parametrize('name', ['fp32', 'bf16', 'fp16'])
def test_masks_agree_with_those_of_the_cpu(record_property, picture, name):
    """Random weights are unsure everywhere: a trained network agrees in 99.99 % (dev/GPU.md)."""
    same = []
    for classes in (1, 2, 5):
        model = network(classes)
        expected = predictor_of(model, CPU).predict_image(picture)
        with tf32(True):
            found = predictor_of(model, HERE, name).predict_image(picture)
        same.append(float((expected == found).mean()))
    record_property('found', f'{100 * min(same):.3f} % of the pixels')
    assert min(same) > 0.9


def test_a_huge_result_is_made_of_strips(picture):
    predictor = predictor_of(network(2), HERE)
    size = (500, 400) if TINY else (5000, 4000)
    image = torch.from_numpy(picture[:100, :100].copy()).permute(2, 0, 1)
    assert predictor.resized_outputs(image, size).shape == (1, *size[::-1])


@card_only
@pytest.mark.least(40)
def test_maps_of_over_two_billion_values_equal_smaller_tiles(record_property):
    """A tile of 4096 pixels makes a map of exactly 2^31 values at width 64."""
    predictor = predictor_of(network(2, 64, 128), HERE, 'bf16', 1.0)
    predictor.use_backend('torch')
    picture = torch.randint(0, 256, (3, 4096, 4096 + 64), dtype=torch.uint8)
    found, seconds = [], []
    for side in (4096, 2048):
        predictor.tiling = Tiling(side)
        started = time.perf_counter()
        found.append(predictor.resized_outputs(picture, (4160, 4096)).cpu())
        wait()
        seconds.append(time.perf_counter() - started)
    off = (found[0] - found[1]).abs().max().item()
    record_property('found', f'within {off:.4f}; {seconds[0]:.1f} s and {seconds[1]:.1f} s')
    assert off < 0.05
