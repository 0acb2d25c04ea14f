"""JPEGs are decoded at reduced size: the right size, close to the full decode, masks exact."""

import numpy as np
import pytest
import torch
from drawing import disc
from PIL import Image

from unet import UNet
from utils.images.decoding import open_picture, open_reduced, picture_size, scaled_size
from utils.images.resizing import load_image
from utils.inference.predictor import Predictor
from utils.masks.encoding import MaskEncoding, load_mask
from utils.runtime.errors import UserError

SIZES = [(96, 64), (97, 65), (127, 81), (33, 40)]
SCALES = [0.9, 0.51, 0.5, 0.45, 0.3, 0.25, 0.125, 0.1]


def smooth(size):
    """Return a picture of gradual changes, like a photograph out of focus."""
    small, _ = disc(3, size=(12, 8))
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ('scale', 'times'), [(1.0, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 4), (0.1, 8), (0.01, 8)]
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_is_large_enough(tmp_path, scale, times):
    smooth((97, 64)).save(tmp_path / 'a.jpg')
    picture, size, found = open_reduced(tmp_path / 'a.jpg', scale)
    assert (size, found) == ((97, 64), times)
    assert picture.size == (-(-97 // times), 64 // times)  # rounded up


@pytest.mark.parametrize('name', ['a.png', 'a.gif', 'a.npy'])
def test_other_files_are_decoded_at_full_size(tmp_path, name):
    picture = smooth((97, 64))
    np.save(tmp_path / name, picture) if name == 'a.npy' else picture.save(tmp_path / name)
    reduced, size, times = open_reduced(tmp_path / name, 0.1)
    assert (picture_size(reduced), size, times) == ((97, 64), (97, 64), 1)


@pytest.mark.parametrize('size', [(384, 256), (385, 257), (511, 325)])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_a_reduced_jpeg_is_close_to_the_full_one_resized(tmp_path, size, mode):
    """Odd sizes too, whose reduced form ends within a pixel: stretched, it would be 6 off."""
    path = tmp_path / 'a.jpg'
    smooth(size).convert(mode).save(path, quality=95)
    for scale in SCALES:
        width, height = scaled_size(size, scale)
        image = load_image(path, len(mode), scale)
        assert image.shape == (len(mode), height, width)
        whole = open_picture(path).resize((width, height), Image.Resampling.BICUBIC)
        found = image.permute(1, 2, 0).squeeze(-1).numpy().astype(int)
        difference = np.abs(found - np.asarray(whole))
        assert difference.mean() < 0.65, scale
        assert difference.max() <= 4, scale


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', ['P.gif', 'P.png', 'L.png', '1.png', 'RGB.png'])
def test_masks_are_resized_as_pillows_nearest_whatever_their_mode(tmp_path, size, name):
    labels = np.random.default_rng(0).integers(0, 2, size[::-1]).astype(np.uint8)
    picture = Image.fromarray(labels * 255).convert(name.split('.')[0])
    if name.startswith('P'):
        picture = Image.fromarray(labels)
        picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(tmp_path / name)
    values = [0, 1] if name[0] in 'P1' else [0, 255]
    for scale in SCALES:
        expected = Image.fromarray(labels).resize(scaled_size(size, scale), Image.NEAREST)
        found = load_mask(tmp_path / name, MaskEncoding(values), scale)
        assert np.array_equal(found.numpy(), np.asarray(expected))


def test_prediction_reads_a_file_as_training_does(tmp_path, monkeypatch):
    smooth((97, 65)).save(tmp_path / 'a.jpg')
    predictor = Predictor(UNet(3, 2, base_channels=2), 0.5, [0, 1])
    seen, predict = [], predictor.predict_batch
    monkeypatch.setattr(predictor, 'predict_batch', lambda b: (seen.append(b), predict(b))[1])
    assert predictor.predict_file(str(tmp_path / 'a.jpg')).shape == (65, 97)
    assert torch.equal(seen[0][0], load_image(tmp_path / 'a.jpg', 3, 0.5))


def test_a_file_too_small_for_the_network_is_named(tmp_path):
    for name in ('a.jpg', 'a.png'):
        smooth((97, 5)).save(tmp_path / name)
        predictor = Predictor(UNet(3, 2, base_channels=2), 0.1, [0, 1])
        with pytest.raises(UserError, match=rf'{name} of 97 x 5 at scale 0\.1 is 9 x 1'):
            predictor.predict_file(tmp_path / name)


@pytest.mark.parametrize(('turn', 'shown'), [(1, (96, 64)), (3, (96, 64)), (6, (64, 96))])
def test_a_reduced_jpeg_is_turned_by_its_exif_orientation(tmp_path, turn, shown):
    exif = Image.Exif()
    exif[274] = turn
    smooth((96, 64)).save(tmp_path / 'a.jpg', exif=exif, quality=95)
    picture, size, times = open_reduced(tmp_path / 'a.jpg', 0.5)
    assert (size, times) == (shown, 2)
    assert picture.size == (shown[0] // 2, shown[1] // 2)
    whole = np.asarray(open_picture(tmp_path / 'a.jpg').resize(picture.size, Image.BICUBIC))
    assert np.abs(whole.astype(int) - np.asarray(picture)).mean() < 1


@pytest.mark.parametrize(
    ('name', 'remedy'), [('photo.heic', 'JPEG or PNG'), ('slide.tif', 'another kind of TIFF')]
)
def test_a_kind_that_is_not_read_is_to_be_saved_as_one_that_is(tmp_path, name, remedy):
    path = tmp_path / name
    path.write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(99))
    with pytest.raises(
        UserError, match=f'{name} cannot be read as a picture.* Save it as {remedy}'
    ):
        open_picture(path)
