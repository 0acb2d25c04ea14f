"""predict.py writes masks in the training masks' encoding and refuses wrong input early."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from drawing import disc
from networks import brightness_network, half_white, save
from PIL import Image

import predict
from unet import UNet
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model of two classes, one of four, and a picture, half black, half white."""
    monkeypatch.chdir(tmp_path)
    save('MODEL.pth', brightness_network(), mask_values=[0, 1])
    save('four.pth', brightness_network(4), mask_values=[0, 1, 2, 3])
    save('one.pth', brightness_network(1), mask_values=[0, 255])
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    Image.fromarray(pixels).save('img.jpg', quality=100)
    return tmp_path


def test_predict_is_imported_and_parses_without_torch_and_numpy():
    code = (
        'import sys; sys.modules["torch"] = sys.modules["numpy"] = None; import predict; '
        'print(predict.get_args(["-i", "a.png"]).input); predict.get_args(["-h"])'
    )
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("['a.png']\nusage:")
    assert 'Predict masks from input images' in result.stdout


@pytest.mark.parametrize(
    'name',
    ['out.png', 'out.jpg', 'out.jpeg', 'out.gif', 'out.tif', 'out.tiff', 'out.bmp', 'OUT.JPG'],
)
def test_a_carvana_mask_is_white_on_black_in_every_format(folder, name):
    assert predict.main(['-i', 'img.jpg', '-o', name]) == 0
    assert half_white(name)
    assert not list(folder.glob('.*'))


@pytest.mark.parametrize('suffix', ['png', 'gif', 'bmp', 'tif'])
def test_class_numbers_survive_every_lossless_format(folder, suffix):
    assert predict.main(['-m', 'four.pth', '-i', 'img.jpg', '-o', f'o.{suffix}']) == 0
    assert set(np.unique(np.asarray(Image.open(f'o.{suffix}')))) == {0, 3}


def test_class_numbers_in_jpeg_are_grey_and_a_note_offers_colour(folder, capsys):
    for form, told in ([], True), (['--format', 'index'], True), (['--format', 'color'], False):
        command = ['-m', 'four.pth', '-i', 'img.jpg', '-o', 'o.jpg', *form]
        assert predict.main(command) == 0
        assert ('o.jpg, and JPEG changes some' in capsys.readouterr().out) == told
        assert Image.open('o.jpg').mode == ('L' if told else 'RGB')
        assert np.asarray(Image.open('o.jpg')).max() == pytest.approx(3 if told else 160, abs=2)


def test_an_overlay_shows_the_picture_with_its_mask_tinted(folder):
    assert predict.main(['-i', 'img.jpg', '--format', 'overlay', '-o', 'o.png']) == 0
    found = np.asarray(Image.open('o.png')).astype(int)
    assert found[20, 5].tolist() == pytest.approx([0, 0, 0], abs=3)  # the background as it is
    assert found[20, 60].tolist() == pytest.approx([143, 187, 218], abs=3)  # half white, half blue
    assert found[20, 32].tolist() == [255, 255, 0]  # the outline


def test_the_default_name_is_beside_the_input(folder, capsys):
    (folder / 'in').mkdir()
    for name in ('a.jpg', 'b.c.jpg'):
        (folder / 'in' / name).write_bytes((folder / 'img.jpg').read_bytes())
    assert predict.main(['-i', 'in/a.jpg', 'in/b.c.jpg']) == 0
    assert half_white('in/a_OUT.png')
    assert half_white('in/b.c_OUT.png')
    out = capsys.readouterr().out
    assert 'Predicting image in/a.jpg ... done: 0 50.0 %, 1 50.0 %. Mask saved to ' in out
    assert 'Mask saved to in/a_OUT.png\n' in out
    assert 'Using device cpu. Model loaded! MODEL.pth at scale 1\n' in out


def test_no_save_writes_nothing(folder, capsys):
    before = sorted(folder.iterdir())
    assert predict.main(['-i', 'img.jpg', '--no-save']) == 0
    assert sorted(folder.iterdir()) == before
    assert 'Predicting image img.jpg ... done: 0 50.0 %, 1 50.0 %\n' in capsys.readouterr().out


@pytest.mark.parametrize('model', ['MODEL.pth', 'one.pth'])
def test_the_threshold_acts_on_one_and_two_classes(folder, model, capsys):
    Image.new('RGB', (32, 32), (150, 150, 150)).save('grey.png')  # probability 0.85
    for threshold, white in [('0.5', '100.0'), ('0.8', '100.0'), ('0.9', '0.0')]:
        assert predict.main(['-m', model, '-i', 'grey.png', '-n', '-t', threshold]) == 0
        assert capsys.readouterr().out.strip().endswith(f'{white} %')


def test_the_threshold_is_refused_for_more_classes(folder, capsys):
    assert predict.main(['-m', 'four.pth', '-i', 'img.jpg', '-t', '0.5']) == 2
    assert '--mask-threshold' in capsys.readouterr().err


@pytest.mark.slow
def test_viz_without_a_display_writes_a_picture_and_says_so(folder, capsys, monkeypatch):
    monkeypatch.setenv('MPLBACKEND', 'agg')
    assert predict.main(['-i', 'img.jpg', '--viz']) == 0
    assert 'img_VIZ.png' in capsys.readouterr().err
    assert Image.open('img_VIZ.png').width > 1000
    assert predict.main(['-i', 'img.jpg', '--viz', '-o', 'out/']) == 0
    assert 'out/img_VIZ.png' in capsys.readouterr().err
    Image.new('RGB', (20, 20)).save('a$b_{$.png')  # which would be a broken formula
    assert predict.main(['-i', 'a$b_{$.png', '--viz']) == 0
    assert 'a$b_{$_VIZ.png' in capsys.readouterr().err


def test_no_save_writes_nothing_for_viz_without_a_display_either_and_says_so(
    folder, capsys, monkeypatch
):
    monkeypatch.setenv('MPLBACKEND', 'agg')
    Image.open('img.jpg').save('img_VIZ.png')  # an input, and in no danger
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert predict.main(['-i', 'img.jpg', 'img_VIZ.png', '--viz', '-n']) == 0
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    captured = capsys.readouterr()
    assert captured.out.count('no display: --viz shows nothing, and because of --no-save') == 1
    assert captured.err == ''


def test_viz_with_rle_alone_writes_figures_as_nobody_said_no_save(folder, monkeypatch):
    monkeypatch.setenv('MPLBACKEND', 'agg')
    assert predict.main(['-i', 'img.jpg', '--viz', '--rle', 's.csv']) == 0
    assert (folder / 'img_VIZ.png').exists()
    assert not (folder / 'img_OUT.png').exists()


def test_a_file_that_cannot_say_takes_scale_one_half_and_its_own_class_numbers(folder, capsys):
    model = brightness_network()
    torch.save(model.state_dict(), 'plain.pth')
    torch.save(model.state_dict() | {'mask_values': [0, 200]}, 'flat.pth')
    predictor = Predictor.load('plain.pth')
    assert (predictor.scale, predictor.masks.values) == (0.5, [0, 1])
    assert predict.main(['-m', 'flat.pth', '-i', 'img.jpg', '-o', 'o.png']) == 0
    assert set(np.unique(np.asarray(Image.open('o.png')))) == {0, 200}


def test_the_checkpoints_scale_is_used_and_another_is_warned_of(folder, capsys):
    save('half.pth', brightness_network(), scale=0.25)
    assert Predictor.load('half.pth').scale == 0.25
    assert capsys.readouterr().out == ''
    assert Predictor.load('half.pth', scale=0.5).scale == 0.5
    out = capsys.readouterr().out
    assert 'warning: half.pth' in out
    assert 'scale 0.25' in out


def test_scale_changes_the_mask(folder):
    image = np.array(disc(1, size=(64, 64))[0])
    masks = [
        Predictor(brightness_network(), scale, [0, 1]).predict_image(image) for scale in (1, 0.3)
    ]
    assert masks[0].shape == masks[1].shape == (64, 64)
    assert (masks[0] != masks[1]).any()


def test_probabilities_are_resized_and_not_masks():
    # At scale 1/4 a mask resized afterwards would have steps of 4 pixels along a slanted edge.
    y, x = np.mgrid[:64, :64]
    image = np.where(2 * x + y > 96, 255, 0).astype(np.uint8)
    image = np.repeat(image[..., None], 3, axis=2)
    mask = Predictor(brightness_network(), 0.25, [0, 1]).predict_image(image)
    edge = mask.argmax(axis=1)[8:56]
    assert len(set(edge)) > 15


def test_flags_that_contradict_the_file_are_refused(folder, capsys):
    assert predict.main(['-i', 'img.jpg', '-c', '3', '--bilinear']) == 2
    err = capsys.readouterr().err
    assert 'MODEL.pth: n_classes is 2, not 3 and bilinear is False, not True' in err
    assert predict.main(['-i', 'img.jpg', '-c', '2', '-n']) == 0


def test_amp_agrees_with_float32(folder):
    image = np.array(Image.open('img.jpg'))
    plain, mixed = (Predictor.load('MODEL.pth', amp=amp).predict_image(image) for amp in (0, 1))
    assert np.array_equal(plain, mixed)


def test_a_grey_array_of_two_axes_is_an_image_of_one_channel():
    mask = Predictor(brightness_network(n_channels=1), 1.0, [0, 1]).predict_image(
        np.full((20, 30), 255, np.uint8)
    )
    assert mask.shape == (20, 30)
    assert mask.dtype == np.uint8
    assert (mask == 1).all()


def test_an_image_too_small_for_the_scale_is_refused():
    predictor = Predictor(brightness_network(), 0.1, [0, 1])
    with pytest.raises(
        UserError, match=r'100 x 200 at scale 0\.1 is 10 x 20; the network needs 16'
    ):
        predictor.predict_image(np.zeros((200, 100, 3), np.uint8))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['-i', 'none.jpg'], 'no such input file: none.jpg'),
        (['-i', 'none*.jpg', 'img.jpg'], 'no such input file: none*.jpg'),
        (['-i', 'img.jpg', 'b.jpg', '-o', 'o.png'], '-o has 1 names for 2 inputs'),
        (['-i', 'img.jpg', '-o', 'o.xyz'], 'cannot write o.xyz; expected a name that ends in .png'),
        (['-i', 'img.jpg', '-o', 'img.jpg'], 'the output img.jpg is an input and would be lost'),
        (
            ['-i', 'img.jpg', 'b.jpg', '-o', 'o.png', 'o.png'],
            'two inputs would be written to o.png',
        ),
        (['-i', 'img.jpg', '-o', 'no/o.png'], 'no folder no to write into'),
    ],
)
def test_names_that_do_not_fit_are_refused_before_the_model_is_loaded(
    folder, capsys, monkeypatch, arguments, message
):
    (folder / 'b.jpg').write_bytes(b'')
    monkeypatch.setattr(Predictor, 'load', None)  # calling it would be a TypeError
    assert predict.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_viz_overwrites_no_input(folder, capsys):
    (folder / 'img.jpg').rename('x.jpg')
    Image.open('x.jpg').save('x_VIZ.png')
    before = (folder / 'x_VIZ.png').read_bytes()
    assert predict.main(['-i', 'x.jpg', 'x_VIZ.png', '--viz']) == 2
    assert 'the output x_VIZ.png is an input and would be lost' in capsys.readouterr().err
    assert (folder / 'x_VIZ.png').read_bytes() == before


def test_what_headers_say_of_many_inputs_is_found_before_any_mask_is_written(folder, capsys):
    np.save('five.npy', np.zeros((40, 40, 5), np.uint8))
    Image.new('RGB', (8, 40)).save('small.png')
    for name, message in [('five.npy', 'has 5 channels'), ('small.png', 'the network needs 16')]:
        assert predict.main(['-i', 'img.jpg', name]) == 2
        assert f'{name}' in (err := capsys.readouterr().err)
        assert message in err
        assert not (folder / 'img_OUT.png').exists()


@pytest.mark.parametrize('cut', [200, -100])
def test_a_single_broken_input_is_found_before_the_model_is_loaded(
    folder, capsys, monkeypatch, cut
):
    (folder / 'broken.jpg').write_bytes((folder / 'img.jpg').read_bytes()[:cut])
    monkeypatch.setattr(Predictor, 'load', None)  # calling it would be a TypeError
    assert predict.main(['-i', 'broken.jpg']) == 2
    assert 'broken.jpg cannot be read' in capsys.readouterr().err


def test_out_of_memory_is_one_message(folder, capsys, monkeypatch):
    def forward(model, x):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.')

    monkeypatch.setattr(UNet, 'forward', forward)
    assert predict.main(['-i', 'img.jpg', '-n']) == 2
    assert 'error: out of memory: CUDA out of memory. Tried' in capsys.readouterr().err


def test_an_error_of_ours_keeps_its_traceback(folder, monkeypatch):
    def forward(model, x):
        raise RuntimeError('shapes do not match')

    monkeypatch.setattr(UNet, 'forward', forward)
    with pytest.raises(RuntimeError, match='shapes do not match'):
        predict.main(['-i', 'img.jpg', '-n'])


def test_without_a_model_the_existing_checkpoints_are_named(folder, capsys):
    (folder / 'checkpoints').mkdir()
    (folder / 'MODEL.pth').rename('checkpoints/best.pth')
    assert predict.main(['-i', 'img.jpg']) == 2
    err = capsys.readouterr().err
    assert 'MODEL.pth does not exist' in err
    assert 'checkpoints/best.pth' in err


def test_any_of_our_files_renamed_model_pth_works(folder):
    (folder / 'one.pth').rename('MODEL.pth')
    assert predict.main(['-i', 'img.jpg', '-o', 'o.png']) == 0
    assert half_white('o.png')
