"""The network equals the reference. Sizes, memory format, checkpointing, export, compilation."""

import copy

import numpy as np
import pytest
import torch
from reference import FIXTURES, fill, image, load_json
from torch.nn import functional as F

from unet import UNet


@pytest.mark.parametrize('bilinear', [False, True])
def test_state_dict_has_the_reference_names_shapes_and_order(bilinear):
    expected = load_json('state_dict_keys.json')[f'n_channels=3 n_classes=2 bilinear={bilinear}']
    state = UNet(3, 2, bilinear=bilinear).state_dict()
    found = [[k, list(v.shape), str(v.dtype).removeprefix('torch.')] for k, v in state.items()]
    assert found == expected


@pytest.mark.parametrize(
    ('name', 'n_channels', 'n_classes', 'bilinear', 'shape'),
    [
        ('c3_n2_transposed', 3, 2, False, (1, 3, 48, 65)),
        ('c1_n1_bilinear', 1, 1, True, (2, 1, 33, 47)),
        ('c3_n4_bilinear', 3, 4, True, (1, 3, 64, 80)),
    ],
)
def test_logits_equal_the_reference(name, n_channels, n_classes, bilinear, shape):
    expected = np.load(FIXTURES / 'forward.npz')[f'{name}_eval']
    model = fill(UNet(n_channels, n_classes, bilinear=bilinear)).eval()
    with torch.no_grad():
        logits = model(image('image', shape)).numpy()
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def forward_by_formula(weights, x, bilinear):
    """Return training-mode logits of a state_dict, by the formulas of each layer, in x's dtype."""

    def double_conv(x, name):
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv2d(x, weights[f'{name}.double_conv.{conv}.weight'], padding=1)
            mean = x.mean((0, 2, 3), keepdim=True)
            variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
            gain, bias = (weights[f'{name}.double_conv.{norm}.{k}'] for k in ('weight', 'bias'))
            x = (x - mean) / (variance + 1e-5).sqrt() * gain[:, None, None] + bias[:, None, None]
            x = x.clamp(min=0)
        return x

    maps = [double_conv(x, 'inc')]
    for k in range(1, 5):
        maps.append(double_conv(F.max_pool2d(maps[-1], 2), f'down{k}.maxpool_conv.1'))
    x = maps.pop()
    for k in range(1, 5):
        if bilinear:
            x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
        else:
            up = (weights[f'up{k}.up.{part}'] for part in ('weight', 'bias'))
            x = F.conv_transpose2d(x, *up, stride=2)
        skip = maps.pop()
        rows, columns = (skip.shape[axis] - x.shape[axis] for axis in (2, 3))
        x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        x = double_conv(torch.cat([skip, x], dim=1), f'up{k}.conv')
    return F.conv2d(x, weights['outc.conv.weight'], weights['outc.conv.bias'])


@pytest.mark.parametrize('bilinear', [False, True])
def test_logits_in_training_mode_equal_the_formula(bilinear):
    """Random weights, and 4 x 7 x 9 values in a deepest map, so that float32 equals float64.

    With the reference's weights, a dozen channels there have nearly no variance, and rounding
    alone, which differs between processors, changes the logits by 8e-4.
    """
    torch.manual_seed(0)
    model = UNet(3, 4, bilinear=bilinear, base_channels=8).train()
    pictures = torch.rand(4, 3, 112, 150)
    exact = {name: tensor.double() for name, tensor in model.state_dict().items()}
    expected = forward_by_formula(exact, pictures.double(), bilinear)
    with torch.no_grad():
        in_float64 = copy.deepcopy(model).double()(pictures.double())
        logits = model(pictures).double()
    torch.testing.assert_close(in_float64, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('bilinear', [False, True])
@pytest.mark.parametrize('size', [(16, 16), (17, 31), (33, 50), (16, 200)])
def test_logits_have_the_size_of_the_image(bilinear, size):
    model = UNet(1, 3, bilinear=bilinear, base_channels=4).eval()
    assert model(torch.rand(1, 1, *size)).shape == (1, 3, *size)


def test_errors_of_images_that_the_network_cannot_take_name_size_and_channels():
    model = UNet(3, 2, base_channels=4)
    with pytest.raises(ValueError, match=r'16 x 16 pixels, got 40 x 15'):
        model(torch.rand(1, 3, 15, 40))
    with pytest.raises(ValueError, match=r'3 channels, got 1'):
        model(torch.rand(1, 1, 32, 32))


def saved_bytes(model, x):
    """Return the bytes that autograd saves for the backward pass, and the gradients."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(x).square().mean()
    loss.backward()
    return sum(sizes.values()), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize('bilinear', [False, True])
def test_checkpointing_keeps_gradients_and_statistics_and_saves_memory(bilinear):
    torch.manual_seed(0)
    x = torch.rand(2, 3, 64, 64)
    plain, frugal = (UNet(3, 2, bilinear=bilinear, base_channels=4) for _ in range(2))
    frugal.load_state_dict(plain.state_dict())
    frugal.use_checkpointing()
    plain_bytes, plain_gradients = saved_bytes(plain, x)
    frugal_bytes, frugal_gradients = saved_bytes(frugal, x)
    for a, b in zip(plain_gradients, frugal_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for (name, a), b in zip(plain.state_dict().items(), frugal.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=f'{name} counted twice')
    assert frugal_bytes < 0.6 * plain_bytes


def test_checkpointing_recomputes_each_block_once():
    model = UNet(1, 2, base_channels=4)
    calls = []
    model.down2.register_forward_pre_hook(lambda *_: calls.append(1))
    model.use_checkpointing()
    model(torch.rand(2, 1, 32, 32)).sum().backward()
    assert len(calls) == 2


def test_channels_last_gives_the_same_logits_in_channels_last():
    model = UNet(3, 2, base_channels=8).eval()
    x = torch.rand(2, 3, 48, 65)
    expected = model(x)
    found = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize('bilinear', [False, True])
def test_export_with_any_height_and_width_equals_eager(bilinear):
    model = UNet(3, 2, bilinear=bilinear, base_channels=4).eval()
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (torch.rand(1, 3, 48, 64),), dynamic_shapes=(sides,))
    x = torch.rand(1, 3, 35, 81)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiles_to_one_graph_with_equal_logits_and_gradients():
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=4)
    x = torch.rand(2, 3, 33, 48)
    eager = model(x)
    eager.sum().backward()
    expected = model.inc.double_conv[0].weight.grad.clone()
    model.zero_grad()
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)(x)
    compiled.sum().backward()
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.inc.double_conv[0].weight.grad, expected, rtol=1e-3, atol=1e-4)
