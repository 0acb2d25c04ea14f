"""Weights in half precision: cast once, not for each image."""

import pytest
import torch
from torch import nn

import predict
from unet import UNet
from utils.inference.backends.selection import build_network, fold_batchnorm
from utils.runtime.precision import MixedPrecision

CPU = torch.device('cpu')


@pytest.mark.parametrize('norm', ['batch', 'none'])
@pytest.mark.parametrize('bilinear', [False, True])
@torch.inference_mode()
def test_weights_are_cast_once_and_give_the_logits_of_autocast_to_the_last_bit(norm, bilinear):
    torch.manual_seed(0)
    model = UNet(3, 2, bilinear=bilinear, base_channels=4, norm=norm).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # numbers that bfloat16 rounds
            layer.running_mean.normal_()
            layer.weight.uniform_(0.5, 1.5)
    precision = MixedPrecision(CPU, amp=True, name='bf16')
    images = torch.rand(2, 3, 64, 48).contiguous(memory_format=torch.channels_last)
    plain = {'torch': fold_batchnorm(model), 'unfolded': model}
    for backend, expected in plain.items():
        network = build_network(model, backend, precision)
        with precision.autocast():
            assert torch.equal(network(images), expected(images))
        dtypes = {
            parameter.dtype
            for layer in network.modules()
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            for parameter in layer.parameters()
        }
        assert dtypes == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}  # the model's own are kept


@pytest.mark.slow
def test_the_originals_networks_are_cast_once_too_where_amp_is_asked_for(folder):
    torch.manual_seed(0)
    torch.save(UNet(3, 2, base_channels=2).state_dict(), 'flat.pth')
    seen = []
    for options in ([], ['--amp']):
        args = predict.get_args(['-m', 'flat.pth', '-i', 'x.png', '--device', 'cpu', *options])
        args.tiling = None
        predictor = predict.load_predictor(args)
        predict.use_backend(args, predictor, 1)
        seen.append(predictor.networks[0].inc.double_conv[0].weight.dtype)
        assert isinstance(predictor.networks[0].inc.double_conv[1], nn.BatchNorm2d)
    assert seen == [torch.float32, torch.bfloat16]
