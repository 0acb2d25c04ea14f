"""8 bits: which layers are quantized, and which stay in float32 if too much Dice is lost."""

import numpy as np
import pytest
import torch
from devices import needs
from drawing import data_set
from launching import in_own_process
from networks import SLIM, brightness_network, save

import predict
from unet import UNet
from utils.data.dataset import SegmentationDataset
from utils.inference.backends.selection import PACKAGES, fold_batchnorm
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError

pytestmark = needs(*PACKAGES['int8'])
KEPT = ('inc', 'up4', 'outc')  # the layers at full resolution


@pytest.fixture
def quantize(folder, monkeypatch):
    """Quantizes and scores as if the Dice were those given: in float32, and of each try."""
    from utils.inference.backends import quantization

    data_set(folder, 8)
    dataset, tries = SegmentationDataset('imgs', 'masks'), []
    network = brightness_network()

    class Converted:
        clone = staticmethod(object)

    monkeypatch.setattr(quantization, 'convert', lambda model: Converted())
    monkeypatch.setattr(quantization, 'OpenVinoNetwork', lambda model, precision: object())
    monkeypatch.setattr(
        quantization, '_write_quantized', lambda source, pixels, kept, path: tries.append(kept)
    )

    def run(*dice):
        tries.clear()
        values = iter(dice)
        found = quantization.quantize(
            Predictor(network, 1.0, [0, 255]), dataset, lambda *_: next(values)
        )
        assert next(values, None) is None
        return found, list(tries)

    (folder / 'user-cache/unet/int8').mkdir(parents=True)
    return run


def test_a_network_that_loses_little_is_all_in_8_bits(quantize):
    message, tries = quantize(0.9, 0.8981)
    assert message.startswith('int8: Dice 0.8981, -0.19 points, on 6 images of ')
    assert tries == [()]


@pytest.mark.parametrize('lost', [0.88, float('nan')])
def test_one_that_loses_much_keeps_the_full_resolution_in_float32(quantize, capsys, lost):
    message, done = quantize(0.9, lost, 0.899)
    assert done == [(), KEPT]
    assert message.startswith('int8 with inc, up4, outc in float32: Dice 0.8990, -0.10 points')
    points = f'{lost:.4f}, {100 * (lost - 0.9):+.2f} points'
    assert f'note: int8: Dice {points}: too much is lost' in capsys.readouterr().out
    assert quantize() == (message, [])  # remembered


def test_one_that_still_loses_much_is_refused_with_the_loss(quantize):
    for dice in ((0.9, 0.88, 0.89), ()):  # remembered, too
        with pytest.raises(
            UserError, match=r'up4, outc in float32: Dice 0.8900, -1.00 points.*0.2'
        ):
            quantize(*dice)


@pytest.mark.slow
@pytest.mark.parametrize('kept', [(), KEPT])
@pytest.mark.parametrize('options', [{'widths': SLIM}, {'base_channels': 2, 'bilinear': True}])
@in_own_process
def test_every_convolution_but_the_first_and_those_in_float32_reads_8_bits(tmp_path, options, kept):
    import openvino

    from utils.inference.backends.openvino import convert
    from utils.inference.backends.quantization import _write_quantized

    torch.manual_seed(0)
    source = convert(fold_batchnorm(UNet(3, 2, **options)))
    pixels = [np.random.default_rng(0).random((1, 3, 48, 80), dtype=np.float32)]
    _write_quantized(source, pixels, kept, tmp_path / 'n.xml')
    found = {}
    for node in openvino.Core().read_model(tmp_path / 'n.xml').get_ordered_ops():
        if node.get_type_name() in ('Convolution', 'ConvolutionBackpropData'):
            name = node.get_friendly_name().split('/')[0].removeprefix('__module.')
            read = node.input_value(0).get_node()
            while read.get_type_name() in ('MaxPool', 'Pad', 'Interpolate'):
                read = read.input_value(0).get_node()
            found[name] = read.get_type_name() == 'FakeQuantize'
    assert len(found) == 19 + 4 * ('widths' in options)
    known = {name: name.split('.')[0] not in kept for name in found}
    assert found == known | {'inc.double_conv.0': False}


@pytest.fixture
def command(folder):
    """predict.py with int8, for a network and four pictures."""
    data_set(folder, 4)
    save('MODEL.pth', brightness_network(), mask_values=[0, 255])
    return ['-i', 'imgs', '-o', 'out/', '--device', 'cpu', '--quantize', 'int8']


def test_without_pictures_to_measure_on_predict_names_its_own_options(command, capsys):
    assert predict.main(command) == 2
    error = capsys.readouterr().err
    assert 'data/imgs does not exist. Name them with --calibration-images' in error
    assert 'demo' not in error


def test_pictures_to_measure_on_may_be_a_pattern(command, monkeypatch):
    from utils.inference.backends import quantization

    measured = []
    monkeypatch.setattr(quantization, 'quantize', lambda _, dataset, __: measured.append(dataset))
    places = ['--calibration-images', 'imgs/*.png', '--calibration-masks', 'masks/*.png']
    assert predict.main([*command, *places]) == 0
    assert len(measured[0]) == 4
