"""Inference backends give the same masks; what they need is checked before work starts."""

import importlib.util
import json
import os

import numpy as np
import pytest
import torch
from devices import needs
from drawing import data_set
from launching import in_own_process
from networks import brightness_network, save
from PIL import Image
from torch import nn

import predict
from unet import UNet
from utils.inference import predictor as predictors
from utils.inference.backends import selection
from utils.inference.backends.selection import (
    PACKAGES,
    WORTH_PIXELS,
    build_network,
    choose_backend,
    fold_batchnorm,
)
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision

CPU = torch.device('cpu')
FLOAT = MixedPrecision(CPU, amp=False)


def trained_like(n_classes=2, base_channels=4, **shape):
    """A network whose BatchNorms have statistics, scales and shifts of their own."""
    torch.manual_seed(0)
    model = UNet(3, n_classes, base_channels=base_channels, **shape).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.bias.data):
                tensor.uniform_(-0.5, 0.5)
            for tensor in (norm.running_var, norm.weight.data):
                tensor.uniform_(0.5, 2)
    return model


@torch.inference_mode()
def logits(network, *shape):
    return network(torch.rand(*shape, generator=torch.Generator().manual_seed(1)))


@torch.inference_mode()
def test_folding_leaves_no_batchnorm_the_same_logits_and_the_model_as_it_was():
    model = trained_like()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = fold_batchnorm(model)
    norms = [m for m in found.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == []
    torch.testing.assert_close(
        logits(found, 2, 3, 40, 56), logits(model, 2, 3, 40, 56), rtol=1e-4, atol=1e-5
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


SLOW = pytest.mark.slow
OPENVINO, ONNX = needs(*PACKAGES['openvino']), needs(*PACKAGES['onnx'])
INT8_PACKAGES = needs(*PACKAGES['int8'])


@pytest.mark.parametrize(
    ('backend', 'n_classes'),
    [
        ('torch', 1),
        pytest.param('openvino', 3, marks=OPENVINO),
        pytest.param('openvino', 1, marks=(SLOW, OPENVINO)),
        pytest.param('onnx', 3, marks=(SLOW, ONNX)),
        pytest.param('onnx', 1, marks=(SLOW, ONNX)),
    ],
)
@in_own_process
def test_each_backend_computes_the_same_logits_for_any_batch_and_size(backend, n_classes):
    model = trained_like(n_classes)
    network = build_network(model, backend, FLOAT)
    for shape in ((1, 3, 32, 48), (3, 3, 16, 16), (2, 3, 37, 51)):
        torch.testing.assert_close(
            logits(network, *shape), logits(model, *shape), rtol=1e-4, atol=1e-4
        )


def test_compile_gives_torch_the_folded_network_to_compile(monkeypatch):
    compiled, options = [], []

    def record(function, **chosen):
        compiled.append(function)
        options.append(chosen)
        return function

    monkeypatch.setattr(torch, 'compile', record)
    model = trained_like()
    network = build_network(model, 'compile', FLOAT)
    assert network is compiled[-1]
    assert options[-1] == {'dynamic': False}  # kernels for each size, see dev/GPU.md
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_compile_without_a_compiler_is_said(monkeypatch):
    def missing(function):
        raise RuntimeError('no g++')

    monkeypatch.setattr(torch, 'compile', missing)
    with pytest.raises(UserError, match=r'--backend compile: .*g\+\+'):
        build_network(trained_like(), 'compile', FLOAT)


@SLOW
@OPENVINO
@in_own_process
def test_bfloat16_is_passed_on_to_openvino():
    model = trained_like()
    exact = logits(model, 1, 3, 32, 32)
    found = logits(
        build_network(model, 'openvino', MixedPrecision(CPU, True, 'bf16')), 1, 3, 32, 32
    )
    assert 1e-4 < (found - exact).abs().max() < 0.1


def without(monkeypatch, *packages):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name in packages else real(name) or name
    )


@OPENVINO
def test_auto_takes_openvino_for_much_work_on_a_cpu_that_has_it(monkeypatch):
    wide, narrow = UNet(3, 2), UNet(3, 2, base_channels=32)
    assert choose_backend('auto', CPU, WORTH_PIXELS, wide) == 'openvino'
    assert choose_backend('auto', CPU, WORTH_PIXELS - 1, wide) == 'torch'
    assert choose_backend('auto', CPU, WORTH_PIXELS, narrow) == 'torch'
    assert choose_backend('auto', CPU, 4 * WORTH_PIXELS, narrow) == 'openvino'
    assert choose_backend('auto', torch.device('cuda'), WORTH_PIXELS, wide) == 'torch'
    without(monkeypatch, 'openvino')
    assert choose_backend('auto', CPU, WORTH_PIXELS, wide) == 'torch'


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    without(monkeypatch, 'openvino', 'onnxruntime')
    with pytest.raises(UserError, match='--backend openvino needs openvino: pip install openvino'):
        choose_backend('openvino', CPU, 1, UNet(3, 2, base_channels=2))
    with pytest.raises(UserError, match='--backend onnx needs onnxruntime: pip install onnx onnx'):
        choose_backend('onnx', CPU, 1, UNet(3, 2, base_channels=2))
    with pytest.raises(UserError, match='--quantize int8 needs openvino: pip install openvino nn'):
        choose_backend('int8', CPU, 1, UNet(3, 2, base_channels=2))


@ONNX
@OPENVINO
@pytest.mark.parametrize('backend', ['onnx', 'openvino'])
def test_a_backend_for_cpus_is_refused_on_a_gpu(backend):
    with pytest.raises(UserError, match=f'--backend {backend} .*--device cpu'):
        choose_backend(backend, torch.device('cuda'), 1, UNet(3, 2, base_channels=2))


def test_only_torch_supports_networks_without_padding():
    model = UNet(3, 2, base_channels=2, padding='valid')
    assert choose_backend('auto', CPU, 10**9, model) == 'torch'
    assert choose_backend('torch', CPU, 1, model) == 'torch'
    with pytest.raises(UserError, match=r'--backend onnx .*--padding valid'):
        choose_backend('onnx', CPU, 1, model)
    with pytest.raises(UserError, match=r'--quantize int8 .*--padding valid'):
        choose_backend('int8', CPU, 1, model)


def test_a_folded_network_without_padding_sees_the_same_context():
    model = UNet(3, 2, base_channels=2, padding='valid')
    predictor = Predictor(model, 1.0, [0, 255])
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    before = predictor.predict_probabilities(image)
    predictor.use_backend('torch')
    torch.testing.assert_close(predictor.predict_probabilities(image), before, atol=1e-5, rtol=0)


@pytest.fixture
def pictures(folder):
    """A network that knows bright from dark, and eight pictures with their masks."""
    data_set(folder, 8, size=(48, 32))
    save('MODEL.pth', brightness_network(), mask_values=[0, 255])
    return folder


PREDICT = ['-i', 'imgs', '--device', 'cpu', '-o']
SCORES = {'float32': 0.9, 'int8': 0.8979, 'in_float': []}
INT8 = ['--quantize', 'int8', '--calibration-images', 'imgs', '--calibration-masks', 'masks']


def masks(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


@OPENVINO
@in_own_process
def test_predict_names_the_backend_and_writes_the_same_masks(pictures, capsys):
    assert predict.main([*PREDICT, 'torch/']) == 0
    assert 'backend' not in capsys.readouterr().out
    assert predict.main([*PREDICT, 'ov/', '--backend', 'openvino']) == 0
    assert 'openvino backend' in capsys.readouterr().out
    one, other = masks(pictures / 'torch'), masks(pictures / 'ov')
    assert len(one) == 8
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def built(monkeypatch):
    """The backends and widths of the networks that are built from now on, all by torch."""
    asked = []

    def building(model, backend, precision):
        asked.append((backend, model.base_channels))
        return model

    monkeypatch.setattr(predictors, 'build_network', building)
    return asked


@OPENVINO
def test_auto_counts_the_pixels_of_all_pictures_and_mirror_images(pictures, monkeypatch, built):
    width = brightness_network().base_channels
    monkeypatch.setattr(selection, 'WIDTH', width)
    monkeypatch.setattr(selection, 'WORTH_PIXELS', 2 * 8 * 48 * 32)
    assert predict.main([*PREDICT, 'a/', '-s', '1']) == 0
    assert predict.main([*PREDICT, 'b/', '-s', '1', '--tta', 'flip']) == 0
    assert built == [('torch', width), ('openvino', width)]


@OPENVINO
def test_all_averaged_networks_use_the_backend(pictures, built):
    save('other.pth', trained_like(base_channels=6), mask_values=[0, 255])
    both = ['-m', 'MODEL.pth', '-m', 'other.pth', '--backend', 'openvino']
    assert predict.main([*PREDICT, 'o/', *both]) == 0
    assert built == [('openvino', brightness_network().base_channels), ('openvino', 6)]


@SLOW
@INT8_PACKAGES
@in_own_process
def test_int8_is_scored_once_cached_and_near(pictures, monkeypatch, capsys):
    from utils.inference.backends import quantization

    assert predict.main([*PREDICT, 'plain/']) == 0
    capsys.readouterr()
    assert predict.main([*PREDICT, 'first/', *INT8]) == 0
    out = capsys.readouterr().out
    assert 'int8 on 2 images, scoring it on 6' in out
    assert 'points, on 6 images of imgs' in out
    one, other = masks(pictures / 'plain'), masks(pictures / 'first')
    assert np.mean([(one[name] == other[name]).mean() for name in one]) > 0.97
    monkeypatch.setattr(quantization, 'convert', None)  # it must not be called again
    assert predict.main([*PREDICT, 'second/', *INT8]) == 0
    assert 'calibrating' not in capsys.readouterr().out
    again = masks(pictures / 'second')
    assert all(np.array_equal(other[name], again[name]) for name in other)

    kept = next((pictures / 'user-cache/unet/int8').glob('*.json'))
    kept.write_text(json.dumps(SCORES))
    assert predict.main([*PREDICT, 'third/', *INT8]) == 2
    error = capsys.readouterr().err
    assert 'int8: Dice 0.8979, -0.21 points, on 6 images of imgs; at most 0.2' in error
    assert not (pictures / 'third').exists()
    kept.write_text(json.dumps(SCORES | {'int8': 0.8981}))
    assert predict.main([*PREDICT, 'fourth/', *INT8]) == 0
    picture = pictures / 'imgs/disc00.png'
    os.utime(picture, (1, 1))  # which marks it as changed
    monkeypatch.setattr(quantization, 'convert', lambda _: pytest.exit('asked'))
    with pytest.raises(pytest.exit.Exception):
        predict.main([*PREDICT, 'fifth/', *INT8])


@INT8_PACKAGES
def test_what_int8_cannot_do_is_refused_before_anything_is_written(pictures, capsys):
    wrong = {
        '--backend onnx': [*INT8, '--backend', 'onnx'],
        'one -m': [*INT8, '-m', 'a.pth', '-m', 'b.pth'],
        'data/imgs': ['--quantize', 'int8'],
    }
    for named, options in wrong.items():
        assert predict.main([*PREDICT, 'o/', *options]) == 2
        assert named in capsys.readouterr().err


def test_a_predictor_uses_its_model_until_another_backend_is_chosen():
    model = trained_like()
    predictor = Predictor(model, 1.0, [0, 255])
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    before = predictor.predict_probabilities(image)
    assert predictor.networks == [model]
    predictor.use_backend('torch')
    assert predictor.networks != [model]
    torch.testing.assert_close(predictor.predict_probabilities(image), before, atol=1e-4, rtol=0)
