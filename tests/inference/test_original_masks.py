"""A file without a record of its preprocessing gets the original's masks, pixel for pixel."""

import numpy as np
import pytest
import torch
from devices import on_device
from drawing import disc
from networks import brightness_network
from originals import (
    differing,
    logits_at_full_size,
    needs_deep_resize,
    original_mask,
    sensitive_network,
)
from PIL import Image

import predict
from utils.images.decoding import PILLOW_NOTE
from utils.inference.backends import selection
from utils.inference.checkpoint import load_checkpoint, save_checkpoint
from utils.inference.predictor import Predictor

SIZE = (97, 65)
DEEP = pytest.param('I;16', marks=needs_deep_resize)
EXIF = Image.Exif()
EXIF[274] = 6  # turned by a quarter


def photo(mode='RGB'):
    pixels, _ = disc(1, SIZE)
    return Image.fromarray(pixels).convert(mode)


def flat(network, name='flat.pth', **others):
    """Write a state_dict as the original does."""
    torch.save(network.state_dict() | others, name)
    return name


def predicted(*options, picture='img.png', model='flat.pth'):
    command = ['-m', model, '-i', picture, '-o', 'o.npy', *on_device(), *options]
    assert predict.main(command) == 0
    return np.load('o.npy')


def check(path, n_classes, scale, seen=None):
    """Compare with the original's formula on `seen`, by default the picture as Pillow opens it."""
    seen = seen or Image.open(path)
    network = sensitive_network(n_classes, seen, scale)
    flat(network)
    found = predicted('-s', str(scale), picture=path)
    assert 0.1 < (found > 0).mean() < 0.9
    logits = logits_at_full_size(network, seen, scale)
    assert differing(found, logits) == 0
    return found


@pytest.mark.parametrize('n_classes', [1, 2, 4])
@pytest.mark.parametrize('scale', [0.3, 0.5, 1.0])
def test_masks_of_a_turned_jpeg_of_odd_size_are_the_originals(folder, n_classes, scale):
    photo().save('img.jpg', exif=EXIF, quality=90)
    assert check('img.jpg', n_classes, scale).shape == SIZE[::-1]  # as stored, not upright


@pytest.mark.slow
@pytest.mark.parametrize('scale', [0.5, 1.0])
@pytest.mark.parametrize('mode', ['L', 'P', '1', 'RGB', 'RGBA', 'LA', 'CMYK', 'F', DEEP])
def test_pictures_of_every_mode_are_taken_as_they_are(folder, mode, scale):
    """By a network of as many channels; a palette picture as its indices, 16 bits up to 257."""
    picture = photo('L')
    if mode == 'I;16':
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    elif mode == 'F':
        picture = Image.fromarray(np.asarray(picture).astype(np.float32) / 300)
    else:
        picture = photo(mode)
        if mode in ('LA', 'RGBA'):
            picture.putalpha(Image.linear_gradient('L').resize(SIZE))
    name = 'img.tif' if mode in ('CMYK', 'F') else 'img.png'
    picture.save(name)
    assert Image.open(name).mode == mode
    check(name, 2, scale)


@pytest.mark.parametrize(
    ('mode', 'into'),
    [('RGBA', 'RGB'), ('P', 'RGB'), ('L', 'RGB'), ('LA', 'L'), ('RGB', 'L'), ('CMYK', 'RGB')],
)
def test_what_the_original_could_not_read_is_converted_first(folder, mode, into):
    photo(mode).save('img.tif')
    check('img.tif', 2, 0.5, seen=photo(mode).convert(into))


def test_a_picture_of_no_value_over_one_is_not_divided_by_255(folder):
    dark = Image.fromarray((np.asarray(photo('L')) > 120).astype(np.uint8))
    dark.save('img.png')
    check('img.png', 2, 1.0)


@pytest.mark.parametrize('kind', ['file', 'array'])
def test_arrays_are_taken_as_the_picture_of_their_values(folder, kind):
    pixels = np.asarray(photo())
    np.save('img.npy', pixels)
    found = check('img.npy', 2, 0.5, seen=photo())
    if kind == 'array':
        assert np.array_equal(Predictor.load('flat.pth', 0.5).predict_image(pixels), found)


@pytest.mark.parametrize('n_classes', [1, 2])
def test_the_threshold_is_that_of_the_resized_logits_probability(folder, n_classes):
    picture = photo()
    picture.save('img.png')
    network = sensitive_network(n_classes, picture, 0.5)
    flat(network)
    logits = logits_at_full_size(network, picture, 0.5)
    foreground = logits if n_classes == 1 else logits[1:] - logits[:1]
    for threshold in (0.2, 0.7):
        found = predicted('-s', '0.5', '-t', str(threshold))
        assert differing(found, foreground, threshold) == 0
    assert predicted('-s', '0.5', '-t', '1').sum() == 0
    assert predicted('-s', '0.5', '-t', '0').all()


@pytest.mark.parametrize('n_classes', [1, 2, 4])
def test_probabilities_are_those_of_the_resized_logits(folder, n_classes):
    picture = photo()
    picture.save('img.png')
    network = sensitive_network(n_classes, picture, 0.5)
    flat(network)
    found = predicted('-s', '0.5', '--format', 'probabilities')
    logits = logits_at_full_size(network, picture, 0.5)
    expected = logits.sigmoid() if n_classes == 1 else logits.softmax(dim=0)
    expected = expected.permute(1, 2, 0).numpy() if n_classes == 4 else expected[-1].numpy()
    assert np.abs(found - expected).max() < 1e-4
    image = np.asarray(picture)
    by_array = Predictor.load('flat.pth', 0.5).predict_probabilities(image).numpy()
    by_array = by_array.transpose(1, 2, 0) if n_classes == 4 else by_array[-1]
    assert np.abs(by_array - expected).max() < 1e-4


@pytest.mark.slow
def test_mirrored_images_and_several_networks_average_their_logits(folder):
    picture = photo()
    picture.save('img.png')
    networks = [sensitive_network(2, picture, 0.5, seed) for seed in (0, 1)]
    names = [flat(network, f'{k}.pth') for k, network in enumerate(networks)]
    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    logits = [
        (logits_at_full_size(n, picture, 0.5) + logits_at_full_size(n, mirrored, 0.5).flip(2)) / 2
        for n in networks
    ]
    found = predicted('-s', '0.5', '--tta', 'flip', '-m', names[1], model=names[0])
    assert differing(found, (logits[0] + logits[1]) / 2) == 0


def test_tiles_give_the_mask_of_the_whole_picture(folder):
    noise = np.random.default_rng(0).integers(0, 256, (64, 640, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.save('img.png')
    network = sensitive_network(2, picture, 1.0)
    flat(network)
    found = predicted('-s', '1', '--tile', '512')
    assert differing(found, logits_at_full_size(network, picture, 1.0)) == 0


def test_one_line_says_so_and_the_backend_is_torch_with_the_network_as_it_is(
    folder, capsys, monkeypatch
):
    photo().save('img.jpg', exif=EXIF)
    photo().save('b.png')
    flat(brightness_network(), mask_values=[0, 1])
    monkeypatch.setattr(selection, 'fold_batchnorm', None)  # calling it would be a TypeError
    for models in (['flat.pth'], ['flat.pth', '-m', 'flat.pth']):
        assert predict.main(['-m', *models, '-i', 'img.jpg', 'b.png', '-n', '-s', '0.5']) == 0
        out = capsys.readouterr().out
        assert out.count(PILLOW_NOTE) == out.count('EXIF') == 1


def test_a_recorded_fast_way_is_kept(folder, capsys):
    photo().save('img.jpg', exif=EXIF, quality=90)
    network = sensitive_network(2, Image.open('img.jpg'), 0.5)
    flat(network)
    checkpoint = load_checkpoint('flat.pth')
    checkpoint.decode, checkpoint.scale = 'pillow, bicubic with antialias, uint8', 0.5  # the first
    save_checkpoint(checkpoint, folder / 'ours.pth')
    found = predicted(picture='img.jpg', model='ours.pth')
    assert found.shape == SIZE  # upright
    assert 'EXIF' not in capsys.readouterr().out
    stored = original_mask(logits_at_full_size(network, Image.open('img.jpg'), 0.5))
    assert (np.rot90(stored, -1) != found).any()
    assert predict.main(['-m', 'flat.pth', '-m', 'ours.pth', '-i', 'img.jpg', '-s', '0.5']) == 2
    assert 'cannot be averaged: images decoded as by the original' in capsys.readouterr().err


@pytest.mark.slow
def test_overlays_and_figures_show_the_picture_as_it_is_predicted(folder, monkeypatch):
    monkeypatch.setenv('MPLBACKEND', 'agg')
    photo().save('img.jpg', exif=EXIF)
    flat(brightness_network(), mask_values=[0, 1])
    options = ['-m', 'flat.pth', '-i', 'img.jpg', '-s', '1', '--viz', '--format', 'overlay']
    assert predict.main([*options, '-o', 'o.png']) == 0
    assert Image.open('o.png').size == SIZE
