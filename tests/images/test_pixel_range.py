"""Deep images are mapped to [0, 1] by one range a channel, measured over the training images."""

import json

import numpy as np
import pytest
import torch
from deep_pictures import GREY, camera_set, noise, png, tiff
from devices import DEVICE
from drawing import data_set
from networks import brightness_network, save
from PIL import Image
from running import run_train

import evaluate
import predict
from utils.data.cache.placement import cache_path
from utils.data.dataset import SegmentationDataset
from utils.images.decoding import open_reduced
from utils.images.pixel_range import measure_range
from utils.images.resizing import load_image
from utils.inference.backends.export import export_metadata
from utils.inference.checkpoint import Checkpoint, load_checkpoint
from utils.inference.ensemble import average_predictors
from utils.inference.pipeline import load_displayable
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError

QUICK = ['-s', '1', '-e', '1', '--base-channels', '2', '--cache', 'none']
RANGE = [(100.0, 2000.0), (0.0, 500.0), (-50.0, 50.0)]


def mapped(values, image_range):
    """Return values (H, W, C) in [0, 1], computed in doubles."""
    low, high = np.array(image_range, float).T
    return ((values.astype(float) - low) / (high - low)).clip(0, 1)


@pytest.mark.parametrize('dtype', [np.uint16, np.int16, np.int32, np.uint32, np.float32])
@pytest.mark.parametrize('extension', ['tif', 'npy'])
def test_each_channel_has_its_range_and_values_beyond_are_clipped(tmp_path, dtype, extension):
    values = (noise(3, np.int16) // 9 + (0 if np.dtype(dtype).kind in 'if' else 4000)).astype(dtype)
    path = tmp_path / f'a.{extension}'
    if extension == 'npy':
        np.save(path, values)
    else:
        path.write_bytes(tiff(values, colours=GREY, extra=[0, 0]))
    found = load_image(path, 3, 1.0, image_range=RANGE)
    assert found.dtype == torch.float32
    assert np.abs(found.permute(1, 2, 0).numpy() - mapped(values, RANGE)).max() < 1e-6


def test_integers_of_32_bits_keep_their_differences(tmp_path):
    values = np.array([[10**9 + k for k in range(16)]] * 16, np.int32)
    np.save(tmp_path / 'a.npy', values)
    found = load_image(tmp_path / 'a.npy', 1, 1.0, image_range=[(10**9, 10**9 + 15)])
    assert np.abs(found[0].numpy() - np.arange(16) / 15).max() < 1e-6


def test_8_bits_are_divided_by_255_whatever_the_range(tmp_path):
    (tmp_path / 'a.tif').write_bytes(tiff(noise(4, np.uint8), extra=[0]))
    found = load_image(tmp_path / 'a.tif', 4, 1.0, image_range=[(0, 9)] * 4)
    assert np.array_equal(found.permute(1, 2, 0), noise(4, np.uint8))


def test_the_range_is_percentiles_over_all_files_without_gdals_missing_values(tmp_path):
    values = [noise(2, np.float32, (50, 40), seed) * [1, 10] + [0, 500] for seed in range(3)]
    holes = [(42113, 2, [b'-9999\0'])]
    paths = [tmp_path / f'{k}.tif' for k in range(3)]
    for path, pixels in zip(paths, values, strict=True):
        stored = pixels.astype(np.float32)
        stored[:20] = -9999
        path.write_bytes(tiff(stored, colours=GREY, extra=[0], others=holes))
    expected = np.percentile([pixels[20:] for pixels in values], (0.5, 99.5), axis=(0, 1, 2)).T
    assert np.abs(np.array(measure_range(paths, 2)) - expected).max() < 1e-3


def test_rare_values_of_a_dark_channel_still_have_a_range(tmp_path):
    values = np.zeros((40, 50, 3), np.uint16)
    values[3, 4, 0] = 700  # one pixel in 2,000
    values[..., 2] = 12
    (tmp_path / 'a.tif').write_bytes(tiff(values))
    assert measure_range([tmp_path / 'a.tif'], 3) == [(0, 700), (0, 1), (12, 13)]


@pytest.mark.parametrize('extension', ['tif', 'png'])
def test_a_run_measures_its_training_images_and_all_programs_use_that(folder, capsys, extension):
    camera_set(folder, extension=extension)
    camera_set(folder / 'val', 2, bits=16, extension=extension)
    command = ['--val-images', 'val/imgs', '--val-masks', 'val/masks']
    assert run_train(*QUICK, *command) == 0
    stored = load_checkpoint('checkpoints/best.pth').image_range
    dataset = SegmentationDataset('imgs', 'masks')
    paths = [pair.image for pair in dataset.pairs]
    assert stored == measure_range(paths, 3)
    assert all(0 <= low < high <= 2040 for low, high in stored)
    assert load_checkpoint('checkpoints/last.pth').image_range == stored
    text = ', '.join(
        f'{low:g} to {high:g} (channel {k + 1})' for k, (low, high) in enumerate(stored)
    )
    line = f'0.5 and 99.5 percentile of 6 training images: {text}'
    assert line in capsys.readouterr().out
    assert run_train(*QUICK, *command, '--check', '--json', 'r.json') == 0
    assert line in capsys.readouterr().out
    assert json.loads((folder / 'r.json').read_text())['image_range'] == [list(p) for p in stored]

    predictor = Predictor.load('checkpoints/best.pth', device=DEVICE)
    values = open_reduced(paths[0], 1)[0]
    image, _ = predictor.read_file(paths[0])
    expected = mapped(values, stored)
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() < 1e-6
    assert np.array_equal(predictor.predict_image(values), predictor.predict_file(paths[0]))
    assert (
        evaluate.main(['-m', 'checkpoints/best.pth', '--images', 'imgs', '--masks', 'masks']) == 0
    )
    shown = np.asarray(load_displayable(paths[0], predictor))
    assert np.abs(shown - 255 * expected).max() <= 0.51


def test_evaluation_scores_the_pixels_that_the_range_gives(folder):
    """A network that takes bright pixels for foreground: of 65535, none of 11 bits would be."""
    camera_set(folder, 4)
    for known in (None, [(0, 2040)] * 3):
        save('m.pth', brightness_network(), mask_values=[0, 255], image_range=known)
        command = ['-m', 'm.pth', '--images', 'imgs', '--masks', 'masks', '--json', 's.json']
        assert evaluate.main(command) == 0
        dice = json.loads((folder / 's.json').read_text())['dice_dataset']
        assert dice > 0.9 if known else dice < 0.1


@pytest.mark.slow
def test_image_range_is_taken_instead(folder, capsys):
    camera_set(folder)
    assert run_train(*QUICK, '--image-range', '0,2047') == 0
    assert load_checkpoint('checkpoints/last.pth').image_range == [(0.0, 2047.0)] * 3
    assert 'of --image-range: 0 to 2047\n' in capsys.readouterr().out
    assert run_train(*QUICK, '-e', '2', '--resume') == 0
    assert run_train(*QUICK, '-e', '3', '--resume', '--image-range', '0,9') == 2
    assert '--image-range is [0.0, 9.0], was [0.0, 2047.0]' in capsys.readouterr().err
    dataset = SegmentationDataset('imgs', 'masks')
    other = SegmentationDataset('imgs', 'masks', image_range=[(0, 65535)] * 3)
    assert cache_path(dataset, folder) != cache_path(other, folder)
    assert torch.equal(dataset[0]['image'], other[0]['image'])  # as 16 bits always were


@pytest.mark.slow
def test_a_resumed_and_a_loaded_network_keep_their_range(folder, capsys):
    camera_set(folder)
    assert run_train(*QUICK) == 0
    stored = load_checkpoint('checkpoints/best.pth').image_range
    camera_set(folder, bits=14)  # the same names
    for command in (['-e', '2', '--resume'], ['--load', 'checkpoints/best.pth']):
        capsys.readouterr()
        assert run_train(*QUICK, *command) == 0
        assert load_checkpoint('checkpoints/last.pth').image_range == stored
        assert 'values that become 0 to 1, of ' in capsys.readouterr().out
    load = ['--load', 'checkpoints/best.pth', '--image-range', '0,16383']
    assert run_train(*QUICK, *load) == 0
    assert load_checkpoint('checkpoints/last.pth').image_range == [(0.0, 16383.0)] * 3


def test_without_a_range_16_bits_are_divided_by_65535(tmp_path):
    (tmp_path / 'a.png').write_bytes(png(noise(3)))
    found = Predictor(brightness_network(), 1.0, [0, 1]).read_file(tmp_path / 'a.png')[0]
    assert np.abs(found.permute(1, 2, 0).numpy() - noise(3) / 65535).max() < 1e-6


def test_floats_of_any_unit_train_and_need_the_range_ever_after(folder, capsys):
    images, _ = data_set(folder, 4)
    for path in images.iterdir():
        np.save(path.with_suffix('.npy'), np.asarray(Image.open(path)) * 20.0 - 300)
        path.unlink()
    assert run_train(*QUICK) == 0
    predictor = Predictor.load('checkpoints/last.pth', device=DEVICE)
    assert all(-300 <= low < high for low, high in predictor.image_range)
    assert predict.main(['-m', 'checkpoints/last.pth', '-i', 'imgs/disc00.npy', '-n']) == 0
    assert run_train(*QUICK, '--recipe', 'classic') == 2
    assert 'disc00.npy: floating-point pixels from' in capsys.readouterr().err
    with pytest.raises(UserError, match=r'disc00\.npy: floating-point pixels .*--image-range'):
        SegmentationDataset('imgs', 'masks').check_values()
    bare = Predictor(predictor.model, 1.0, [0, 255])
    with pytest.raises(UserError, match=r'disc00\.npy: floating-point pixels'):
        bare.predict_file('imgs/disc00.npy')
    predictor.predict_image(np.full((32, 48, 3), 4e5))
    with pytest.raises(UserError, match='4608 of 4608 values are NaN'):
        predictor.predict_image(np.full((32, 48, 3), np.nan))


def test_the_range_of_floats_from_0_to_1_is_not_that_of_16_bits(folder, capsys):
    images, _ = data_set(folder, 4)
    for k, path in enumerate(sorted(images.iterdir())):
        pixels = np.asarray(Image.open(path))
        np.save(path.with_suffix('.npy'), pixels / 255 if k % 2 else pixels * np.uint16(257))
        path.unlink()
    assert run_train(*QUICK) == 0
    assert '2 images hold 16 bits and 2 hold floats from 0 to 1' in capsys.readouterr().out
    assert load_checkpoint('checkpoints/last.pth').image_range is None
    np.save('imgs/disc00.npy', np.full((32, 48, 3), 70_000, np.int32))
    assert run_train(*QUICK, '--output', 'new') == 2
    assert 'disc00.npy: integer pixels from 70000 to 70000' in capsys.readouterr().err
    assert not (folder / 'new').exists()  # found before the training begins


@pytest.mark.parametrize('text', ['5', '9,1', '3,3', 'a,b', '0,nan', '1,2,3'])
def test_a_range_is_two_numbers(folder, capsys, text):
    with pytest.raises(SystemExit):
        run_train('--image-range', text)
    assert 'expected LOW,HIGH, two numbers' in capsys.readouterr().err


def test_image_range_that_changes_nothing_says_so_or_is_refused(folder, capsys):
    data_set(folder, 4)
    assert run_train(*QUICK, '--image-range', '0,100') == 0
    assert 'more than 8 bits a channel: --image-range changes nothing' in capsys.readouterr().out
    assert load_checkpoint('checkpoints/last.pth').image_range is None
    for more in ([], ['--check']):
        assert run_train('--recipe', 'classic', '--image-range', '0,100', *more) == 2
        assert 'error: the recipe reads images as the original does' in capsys.readouterr().err


def test_networks_of_two_ranges_are_averaged_each_in_its_own(tmp_path):
    (tmp_path / 'a.tif').write_bytes(tiff(noise(3) >> 5, colours=2))
    ranges = [[(0, 1500)] * 3, [(300, 2047)] * 3]
    torch.manual_seed(0)
    alone = [Predictor(brightness_network(), 1.0, [0, 1], image_range=known) for known in ranges]
    image = noise(3) >> 5
    expected = sum(predictor.predict_probabilities(image) for predictor in alone) / 2
    both = [Predictor(one.model, 1.0, [0, 1], image_range=one.image_range) for one in alone]
    together = average_predictors(both, ['a', 'b'])
    assert together.image_range == [(0, 2047)] * 3
    assert (together.predict_probabilities(image) - expected).abs().max() < 1e-5
    shallow = noise(3, np.uint8)
    assert torch.equal(
        together.predict_probabilities(shallow), alone[0].predict_probabilities(shallow)
    )
    other = Predictor(brightness_network(), 1.0, [0, 1])
    with pytest.raises(UserError, match='a range of pixel values: True and False'):
        average_predictors([alone[0], other], ['a', 'b'])


def test_8_and_16_bits_in_one_batch_are_predicted_as_alone(folder):
    images, _ = camera_set(folder, 2)
    Image.open(data_set(folder / 'flat', 1)[0] / 'disc00.png').save(images / 'flat.png')
    save('m.pth', brightness_network(), mask_values=[0, 255], image_range=[(0, 2040)] * 3)
    for size in ('1', '4'):
        assert (
            predict.main(['-m', 'm.pth', '-i', 'imgs', '-o', f'{size}/', '--batch-size', size]) == 0
        )
    for path in (folder / '1').iterdir():
        assert path.read_bytes() == (folder / '4' / path.name).read_bytes()


def test_an_export_names_the_range():
    assert export_metadata(Checkpoint({}, {}, image_range=RANGE))['image_range'] == RANGE


@pytest.mark.parametrize('channels', ['auto', '4', '3'])
def test_all_bands_train_or_a_note_says_which(folder, capsys, channels):
    images, _ = data_set(folder, 4)
    for path in list(images.iterdir()):
        pixels = np.asarray(Image.open(path))
        infrared = np.concatenate([pixels, 255 - pixels[..., :1]], axis=2)
        path.with_suffix('.tif').write_bytes(tiff(infrared, extra=[0]))
        path.unlink()
    assert run_train(*QUICK, '--channels', channels) == 0
    taken = load_checkpoint('checkpoints/last.pth').model['n_channels']
    noted = '4 images have more than 3 channels, of which the first 3 are taken' in (
        capsys.readouterr().out
    )
    assert (taken, noted) == ((3, True) if channels == '3' else (4, False))
    assert predict.main(['-m', 'checkpoints/last.pth', '-i', 'imgs/disc00.tif', '-n']) == 0
    assert ('first 3 channels taken' in capsys.readouterr().out) == noted
    dataset = SegmentationDataset('imgs', 'masks', channels=taken)
    infrared = dataset[0]['image']
    assert len(infrared) == taken
    if taken == 4:
        assert torch.equal(infrared[3], 255 - infrared[0])
