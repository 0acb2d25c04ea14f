"""predict.py's tiles, averages, largest components, run-length encoding and probabilities."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from drawing import decode_rle
from networks import brightness_network, save
from PIL import Image

import predict
from unet import UNet
from utils.images.decoding import pictures_of_any_size
from utils.inference import tiling
from utils.inference.ensemble import average_predictors
from utils.inference.predictor import Predictor
from utils.inference.tiling import Tiling
from utils.runtime import memory


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A network of random weights, two made by hand, and a picture of noise, 200 x 100."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save('MODEL.pth', UNet(3, 2, base_channels=2), mask_values=[0, 1])
    save('other.pth', UNet(3, 2, base_channels=4), mask_values=[0, 1])
    save('bright.pth', brightness_network(), mask_values=[0, 1])
    pixels = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save('img.png')
    return tmp_path


def probabilities(*options, picture='img.png'):
    command = ['-i', picture, '--format', 'probabilities', '-o', 'p.npy', *options]
    assert predict.main(command) == 0
    return np.load('p.npy')


def spied(monkeypatch):
    """The shapes of what the network is given from now on."""
    shapes, forward = [], UNet.forward

    def remembering(model, x):
        shapes.append(tuple(x.shape[2:]))
        return forward(model, x)

    monkeypatch.setattr(UNet, 'forward', remembering)
    return shapes


@pytest.mark.slow
def test_tiles_take_the_picture_by_parts_and_agree(folder, monkeypatch):
    whole = probabilities()
    shapes = spied(monkeypatch)
    cut = probabilities('--tile', '64', '--overlap', '0')
    assert shapes == [(64, 64)] * 3 + [(64, 56)] + [(52, 64)] * 3 + [(52, 56)]
    assert np.abs(cut - whole).max() > 1e-4
    blended = probabilities('--tile', '64', '--overlap', '48')
    assert 0 < np.abs(blended - whole).mean() < np.abs(cut - whole).mean()
    shapes.clear()
    assert np.array_equal(probabilities('--tile', '208'), whole)
    assert shapes == [(100, 200)]


@pytest.mark.slow
def test_tiles_agree_with_the_whole_at_any_scale_and_size(folder, monkeypatch):
    monkeypatch.setattr(tiling, 'STRIP_PIXELS', 5000)
    pixels = np.random.default_rng(1).integers(0, 256, (97, 1001, 3), dtype=np.uint8)
    Image.fromarray(pixels).save('wide.png')
    for scale in ('1', '0.7'):
        whole = probabilities('-s', scale, '--tile', '1024', picture='wide.png')
        tiled = probabilities('-s', scale, '--tile', '320', picture='wide.png')
        assert whole.shape == (97, 1001)
        assert np.abs(tiled - whole).max() < 1e-4


def test_an_image_that_memory_does_not_hold_is_predicted_by_tiles(folder, monkeypatch, capsys):
    whole = probabilities()
    monkeypatch.setattr(memory, 'available_memory', lambda *_: 100 * 200 * 2 * 45 - 1)
    monkeypatch.setattr(tiling, 'SIDES', (128, 32))
    monkeypatch.setattr(tiling, 'Tiling', lambda side: Tiling(side, 16))
    shapes = spied(monkeypatch)
    capsys.readouterr()
    tiled = probabilities()
    out = capsys.readouterr().out
    assert 'memory does not hold 200 x 100 pixels' in out
    assert 'tiles of 128 pixels' in out
    assert set(shapes) == {(100, 128), (100, 120)}
    assert np.abs(tiled - whole).mean() < 0.05


@pytest.mark.parametrize(
    'error',
    [
        torch.OutOfMemoryError('CUDA out of memory.'),
        RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_when_memory_runs_out_ever_smaller_tiles_are_used(folder, monkeypatch, capsys, error):
    whole = probabilities()
    monkeypatch.setattr(tiling, 'SIDES', (128, 64))
    monkeypatch.setattr(tiling, 'Tiling', lambda side: Tiling(side, 16))
    forward = UNet.forward

    def limited(model, x):
        if x.shape[2] * x.shape[3] > 64 * 64:
            raise error
        return forward(model, x)

    monkeypatch.setattr(UNet, 'forward', limited)
    capsys.readouterr()
    tiled = probabilities()
    out = capsys.readouterr().out
    assert re.findall(r'out of memory; 200 x 100 .* tiles of (\d+)', out) == ['128', '64']
    assert np.abs(tiled - whole).mean() < 0.05
    for k in range(4):
        Image.open('img.png').save(f'img{k}.png')
    inputs = [f'img{k}.png' for k in range(4)]  # a batch, then each alone, then tiles
    assert predict.main(['-i', *inputs, '--batch-size', '4', '-n']) == 0


def test_memory_that_runs_out_half_way_repeats_no_row(folder, monkeypatch):
    """The first tiles are fine, a later one is not: what was given is not given again."""
    predictor = Predictor.load('MODEL.pth')
    predictor.tiling = Tiling(128, 32)
    image = torch.rand(3, 300, 128)
    whole = torch.cat(list(next(predictor.strips([(image, (128, 300))]))), dim=1)
    monkeypatch.setattr(tiling, 'SIDES', (64,))
    monkeypatch.setattr(tiling, 'Tiling', lambda side: Tiling(side, 32))
    forward, calls = Predictor.predict_batch, []

    def failing(self, images):
        calls.append(images.shape[2:])
        if len(calls) == 2:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return forward(self, images)

    monkeypatch.setattr(Predictor, 'predict_batch', failing)
    found = torch.cat(list(next(predictor.strips([(image, (128, 300))]))), dim=1)
    assert found.shape == whole.shape
    first = 128 - 32 // 2 - 8 - 1  # a row is given when the next one is there
    assert torch.equal(found[:, :first], whole[:, :first])
    assert (found - whole).abs().mean() < 0.05


@pytest.mark.parametrize('tile', [[], ['--tile', '64']])
def test_flip_averages_with_the_mirrored_picture(folder, tile):
    plain = probabilities()
    Image.open('img.png').transpose(Image.Transpose.FLIP_LEFT_RIGHT).save('mirrored.png')
    mirrored = probabilities(picture='mirrored.png')
    both = probabilities('--tta', 'flip', *tile)
    if not tile:
        assert np.abs(both - (plain + mirrored[:, ::-1]) / 2).max() < 1e-6
    assert np.abs(both - plain).max() > 1e-4


def test_several_models_average_their_probabilities(folder):
    one, other = (probabilities('-m', name) for name in ('MODEL.pth', 'other.pth'))
    both = probabilities('-m', 'MODEL.pth', '-m', 'other.pth')
    assert np.abs(both - (one + other) / 2).max() < 1e-6
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ('model', 'others', 'message'),
    [
        ((1, 2), {}, 'channels 3 and 1'),
        ((3, 4), {'mask_values': [0, 1, 2, 3]}, r'outputs 2 and 4, mask values \[0, 1\] and'),
        ((3, 2), {'mask_values': [0, 255]}, r'mask values \[0, 1\] and \[0, 255\]'),
        ((3, 2), {'mask_values': [0, 1], 'scale': 0.5}, 'scale 1.0 and 0.5'),
    ],
)
def test_models_that_do_not_go_together_are_refused(folder, model, others, message, capsys):
    save('bad.pth', UNet(*model, base_channels=2), **({'mask_values': [0, 1]} | others))
    assert predict.main(['-m', 'MODEL.pth', '-m', 'bad.pth', '-i', 'img.png', '-n']) == 2
    err = capsys.readouterr().err
    assert 'MODEL.pth and bad.pth cannot be averaged: ' in err
    assert message.replace('\\', '') in err
    if 'scale' in others:
        assert predict.main(
            ['-m', 'MODEL.pth', '-m', 'bad.pth', '-i', 'img.png', '-n', '-s', '1']
        ) == 0  # fmt: skip


def test_one_model_is_its_own_average(folder):
    predictor = Predictor.load('MODEL.pth')
    assert average_predictors([predictor], ['MODEL.pth']) is predictor


def blobs():
    """Two bright squares on black, of 400 and 64 pixels."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[4:24, 4:24] = pixels[4:12, 40:48] = 255
    Image.fromarray(pixels).save('blobs.png')
    return pixels[..., 0] > 0


def test_only_the_largest_component_is_kept(folder):
    squares = blobs()
    command = ['-m', 'bright.pth', '-i', 'blobs.png', '-o', 'o.png']
    assert predict.main(command) == 0
    assert np.array_equal(np.asarray(Image.open('o.png')), squares)
    assert predict.main([*command, '--largest-component']) == 0
    found = np.asarray(Image.open('o.png'))
    assert found.sum() == 400
    assert found[4:24, 4:24].all()


def test_a_submission_has_the_run_length_encoding_of_each_image(folder):
    squares = blobs()
    Image.new('RGB', (64, 40)).save('black.png')
    command = ['-m', 'bright.pth', '-i', 'blobs.png', 'black.png', '--rle', 's.csv']
    assert predict.main(command) == 0
    with Path('s.csv').open(newline='') as file:
        rows = dict(csv.reader(file))
    assert list(rows) == ['img', 'blobs.png', 'black.png']
    assert rows['img'] == 'rle_mask'
    assert rows['blobs.png'].startswith(f'{4 * 64 + 4 + 1} 20 {4 * 64 + 40 + 1} 8 ')
    assert np.array_equal(decode_rle(rows['blobs.png'], (64, 40)), squares)
    assert rows['black.png'] == ''
    assert not list(folder.glob('*_OUT.png'))
    assert predict.main([*command, '-o', 'masks/']) == 0
    assert len(list(folder.glob('masks/*.png'))) == 2


def test_a_submission_with_several_foreground_classes_is_refused(folder, capsys):
    save('four.pth', brightness_network(4), mask_values=[0, 1, 2, 3])
    assert predict.main(['-m', 'four.pth', '-i', 'img.png', '--rle', 's.csv']) == 2
    err = capsys.readouterr().err
    assert '--rle' in err
    assert 'four.pth has 4 classes' in err
    assert not Path('s.csv').exists()


def test_probabilities_of_a_grey_level_are_the_networks(folder):
    Image.new('RGB', (32, 32), (150, 150, 150)).save('grey.png')
    expected = 1 / (1 + np.exp(-(20 * 150 / 255 - 10)))
    found = probabilities('-m', 'bright.pth', picture='grey.png')
    assert found.shape == (32, 32)
    assert found[16, 16] == pytest.approx(expected, abs=1e-4)
    command = ['-m', 'bright.pth', '-i', 'grey.png', '--format', 'probabilities', '-o', 'p.png']
    assert predict.main(command) == 0
    assert np.asarray(Image.open('p.png'))[16, 16] == pytest.approx(65535 * expected, abs=10)


def test_pictures_over_the_limit_want_tiles(folder, monkeypatch, capsys):
    np.save('big.npy', np.asarray(Image.open('img.png')))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 9_000)
    for name in ('img.png', 'big.npy'):
        assert predict.main(['-i', name, '-n']) == 2
        assert '18,000 pixels' in capsys.readouterr().err
        assert predict.main(['-i', name, '-n', '--tile', '64']) == 0
    with pytest.raises(ZeroDivisionError), pictures_of_any_size():
        raise ZeroDivisionError
    assert Image.MAX_IMAGE_PIXELS == 9_000


@pytest.mark.slow
def test_a_large_picture_takes_little_more_than_its_decoding(folder):
    """256 MB in Pillow, 192 MB as an array; the whole picture's maps would take 2.9 GB."""
    resource = pytest.importorskip('resource')  # not on Windows
    save('four.pth', UNet(3, 2, base_channels=4), mask_values=[0, 1])
    Image.new('RGB', (8_000, 8_000), (90, 120, 200)).save('huge.png', compress_level=1)
    command = [sys.executable, ROOT / 'predict.py', '-m', 'four.pth', '-i', 'huge.png', '-o',
               'huge.tif', '--tile', '1024', '--device', 'cpu']  # fmt: skip
    subprocess.run(command, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    assert peak < 2, f'{peak:.2f} GiB'
    with Image.open('huge.tif') as mask:
        assert mask.size == (8_000, 8_000)
