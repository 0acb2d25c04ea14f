"""The network equals the reference and keeps its promises on sizes, memory and compilation."""

import numpy as np
import pytest
import torch
from reference import FIXTURES, fill, image, load_json

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
    reference = np.load(FIXTURES / 'forward.npz')
    model = fill(UNet(n_channels, n_classes, bilinear=bilinear))
    with torch.no_grad():
        for mode in ('eval', 'train'):  # in this order: the train pass moves the statistics
            expected = reference[f'{name}_{mode}']
            logits = model.train(mode == 'train')(image('image', shape)).numpy()
            assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize('bilinear', [False, True])
@pytest.mark.parametrize('size', [(16, 16), (17, 31), (33, 50), (16, 200)])
def test_logits_have_the_size_of_the_picture(bilinear, size):
    model = UNet(1, 3, bilinear=bilinear, base_channels=4).eval()
    assert model(torch.rand(1, 1, *size)).shape == (1, 3, *size)


def test_pictures_the_network_cannot_take_are_refused_with_their_size():
    model = UNet(3, 2, base_channels=4)
    with pytest.raises(ValueError, match=r'from 16 x 16 pixels, got 40 x 15'):
        model(torch.rand(1, 3, 15, 40))
    with pytest.raises(ValueError, match=r'takes 3 channels, got 1'):
        model(torch.rand(1, 1, 32, 32))


def saved_bytes(model, x):
    """Bytes that autograd keeps for the backward pass, and the gradients."""
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
