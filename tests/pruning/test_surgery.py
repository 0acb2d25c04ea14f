"""A pruned network computes what the dense one does with the removed channels set to zero."""

import pytest
import torch
from networks import SLIM
from torch import nn

from unet import UNet
from unet.widths import UPSAMPLED, follow_below, layers
from utils.pruning.surgery import groups, prune


def random_network(bilinear=False, base_channels=3, **options):
    """A float64 network whose entries are all random, BatchNorm's and biases included."""
    torch.manual_seed(1)
    model = UNet(3, 2, bilinear, base_channels, **options).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.bias.data.uniform_(0.1, 0.6)  # so that ReLU leaves something of each channel
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 2)
            module.num_batches_tracked.fill_(7)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            transposed = isinstance(module, nn.ConvTranspose2d)
            inputs = module.weight[:, 0, 0, 0] if transposed else module.weight[0]
            scale = (2 / inputs.numel()) ** 0.5  # so that the deepest channels reach the logits
            module.weight.data.normal_(std=scale)
            if module.bias is not None:
                module.bias.data.uniform_(-0.5, 0.5)
    return model


@torch.inference_mode()
def zeroed_logits(model, kept, images):
    """Logits of the dense network with the channels that are not kept set to zero by hooks."""

    def zero(channels):
        def hook(module, inputs, output):
            mask = torch.zeros(output.shape[1], dtype=output.dtype)
            mask[channels] = 1
            return output * mask[:, None, None]

        return hook

    modules = dict(model.named_modules())
    named = {layer.output: layer.activation for layer in layers(model.bilinear)}
    handles = [
        modules[named[k]].register_forward_hook(zero(channels)) for k, channels in kept.items()
    ]
    logits = model(images)
    for handle in handles:
        handle.remove()
    return logits


def every_third_removed(width, first):
    return torch.tensor([k for k in range(width) if k % 3 != first % 3])


def assert_equal_to_zeroed(model, kept, size):
    images = torch.rand(2, model.n_channels, *size, dtype=torch.float64)
    right = zeroed_logits(model, kept, images)
    with torch.inference_mode():
        smaller = prune(model, kept)
        found, dense = smaller(images), model(images)
    assert (found - right).abs().max() < 1e-10
    assert (found - dense).abs().max() > 1e-6  # the removed channels did something
    for group, channels in kept.items():
        assert smaller.widths[group] == len(channels)
    single = prune(model.float(), kept)(images.float())
    assert (single - right).abs().max() < 1e-5 * right.abs().max()


@pytest.mark.parametrize('bilinear', [False, True])
@pytest.mark.parametrize('position', range(22))
def test_channels_of_one_layer_alone(position, bilinear):
    if position not in groups(bilinear):
        assert bilinear and position in UPSAMPLED
        return
    model = random_network(bilinear)
    kept = {position: every_third_removed(model.widths[position], position)}
    assert_equal_to_zeroed(model, kept, (32, 32))


@pytest.mark.parametrize('padding', ['same', 'valid'])
@pytest.mark.parametrize('norm', ['batch', 'none'])
@pytest.mark.parametrize('bilinear', [False, True])
def test_channels_of_all_layers_together(bilinear, norm, padding):
    model = random_network(bilinear, norm=norm, padding=padding, dropout=0.5)
    kept = {k: every_third_removed(model.widths[k], k) for k in groups(bilinear)}
    assert_equal_to_zeroed(model, kept, (188, 204) if padding == 'valid' else (37, 51))
    smaller = prune(model, kept)
    assert (smaller.norm, smaller.padding, smaller.dropout) == (norm, padding, 0.5)


@pytest.mark.parametrize('bilinear', [False, True])
def test_a_slim_network_can_be_pruned_again(bilinear):
    widths = follow_below(SLIM) if bilinear else SLIM
    model = random_network(bilinear, widths=widths)
    kept = {k: torch.arange(1, widths[k]) for k in groups(bilinear) if widths[k] > 1}
    assert_equal_to_zeroed(model, kept, (32, 32))


def test_all_channels_kept_change_nothing():
    model = random_network().train()
    model.use_checkpointing()
    for kept in ({}, {k: torch.arange(width) for k, width in enumerate(model.widths)}):
        same = prune(model, kept)
        assert same.training and same.checkpointing and same.widths == model.widths
        state = model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in same.state_dict().items())
    assert all(a is not b for a, b in zip(model.parameters(), same.parameters(), strict=True))
    with torch.no_grad():
        next(same.parameters()).zero_()
    assert next(model.parameters()).abs().max() > 0  # nothing is shared


@pytest.mark.parametrize('channels', [[], [0, 0], [1, 0], [0, 3], [-1, 2]])
def test_channels_that_are_none_are_refused(channels):
    with pytest.raises(ValueError, match=r'group 0 is to keep .*from 0 to 2'):
        prune(random_network(), {0: torch.tensor(channels, dtype=torch.int64)})


@pytest.mark.parametrize(('group', 'bilinear'), [(22, False), (-1, False), (10, True)])
def test_image_channels_classes_and_bilinear_upsampling_are_no_groups(group, bilinear):
    with pytest.raises(ValueError, match=f'group {group} cannot be chosen'):
        prune(random_network(bilinear), {group: torch.tensor([0])})
