"""From Python, an image may be a path, a picture of Pillow, an array or a tensor."""

import numpy as np
import pytest
import torch
from networks import brightness_network
from PIL import Image

from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError


def pixels(height=40, width=64):
    """Return noise under a slope, (H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(0, 120, (height, width, 3))
    return (noise + np.linspace(0, 135, width)[:, None]).astype(np.uint8)


@pytest.mark.parametrize('decode', [DECODE_PATH, PILLOW_DECODE])
def test_all_kinds_of_images_give_one_mask(folder, decode):
    array = pixels()
    Image.fromarray(array).save('a.png')
    predictor = Predictor(brightness_network(), 0.5, [0, 1], decode=decode)
    expected = predictor.predict_image(array)
    assert 0 < expected.mean() < 1
    chw = torch.from_numpy(array).permute(2, 0, 1)
    for image in ('a.png', folder / 'a.png', Image.open('a.png'), chw, chw.permute(1, 2, 0)):
        assert np.array_equal(predictor.predict_image(image), expected)
        assert predictor.predict_probabilities(image).shape == (1, 40, 64)
    for image in (chw.float() / 255, chw.double().requires_grad_() / 255):
        differs = predictor.predict_image(image) != expected  # resized before it is rounded
        assert differs.mean() < 0.02


def test_pictures_are_converted_and_turned_as_files_are(folder):
    predictor = Predictor(brightness_network(), 1.0, [0, 1])
    grey = Image.fromarray(pixels()).convert('L')
    turned = grey.getexif()
    turned[274] = 6  # a quarter turn
    grey.save('a.png', exif=turned)
    picture = Image.open('a.png')
    expected = predictor.predict_file('a.png')
    assert expected.shape == (64, 40)
    assert np.array_equal(predictor.predict_image(picture), expected)
    palette = Image.fromarray(pixels()).convert('P')
    palette.save('b.png')
    expected = predictor.predict_file('b.png')
    assert np.array_equal(predictor.predict_image(palette), expected)


def test_a_tensor_of_bfloat16_and_one_of_two_axes_are_taken():
    predictor = Predictor(brightness_network(n_channels=1), 1.0, [0, 1])
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert predictor.predict_image(torch.ones(1, 20, 30, dtype=dtype)).all()
        assert predictor.predict_image(torch.ones(20, 30, dtype=dtype)).shape == (20, 30)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        ([[1, 2]], r'type list; expected a path, a picture of Pillow, an array \(H, W, C\)'),
        (None, 'type NoneType; expected a path'),
        (torch.zeros(1, 3, 40, 64), r'shape \(1, 3, 40, 64\); expected one picture'),
        (torch.zeros(4, 40, 64), 'has 4 channels; the network takes 3'),
        (torch.full((3, 40, 64), 255.0), 'from 255 to 255; expected 0 to 1'),
        (torch.zeros(3, 40, 64, dtype=torch.int64), 'type int64; expected uint8'),
        ('none.png', r'none\.png cannot be read'),
    ],
)
def test_what_is_no_image_is_refused(folder, image, message):
    predictor = Predictor(brightness_network(), 1.0, [0, 1])
    with pytest.raises(UserError, match=message):
        predictor.predict_image(image)
