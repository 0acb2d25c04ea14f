"""Widths: the channels of each layer as data, and the cost that follows from them."""

import pytest
import torch
from networks import SLIM
from torch import nn

from unet import UNet, default_widths, multiply_adds
from unet.widths import IMAGE, SCORES, follow_below, layer_pixels, layers

SLIM_BILINEAR = follow_below(SLIM)


@pytest.mark.parametrize('bilinear', [False, True])
def test_the_default_widths_make_the_same_weights_bit_for_bit(bilinear):
    states = []
    for options in ({'base_channels': 3}, {'widths': default_widths(3, bilinear)}):
        torch.manual_seed(0)
        states.append(UNet(3, 2, bilinear, **options).state_dict())
    assert [(k, v.shape) for k, v in states[0].items()] == [
        (k, v.shape) for k, v in states[1].items()
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize('norm', ['batch', 'none'])
@pytest.mark.parametrize(('bilinear', 'widths'), [(False, SLIM), (True, SLIM_BILINEAR)])
def test_each_layer_has_the_channels_that_its_widths_say(bilinear, widths, norm):
    model = UNet(4, 3, bilinear, widths=widths, norm=norm)
    channels = [*widths, model.n_channels, model.n_classes]
    modules = dict(model.named_modules())
    described = layers(bilinear)
    convolutions = [k for k, m in modules.items() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [layer.name for layer in described] == convolutions
    for layer in described:
        conv = modules[layer.name]
        assert conv.in_channels == sum(channels[k] for k in layer.inputs), layer.name
        assert conv.out_channels == channels[layer.output], layer.name
        assert layer.transposed == isinstance(conv, nn.ConvTranspose2d)
        if layer.norm:
            assert isinstance(modules[layer.norm], nn.BatchNorm2d | nn.Identity)
            assert isinstance(modules[layer.activation], nn.ReLU)
    assert (described[0].inputs, described[-1].output) == ((IMAGE,), SCORES)
    assert (model.widths, model.base_channels) == (widths, widths[0])
    names = list(UNet(4, 3, bilinear, base_channels=2, norm=norm).state_dict())
    assert list(model.state_dict()) == names
    assert model(torch.rand(2, 4, 33, 47)).shape == (2, 3, 33, 47)


@pytest.mark.parametrize(
    ('widths', 'bilinear', 'found'),
    [
        (SLIM[:-1], False, '22 whole numbers from 1'),
        ([*SLIM[:-1], 0], False, '22 whole numbers from 1'),
        ([*SLIM[:-1], 2.0], False, '22 whole numbers from 1'),
        ([*SLIM[:-1], True], False, '22 whole numbers from 1'),
        (SLIM, True, r'must be those of the block below: \[2, 3, 1, 4, 5, 2, 3, 6, 4, 7, 7, 3, 2'),
    ],
)
def test_widths_that_make_no_network_are_refused(widths, bilinear, found):
    with pytest.raises(ValueError, match=found):
        UNet(3, 2, bilinear, widths=widths)


def counted(model, size):
    """Return the pixels of each convolution's output, and the multiply-adds, by hooks."""
    pixels, total = [], 0

    def count(conv, inputs, output):
        nonlocal total
        area = output.shape[2] * output.shape[3]
        pixels.append(area)
        if isinstance(conv, nn.ConvTranspose2d):
            total += inputs[0].numel() * conv.out_channels * 4  # each input pixel makes 2 x 2
        else:
            total += area * conv.weight.numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    model.eval()(torch.rand(1, model.n_channels, *size))
    return pixels, total


@pytest.mark.parametrize(
    ('size', 'bilinear', 'padding'),
    [
        ((32, 48), False, 'same'), ((37, 50), False, 'same'), ((31, 63), True, 'same'),
        ((188, 204), False, 'valid'), ((220, 188), True, 'valid'),
    ],
)  # fmt: skip
def test_the_cost_is_that_of_the_computed_convolutions(size, bilinear, padding):
    widths = SLIM_BILINEAR if bilinear else SLIM
    model = UNet(4, 3, bilinear, widths=widths, padding=padding)
    pixels, total = counted(model, size)
    assert layer_pixels(size, bilinear, padding) == pixels
    assert model.multiply_adds(size) == total
    assert multiply_adds(widths, size, 4, 3, bilinear, padding) == total
    dense = UNet(4, 3, bilinear, base_channels=2, padding=padding)
    assert dense.multiply_adds(size, widths) == total


def test_a_size_that_a_network_without_padding_cannot_take_has_no_cost():
    with pytest.raises(ValueError, match='the nearest are 188 and 204'):
        UNet(3, 2, base_channels=1, padding='valid').multiply_adds((188, 190))


def test_the_network_of_width_64_takes_735040_multiply_adds_a_pixel():
    assert multiply_adds(default_widths(64), (640, 960)) == 735_040 * 640 * 960
