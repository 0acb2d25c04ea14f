"""Gradients of convolutions on CPUs without AVX-512 are torch's, and are used there alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unet import UNet, convolution
from unet.convolution import Conv3x3, ConvTranspose2x2, weight_gradient

LAST = torch.channels_last


@pytest.fixture
def limited(monkeypatch):
    """Take this CPU for one without AVX-512."""
    monkeypatch.setattr(convolution, 'without_avx512', lambda: True)


def of_both(layer, plain, x):
    """Return gradients of input and parameters, in float32 of a layer and in float64 of torch's."""
    plain.load_state_dict(layer.state_dict())
    found = []
    for module, dtype in ((layer, torch.float32), (plain, torch.float64)):
        module.to(dtype).to(memory_format=LAST).train()
        own = x.to(dtype).contiguous(memory_format=LAST).requires_grad_()
        out = module(own)
        torch.manual_seed(1)
        out.backward(torch.randn(out.shape).to(dtype))  # not channels last
        found.append([out.detach(), own.grad, *(p.grad for p in module.parameters())])
    return zip(*found, strict=True)


def check_close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ('images', 'channels', 'outputs', 'height', 'width'),
    [
        (2, 3, 4, 1, 1),
        (3, 5, 2, 7, 9),
        (5, 2, 3, 13, 17),  # two images to a block, then the fifth
        (2, 4, 3, 40, 33),  # bands of 15 rows, the last of 10
        (1, 2, 3, 3, 600),  # bands of one row
    ],
)
@pytest.mark.parametrize('padding', [0, 1])
def test_the_weights_gradient_is_that_of_the_formula(
    images, channels, outputs, height, width, padding
):
    torch.manual_seed(0)
    gradient = torch.randn(images, outputs, height, width)
    x = torch.randn(images, channels, height + 2 - 2 * padding, width + 2 - 2 * padding)
    x, gradient = (t.contiguous(memory_format=LAST) for t in (x, gradient))
    found = weight_gradient(x, gradient, padding)
    padded = F.pad(x.double(), 4 * [padding])
    for row in range(3):
        for column in range(3):
            part = padded[:, :, row : row + height, column : column + width]
            expected = torch.einsum('bohw,bchw->oc', gradient.double(), part)
            scale = expected.abs().max()
            assert (found[:, :, row, column] - expected).abs().max() <= 1e-5 * scale
    assert found.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize('padding', [0, 1])
@pytest.mark.parametrize('bias', [False, True])
def test_gradients_of_a_3x3_convolution_are_torchs(limited, padding, bias):
    layer, plain = Conv3x3(3, 5, padding, bias), nn.Conv2d(3, 5, 3, padding=padding, bias=bias)
    for found, expected in of_both(layer, plain, torch.randn(2, 3, 11, 8)):
        check_close(found, expected)


def test_gradients_of_a_transposed_convolution_are_torchs(limited):
    layer, plain = ConvTranspose2x2(6, 3), nn.ConvTranspose2d(6, 3, 2, stride=2)
    for found, expected in of_both(layer, plain, torch.randn(2, 6, 5, 4)):
        check_close(found, expected)


@pytest.mark.parametrize('layer', [Conv3x3(2, 3, 1, False), ConvTranspose2x2(2, 3)])
def test_gradients_of_gradients_are_torchs(limited, layer):
    plain = nn.Conv2d.forward if isinstance(layer, nn.Conv2d) else nn.ConvTranspose2d.forward
    layer = copy.deepcopy(layer).to(memory_format=LAST)
    x = torch.randn(2, 2, 6, 5).contiguous(memory_format=LAST).requires_grad_()
    found = []
    for forward in (layer, lambda x: plain(layer, x)):
        (slope,) = torch.autograd.grad(forward(x).pow(2).sum(), layer.weight, create_graph=True)
        found.append(torch.autograd.grad(slope.pow(2).sum(), [x, layer.weight]))
    for own, expected in zip(*found, strict=True):
        check_close(own, expected)


def gradients(model, images):
    model.zero_grad()
    model(images).square().mean().backward()
    return [p.grad.clone() for p in model.parameters()]


def networks():
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=4).to(memory_format=LAST).train()
    return model, torch.rand(2, 3, 35, 41).contiguous(memory_format=LAST)


def test_a_network_has_the_same_gradients_twice_and_with_checkpointing(limited):
    model, images = networks()
    first, second = gradients(model, images), gradients(model, images)
    model.use_checkpointing()
    third = gradients(model, images)
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def calls(monkeypatch):
    """Return a list that gets the channels of each convolution whose gradient is computed here."""
    seen = []
    own = convolution.weight_gradient
    monkeypatch.setattr(
        convolution, 'weight_gradient', lambda x, *more: (seen.append(x.shape[1]), own(x, *more))[1]
    )
    return seen


def test_a_network_in_training_uses_them_for_each_3x3_convolution(limited, monkeypatch):
    seen = calls(monkeypatch)
    gradients(*networks())
    assert len(seen) == 18


@pytest.mark.parametrize('case', ['autocast', 'eval', 'float64', 'contiguous', 'avx512'])
def test_elsewhere_gradients_are_torchs_own(limited, monkeypatch, case):
    seen = calls(monkeypatch)
    model, images = networks()
    if case == 'eval':
        model.eval()
    elif case == 'float64':
        model, images = model.double(), images.double()
    elif case == 'contiguous':
        model.to(memory_format=torch.contiguous_format)
    elif case == 'avx512':
        monkeypatch.setattr(convolution, 'without_avx512', lambda: False)
    with torch.autocast('cpu', torch.bfloat16, enabled=case == 'autocast'):
        loss = model(images).square().mean()
    loss.backward()
    assert not seen


@pytest.mark.parametrize(
    ('capability', 'variables', 'expected'),
    [
        ('AVX2', {}, True),
        ('AVX512', {}, False),
        ('AVX512', {'ONEDNN_MAX_CPU_ISA': 'AVX2'}, True),
        ('AVX512', {'DNNL_MAX_CPU_ISA': 'avx2_vnni'}, True),
        ('AVX512', {'ONEDNN_MAX_CPU_ISA': 'AVX512_CORE'}, False),
        ('AVX512', {'ONEDNN_MAX_CPU_ISA': 'DEFAULT'}, False),
        ('DEFAULT', {}, False),  # ARM, or too old
    ],
)
def test_the_processor_and_onednns_variable_decide(monkeypatch, capability, variables, expected):
    for name in ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    assert convolution.without_avx512.__wrapped__() is expected
