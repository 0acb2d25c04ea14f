"""Importance of channels by three measures, and the channels that are kept for a given cost."""

import pytest
import torch
from networks import SLIM
from test_surgery import random_network, zeroed_logits

from unet import UNet, default_widths
from unet.widths import UPSAMPLED, follow_below
from utils.pruning.importance import MEASURES, batchnorm_scale, magnitude, taylor
from utils.pruning.plan import choose_channels, even_shares, round_count
from utils.pruning.surgery import groups, prune
from utils.training.optimization.loss import segmentation_loss


def batches(count=3, size=2, channels=3):
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        images = torch.rand(size, channels, 32, 32, generator=generator, dtype=torch.float64)
        yield images, (images[:, 0] > 0.5).long()


@pytest.mark.parametrize('bilinear', [False, True])
@pytest.mark.parametrize('measure', MEASURES.values(), ids=MEASURES)
def test_each_measure_gives_one_number_a_channel_and_leaves_the_network_as_it_was(
    measure, bilinear
):
    widths = follow_below(SLIM) if bilinear else SLIM
    model = random_network(bilinear, widths=widths).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = measure(model, batches(), segmentation_loss)
    assert list(found) == groups(bilinear)
    for group, values in found.items():
        assert (values.shape, values.dtype) == ((widths[group],), torch.float64)
        assert (values >= 0).all() and values.isfinite().all()
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], v) for name, v in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize('norm', ['batch', 'none'])
@pytest.mark.parametrize('bilinear', [False, True])
def test_taylor_is_the_slope_of_the_loss_as_a_channel_fades(bilinear, norm):
    model = random_network(bilinear, norm=norm)
    (images, masks), *_ = batches(1, 1)
    found = taylor(model, [(images, masks)], segmentation_loss)
    dense = segmentation_loss(model(images), masks).item()
    modules = dict(model.named_modules())
    step = 1e-5
    for group, name in ((1, 'inc.double_conv.5'), (8, 'down4.maxpool_conv.1.double_conv.2'),
                        (21, 'up4.conv.double_conv.5'), (13, 'up2.up')):  # fmt: skip
        if group not in found:
            continue
        for channel in range(len(found[group])):
            factors = torch.ones(len(found[group]), 1, 1, dtype=torch.float64)
            factors[channel] -= step
            handle = modules[name].register_forward_hook(lambda m, i, o, f=factors: o * f)
            slope = (dense - segmentation_loss(model(images), masks).item()) / step
            handle.remove()
            assert found[group][channel].item() == pytest.approx(abs(slope), rel=1e-2, abs=1e-6)


def test_taylor_averages_over_images_whatever_the_batches():
    model = random_network()
    pairs = list(batches(4, 1))
    joined = [tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))]

    def entropy(logits, masks):
        return torch.nn.functional.cross_entropy(logits, masks)

    one, other = taylor(model, pairs, entropy), taylor(model, joined, entropy)
    for group in one:
        torch.testing.assert_close(one[group], other[group])
    with pytest.raises(ValueError, match='no images'):
        taylor(model, [], entropy)


def test_a_channel_that_does_nothing_has_no_importance_by_taylor_and_magnitude():
    model = random_network()
    with torch.no_grad():  # channel 1 of inc's output, in both layers that take it
        model.down1.maxpool_conv[1].double_conv[0].weight[:, 1] = 0
        model.up4.conv.double_conv[0].weight[:, 1] = 0
    found = taylor(model, batches(), segmentation_loss)[1]
    assert found[1] == 0 and found[0] > 0 and found[2] > 0
    before = magnitude(model)[1]
    with torch.no_grad():
        model.inc.double_conv[3].weight[1] = 0
    assert magnitude(model)[1][1] == 0 < before[1]
    with torch.no_grad():
        model.up4.conv.double_conv[0].weight[:, 1] = 1
    assert magnitude(model)[1][1] > 0  # the decoder's columns belong to it


def test_batchnorm_scales_are_those_of_the_layer_and_missing_ones_are_an_error():
    model = random_network()
    with torch.no_grad():
        model.down2.maxpool_conv[1].double_conv[4].weight[2] = -7
    assert batchnorm_scale(model)[5][2] == 7
    with pytest.raises(ValueError, match='without BatchNorm'):
        batchnorm_scale(random_network(norm='none'))


@pytest.mark.parametrize('bilinear', [False, True])
@pytest.mark.parametrize('fraction', [1.0, 0.5, 0.25, 0.1])
def test_the_kept_channels_reach_the_cost_in_multiples(bilinear, fraction):
    model = UNet(3, 2, bilinear, base_channels=16)
    importance = magnitude(model)
    size = (64, 96)
    limit = fraction * model.multiply_adds(size)
    kept = choose_channels(model, importance, limit, size, multiple=4)
    smaller = prune(model, kept)
    cost = smaller.multiply_adds(size)
    assert cost <= limit
    assert cost > 0.9 * limit  # and not far less than was asked
    assert all(width % 4 == 0 and width >= 4 for width in smaller.widths)
    assert (kept == {}) == (fraction == 1)
    for group, channels in kept.items():
        least = importance[group][channels].min()
        removed = sorted(set(range(model.widths[group])) - set(channels.tolist()))
        assert importance[group][removed].max() <= least


def test_the_least_important_group_for_its_cost_is_removed_first():
    model = UNet(3, 2, base_channels=32)
    size = (32, 32)
    limit = 0.5 * model.multiply_adds(size)
    shares = even_shares(model, limit, size)
    assert model.multiply_adds(size, shares) <= limit
    for group in (6, 8):
        importance = {k: torch.ones(model.widths[k]) for k in groups(False)}
        widths = {}
        for name, factor in (('low', 1e-9), ('high', 1e9)):
            scaled = importance | {group: factor * importance[group]}
            kept = choose_channels(model, scaled, limit, size)
            widths[name] = [len(kept.get(k, range(w))) for k, w in enumerate(model.widths)]
        assert widths['low'][group] == shares[group] < widths['high'][group]


def test_no_layer_keeps_less_than_its_even_share_however_unimportant():
    model = UNet(3, 2, base_channels=32)
    size = (32, 32)
    importance = {k: torch.rand(w) * 10 ** (k % 7) for k, w in enumerate(model.widths)}
    for fraction in (0.5, 0.25, 0.1):
        limit = fraction * model.multiply_adds(size)
        kept = choose_channels(model, importance, limit, size)
        widths = [len(kept.get(k, range(w))) for k, w in enumerate(model.widths)]
        shares = even_shares(model, limit, size)
        assert all(width >= share for width, share in zip(widths, shares, strict=True))
        # Half of each width is a quarter of the cost, but for the first and the last layer.
        ratios = [share / width for share, width in zip(shares, model.widths, strict=True)]
        assert min(ratios) > 0.7 * fraction**0.5


def test_widths_that_are_no_multiples_lose_the_remainder_first_and_one_portion_stays():
    widths = list(default_widths(8))
    widths[0] = 11
    model = UNet(3, 2, widths=widths)
    importance = {group: torch.ones(model.widths[group]) for group in groups(False)}
    importance[0] *= 1e-9
    cost = model.multiply_adds((32, 32))
    assert len(choose_channels(model, importance, cost - 1, (32, 32))[0]) == 8
    with pytest.raises(ValueError, match='the cheapest takes') as caught:
        choose_channels(model, importance, 1, (32, 32))
    least = model.multiply_adds((32, 32), [8] * 22)
    assert str(caught.value).endswith(f'takes {least}')


def test_removing_what_taylor_calls_unimportant_changes_the_loss_less():
    model = random_network(base_channels=6)
    pairs = list(batches())
    images, masks = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    importance = taylor(model, pairs, segmentation_loss)
    dense = segmentation_loss(model(images), masks).item()
    change = {}
    for descending in (False, True):
        kept = {
            group: values.argsort(descending=descending)[len(values) // 6 :].sort().values
            for group, values in importance.items()
        }
        logits = zeroed_logits(model, kept, images)
        change[descending] = abs(segmentation_loss(logits, masks).item() - dense)
    assert change[False] < change[True]
    assert not set(UPSAMPLED) - set(importance)


@pytest.mark.parametrize(
    ('cost', 'rounds'), [(0.99, 1), (0.25, 1), (0.24, 2), (1 / 16, 2), (0.06, 3), (1 / 64, 3)]
)
def test_each_round_keeps_at_least_a_quarter(cost, rounds):
    assert round_count(cost) == rounds
