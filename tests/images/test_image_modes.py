"""Images of every mode and bit depth are scaled by type, turned upright, and given channels."""

import warnings

import numpy as np
import pytest
import torch
from drawing import data_set, disc
from networks import brightness_network
from PIL import Image
from running import run_train

import evaluate
import predict
from utils.data.dataset import SegmentationDataset
from utils.images.decoding import PILLOW_DECODE, open_picture, to_channels
from utils.images.metadata import read_metadata
from utils.images.resizing import load_image
from utils.inference.checkpoint import load_checkpoint
from utils.inference.predictor import Predictor
from utils.masks.encoding import MaskEncoding, load_mask
from utils.runtime.errors import UserError

QUICK = ['-e', '1', '-v', '0', '--base-channels', '2']
RAMP = np.linspace(0, 255, 20 * 24).reshape(20, 24).astype(np.uint8)


def palette_with_transparency():
    picture = Image.fromarray(RAMP).convert('P')
    picture.info['transparency'] = bytes(range(256))
    return picture


# name: extension, what is saved of the grey ramp, and the tolerated error (None: thresholded)
MODES = {
    '1': ('png', lambda: Image.fromarray(RAMP > 127), None),
    'L': ('png', lambda: Image.fromarray(RAMP), 0),
    'LA': ('png', lambda: Image.fromarray(RAMP).convert('LA'), 0),
    'P': ('png', lambda: Image.fromarray(RAMP).convert('P'), 0),
    'P, transparent': ('png', palette_with_transparency, 0),
    'RGB': ('png', lambda: Image.fromarray(RAMP).convert('RGB'), 0),
    'RGBA': ('png', lambda: Image.fromarray(RAMP).convert('RGBA'), 0),
    'CMYK': ('tif', lambda: Image.fromarray(RAMP).convert('RGB').convert('CMYK'), 1 / 255),
    'webp': ('webp', lambda: Image.fromarray(RAMP).convert('RGB'), 0),
    'I;16 png': ('png', lambda: Image.fromarray(RAMP.astype(np.uint16) * 257), 0),
    'I;16 tif': ('tif', lambda: Image.fromarray(RAMP.astype(np.uint16) * 257), 0),
    'I;16B tif': ('tif', lambda: Image.fromarray(RAMP.astype('>u2') * 257), 0),
    'I pgm': ('pgm', lambda: Image.fromarray(RAMP.astype(np.int32) * 257), 0),
    'F tif': ('tif', lambda: Image.fromarray(RAMP.astype(np.float32) / 255), 0),
    'bool npy': ('npy', lambda: RAMP > 127, None),
    'uint8 npy': ('npy', lambda: RAMP, 0),
    'uint16 npy': ('npy', lambda: RAMP.astype(np.uint16) * 257, 0),
    'float64 npy': ('npy', lambda: RAMP / 255, 0),
    'RGB npy': ('npy', lambda: RAMP[..., None].repeat(3, axis=2), 0),
    'float RGB npy': ('npy', lambda: (RAMP / 255)[..., None].repeat(3, axis=2), 0),
    'float pt': ('pt', lambda: RAMP.astype(np.float32) / 255, 0),
}


def save(content, path):
    if path.suffix == '.npy':
        np.save(path, content)
    elif path.suffix == '.pt':
        torch.save(torch.from_numpy(content), path)
    else:
        options = {'lossless': True} if path.suffix == '.webp' else {}
        content.save(path, **options | {k: v for k, v in content.info.items() if k[0] == 't'})


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('name', MODES)
def test_a_grey_ramp_in_any_mode_gives_the_same_pixels(tmp_path, name, channels):
    extension, content, loss = MODES[name]
    path = tmp_path / f'ramp.{extension}'
    save(content(), path)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert read_metadata(path).size == (24, 20)
        pixels = to_channels(open_picture(path), channels, path)
    assert pixels.shape == (20, 24, channels)
    found = pixels / 255 if pixels.dtype == np.uint8 else pixels
    expected = (RAMP > 127) * 1.0 if loss is None else RAMP / 255
    assert np.abs(found - expected[..., None]).max() <= (loss or 0) + 1e-6


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('f.npy', np.full((20, 24), np.nan), '480 of 480 values are NaN or infinite'),
        ('f.tif', np.full((20, 24), np.inf, np.float32), '480 of 480 values are NaN or infinite'),
        ('i.npy', np.zeros((20, 24), np.int64), 'type int64; expected uint8, uint16, int16'),
        ('c.npy', np.zeros((3, 20, 24), np.uint8), r'\(3, 20, 24\) looks like \(C, H, W\)'),
        ('d.npy', np.zeros((2, 20, 24, 3), np.uint8), 'expected one picture'),
        ('v.npy', np.zeros(20, np.uint8), r'expected \(H, W\) or \(H, W, C\)'),
    ],
)
def test_values_and_shapes_of_no_picture_are_an_error(tmp_path, name, content, message):
    path = tmp_path / name
    save(Image.fromarray(content) if name.endswith('tif') else content, path)
    with pytest.raises(UserError, match=rf'{name}.*{message}'):
        read_metadata(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (np.full((20, 24), 3.5, np.float32), 'from 3.5 to 3.5; expected 0 to 1'),
        (np.full((20, 24), -7, np.int32), 'from -7 to -7; expected 0 to 65535'),
    ],
)
def test_values_beyond_those_of_their_type_need_a_range(tmp_path, content, message):
    path = tmp_path / 'a.tif'
    Image.fromarray(content).save(path)
    with pytest.raises(UserError, match=rf'a\.tif.*{message}.*--image-range'):
        load_image(path, 1, 1.0)
    with pytest.raises(UserError, match=message):
        read_metadata(path, PILLOW_DECODE)
    assert load_image(path, 1, 1.0, image_range=[(-7, 3.5)]).unique() in (0, 1)


def n_channel_set(folder, channels, extension='npy', dtype=np.uint8):
    images, _ = data_set(folder, 4)
    for path in list(images.iterdir()):
        pixels = np.asarray(Image.open(path))
        many = pixels[..., np.arange(channels) % 3].astype(dtype)
        path.unlink()
        save(many * (257 if dtype == np.uint16 else 1), path.with_suffix(f'.{extension}'))


@pytest.mark.slow
@pytest.mark.parametrize('channels', [2, 5])
def test_arrays_of_many_channels_train_evaluate_and_predict(folder, channels):
    n_channel_set(folder, channels)
    assert run_train(*QUICK, '--augment', 'full') == 0
    assert load_checkpoint('checkpoints/last.pth').model['n_channels'] == channels
    assert (folder / 'checkpoints/samples.png').exists()
    model = ['-m', 'checkpoints/last.pth']
    assert evaluate.main([*model, '--images', 'imgs', '--masks', 'masks']) == 0
    assert predict.main([*model, '-i', 'imgs/disc00.npy', '--format', 'overlay']) == 0
    assert Image.open('imgs/disc00_OUT.png').size == (48, 32)


def test_an_image_of_other_channels_than_the_networks_is_one_error(folder, capsys):
    n_channel_set(folder, 5)
    assert run_train(*QUICK) == 0
    Image.new('RGB', (48, 32)).save('rgb.png')
    assert predict.main(['-m', 'checkpoints/last.pth', '-i', 'imgs/disc00.npy', 'rgb.png']) == 2
    err = capsys.readouterr().err
    assert 'rgb.png has 3 channels; the network takes 5' in err
    assert not (folder / 'imgs/disc00_OUT.png').exists()
    data_set(folder / 'rgb', 2)
    data = ['--images', 'rgb/imgs', '--masks', 'rgb/masks']
    assert evaluate.main(['-m', 'checkpoints/last.pth', *data]) == 2
    assert '2 of 3 (disc00.png, disc01.png); 5 are expected' in capsys.readouterr().err
    with pytest.raises(UserError, match='the image has 3 channels; the network takes 1'):
        Predictor(brightness_network(n_channels=1), 1.0, [0, 1]).predict_image(
            np.zeros((32, 32, 3), np.uint8)
        )


def test_images_of_channels_that_cannot_be_converted_do_not_mix(folder, capsys):
    n_channel_set(folder, 4)
    data_set(folder, 1, names=['other'])
    assert run_train(*QUICK) == 2
    err = capsys.readouterr().err
    assert '4 of 4 (disc00.npy' in err
    assert '1 of 3 (other.png); 4 are expected' in err


def test_alpha_is_a_channel_if_asked_for(folder, capsys):
    images, _ = data_set(folder, 4)
    for path in images.iterdir():
        Image.open(path).convert('RGBA').save(path)
    assert run_train(*QUICK) == 0
    assert 'note: the images are RGBA; alpha is dropped' in capsys.readouterr().out
    assert load_checkpoint('checkpoints/last.pth').model['n_channels'] == 3
    assert run_train(*QUICK, '--channels', '4') == 0
    assert load_checkpoint('checkpoints/last.pth').model['n_channels'] == 4
    assert 'alpha is dropped' not in capsys.readouterr().out


@pytest.mark.parametrize('text', ['0', 'rgb', '-1'])
def test_channels_are_auto_or_a_number(folder, capsys, text):
    with pytest.raises(SystemExit):
        run_train('--channels', text)
    assert 'expected a whole number from 1' in capsys.readouterr().err


def test_mixed_modes_and_bit_depths_train_together_with_one_note(folder, capsys):
    images, _ = data_set(folder, 5)
    Image.open(images / 'disc00.png').convert('L').save(images / 'disc00.png')
    Image.open(images / 'disc01.png').convert('RGBA').save(images / 'disc01.png')
    deep = np.asarray(Image.open(images / 'disc02.png').convert('L')).astype(np.uint16) * 257
    Image.fromarray(deep).save(images / 'disc02.png')
    shallow = SegmentationDataset(images, folder / 'masks')[3]['image']
    assert shallow.dtype == torch.float32  # one dtype for all, to make a batch
    assert shallow.max() <= 1
    assert run_train(*QUICK, '-b', '5') == 0
    out = capsys.readouterr().out
    # Before 11.3, Pillow reads 16-bit PNG files as mode I.
    assert out.replace('I;16', 'I').count('2 RGB, 1 L, 1 RGBA, 1 I') == 1


def test_16_bit_images_equal_the_same_images_of_8_bits(folder):
    n_channel_set(folder / 'deep', 3, dtype=np.uint16)
    n_channel_set(folder / 'flat', 3)
    deep, flat = (load_image(folder / f'{k}/imgs/disc00.npy', 3, 0.5) for k in ('deep', 'flat'))
    assert deep.dtype == torch.float32
    assert (deep - flat / 255).abs().max() < 1 / 255
    data = ['--masks', 'deep/masks']
    assert run_train(*QUICK, images='deep/imgs', masks=data[1]) == 0
    assert evaluate.main(['-m', 'checkpoints/last.pth', '--images', 'flat/imgs', *data]) == 0


def turned(path, orientation):
    """Set the EXIF orientation of an image file."""
    exif = Image.Exif()
    exif[274] = orientation
    Image.open(path).save(path, exif=exif)


@pytest.mark.parametrize('extension', ['jpg', 'png', 'tif', 'webp'])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_images_and_masks_are_turned_as_viewers_show_them(tmp_path, extension, orientation):
    image, _ = disc(0, (24, 20))
    path = tmp_path / f'a.{extension}'
    Image.fromarray(image).save(path)
    straight = to_channels(open_picture(path), 3, path)
    turned(path, orientation)
    stored = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]  # quarter turns to the left
    found = to_channels(open_picture(path), 3, path)
    assert found.shape == np.rot90(straight, stored).shape
    if extension in ('png', 'tif'):
        assert np.array_equal(found, np.rot90(straight, stored))
    assert read_metadata(path).size == found.shape[1::-1]


def test_masks_must_fit_the_image_turned_by_its_exif_orientation(folder, capsys):
    images, masks = data_set(folder, 3, image_suffix='.jpg')
    turned(images / 'disc01.jpg', 6)
    assert run_train(*QUICK) == 2
    err = capsys.readouterr().err
    assert 'disc01.jpg is 32 x 48' in err
    assert 'disc01.png is 48 x 32' in err
    assert 'EXIF' in err
    Image.open(masks / 'disc01.png').rotate(-90, expand=True).save(masks / 'disc01.png')
    assert run_train(*QUICK) == 0
    assert 'EXIF' in capsys.readouterr().out


@pytest.mark.slow
def test_masks_of_another_size_are_an_error_without_resize_masks(folder, capsys):
    _, masks = data_set(folder, 4)
    small = Image.open(masks / 'disc01.png').resize((24, 16), Image.Resampling.NEAREST)
    small.save(masks / 'disc01.png')
    assert run_train(*QUICK) == 2
    err = capsys.readouterr().err
    assert 'is 24 x 16' in err
    assert '--resize-masks' in err
    assert run_train(*QUICK, '--resize-masks') == 0
    data = ['--images', 'imgs', '--masks', 'masks']
    assert evaluate.main(['-m', 'checkpoints/last.pth', *data]) == 2
    assert evaluate.main(['-m', 'checkpoints/last.pth', *data, '--resize-masks']) == 0
    item = SegmentationDataset('imgs', 'masks', resize_masks=True)[1]
    assert item['mask'].shape == item['image'].shape[1:]
    assert np.array_equal(item['mask'][::2, ::2], np.asarray(small) // 255)


def test_an_array_mask_is_resized_like_a_picture(tmp_path):
    _, mask = disc(3, (47, 33))
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / 'm.png')
    np.save(tmp_path / 'm.npy', mask)
    for scale in (0.5, 0.3):
        arrays = [
            load_mask(tmp_path / f'm.{k}', MaskEncoding([0, 255]), scale) for k in ('png', 'npy')
        ]
        assert torch.equal(*arrays)
