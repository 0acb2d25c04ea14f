"""Muon's updates are orthogonal, AdamW's equal torch's, and each parameter has the right one."""

import pytest
import torch
from torch import nn

from unet import UNet
from utils.training.optimization.muon import Batch, Muon, Packing


def orthogonalize(matrix):
    """Return the matrix that Muon takes from a gradient of this one."""
    filters = matrix.clone()[:, :, None, None]
    batch = Batch.of([filters], min(256, *matrix.shape))
    parts = batch.parts(filters, 0)
    for source, chunk in parts:
        chunk.copy_(source)
    batch.orthogonalize(torch.empty_like(batch.chunks))
    for target, chunk in parts:
        target.copy_(chunk)
    return filters[:, :, 0, 0]


@pytest.mark.parametrize('shape', [(8, 20), (20, 8), (64, 9 * 64)])
def test_all_singular_values_become_about_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    values /= max(1, shape[0] / shape[1]) ** 0.5  # the factor of high matrices
    assert values.min() > 0.3 and values.max() < 1.3
    assert values.median() == pytest.approx(1, abs=0.25)


def test_directions_are_kept():
    # A matrix of orthogonal rows of lengths 3 and 1: its nearest orthonormal one is the identity.
    update = orthogonalize(torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    torch.testing.assert_close(update.sign(), torch.eye(2, 3))


def test_blocks_of_256_rows_are_each_orthogonal_by_themselves():
    torch.manual_seed(0)
    matrix = torch.randn(512, 600)
    update = orthogonalize(matrix)
    for block in (slice(0, 256), slice(256, 512)):
        torch.testing.assert_close(update[block], orthogonalize(matrix[block]))


def test_a_gradient_of_zeros_moves_no_filter():
    assert orthogonalize(torch.zeros(4, 6)).abs().max() == 0


def test_the_rest_moves_as_with_torchs_adamw():
    torch.manual_seed(0)
    model, twin = UNet(3, 2, base_channels=2), UNet(3, 2, base_channels=2)
    twin.load_state_dict(model.state_dict())
    ours = Muon(model, lr=0.01, weight_decay=0.1)
    last = twin.outc.conv.weight  # of 2 instead of 64 inputs, so that it moves 32 times as far
    others = [p for p in twin.parameters() if p is not last]
    groups = [{'params': others}, {'params': [last], 'lr': 0.32}]
    theirs = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    for _ in range(3):
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        ours.step()
        theirs.step()
    moved_alike = {
        name
        for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True)
        if torch.allclose(a, b, atol=1e-6)
    }
    inner = {name for name, p in model.named_parameters() if p.dim() == 4}
    inner -= {'inc.double_conv.0.weight', 'outc.conv.weight'}
    assert moved_alike == {name for name, _ in model.named_parameters()} - inner


@pytest.mark.parametrize(('width', 'distance'), [(16, 0.004), (64, 0.001), (96, 0.001)])
def test_logits_of_narrow_networks_move_as_far_in_a_step_as_those_of_width_64(width, distance):
    model = nn.Sequential(
        *(nn.Conv2d(i, o, 1) for i, o in ((3, width), (width, width), (width, 2)))
    )
    before = [p.detach().clone() for p in model[2].parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    Muon(model, lr=0.001, weight_decay=0.0).step()
    moved = [b - p for p, b in zip(model[2].parameters(), before, strict=True)]
    torch.testing.assert_close(moved[0], torch.full_like(moved[0], distance))
    torch.testing.assert_close(moved[1], torch.full_like(moved[1], 0.001))


def test_a_filter_moves_by_the_rate_times_an_orthogonal_matrix():
    torch.manual_seed(0)
    model = UNet(1, 2, base_channels=4)
    weight = model.down1.maxpool_conv[1].double_conv[0].weight  # (8, 4, 3, 3)
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    Muon(model, lr=0.001, ratio=20).step()
    moved = (weight - before).flatten(1)
    values = torch.linalg.svdvals(moved) / 0.02
    assert values.min() > 0.5 and values.max() < 1.3


def test_memory_format_does_not_change_the_step():
    torch.manual_seed(0)
    model = UNet(1, 2, base_channels=4)
    twin = UNet(1, 2, base_channels=4).to(memory_format=torch.channels_last)
    twin.load_state_dict(model.state_dict())
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        a.grad = torch.randn_like(a)
        b.grad = torch.empty_like(b).copy_(a.grad)
    Muon(model, lr=0.001).step()
    Muon(twin, lr=0.001).step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_padding_to_one_batch_changes_rounding_alone():
    torch.manual_seed(0)
    model = UNet(1, 2, bilinear=True, base_channels=8)
    filters = [p.detach() for p in model.parameters() if p.dim() == 4][1:-1]
    filters += [torch.randn(48, 2, 3, 3), torch.randn(512, 40, 3, 3)]  # a high one, two blocks
    gradients = [torch.randn_like(p) for p in filters]
    moved = []
    for pad in (False, True):
        weights = [p.clone() for p in filters]
        momenta = [torch.ones_like(p) for p in filters]
        packing = Packing(weights, momenta, pad)
        for _ in range(2):
            packing.step(momenta, gradients, 1.0, 0.95)
        moved.append((len(packing.batches), weights))
    (separate, one), (together, other) = moved
    assert separate == 6 and together == 1
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_loaded_state_of_another_memory_format_gives_the_same_step():
    steps = []
    for form in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = UNet(1, 2, base_channels=4).to(memory_format=torch.channels_last)
        optimizer = Muon(model, lr=0.001)
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.randn(p.shape)
            optimizer.step()
            state = optimizer.state_dict()
            for values in state['state'].values():
                for name, value in values.items():
                    if value.dim() == 4:
                        values[name] = value.clone(memory_format=form)
            optimizer.load_state_dict(state)
        steps.append([p.detach() for p in model.parameters()])
    for a, b in zip(*steps, strict=True):
        torch.testing.assert_close(a, b)
