"""PILLOW_DECODE: images exactly as the original preprocesses them."""

import numpy as np
import pytest
import torch
from drawing import disc
from originals import needs_deep_resize, preprocessed
from PIL import Image
from reference import FIXTURES

from utils.images.decoding import PILLOW_DECODE
from utils.images.metadata import read_metadata
from utils.images.original import BICUBIC, resized
from utils.images.resizing import load_image, read_image, to_unit_range

REFERENCE = np.load(FIXTURES / 'preprocess.npz')
SIZE = (97, 65)


def unit(path, channels, scale):
    return to_unit_range(load_image(path, channels, scale, PILLOW_DECODE)).numpy()


@pytest.mark.parametrize('scale', [0.5, 1.0, 0.3])
@pytest.mark.parametrize(('name', 'channels'), [('rgb', 3), ('grey', 1)])
def test_images_equal_the_reference(tmp_path, name, channels, scale):
    Image.fromarray(REFERENCE[name]).save(tmp_path / 'i.png')
    found = unit(tmp_path / 'i.png', channels, scale)
    assert found.dtype == np.float32
    assert np.abs(found - REFERENCE[f'{name}_{scale}']).max() <= 1e-6


@pytest.mark.parametrize('quality', [50, 95])
@pytest.mark.parametrize('scale', [0.1, 0.3, 0.5, 1.0])
def test_a_jpeg_is_decoded_completely_and_not_turned(tmp_path, scale, quality):
    exif = Image.Exif()
    exif[274] = 8
    path = tmp_path / 'i.jpg'
    Image.fromarray(disc(0, SIZE)[0]).save(path, quality=quality, exif=exif)
    image, size = read_image(path, 3, scale, PILLOW_DECODE)
    assert size == SIZE == read_metadata(path, PILLOW_DECODE).size
    assert not read_metadata(path, PILLOW_DECODE).turned
    expected = torch.from_numpy(preprocessed(Image.open(path), scale)).float()
    assert torch.equal(to_unit_range(image), expected)


@pytest.mark.parametrize(
    ('values', 'dtype'),
    [((0, 1), np.uint8), ((0, 2), np.uint8), ((0, 1), bool),
     pytest.param((0, 1), np.uint16, marks=needs_deep_resize),
     pytest.param((0, 65535), np.uint16, marks=needs_deep_resize),
     ((0, 40000), np.int32), ((0, 0.7), np.float32)],
)  # fmt: skip
def test_pixels_are_divided_by_255_only_if_one_exceeds_1(tmp_path, values, dtype):
    pixels = np.array(values, dtype)[disc(0, SIZE, (0, 1))[1]]
    path = tmp_path / 'i.tif'
    Image.fromarray(pixels).save(path)
    expected = preprocessed(Image.open(path), 0.5).astype(np.float32)
    assert np.array_equal(unit(path, 1, 0.5), expected)


def test_the_core_keeps_an_images_own_mode():
    picture = Image.fromarray(disc(0, SIZE)[0])
    for mode, shape in (('RGB', (3,)), ('L', ()), ('P', ()), ('RGBA', (4,)), ('I', ())):
        pixels = resized(picture.convert('L').convert(mode), 0.5, BICUBIC)
        assert pixels.shape == (32, 48, *shape)
    indices = resized(picture.convert('P'), 0.5, BICUBIC)
    assert np.isin(indices, np.asarray(picture.convert('P'))).all()  # none between two


@pytest.mark.parametrize('channels', [1, 3])
def test_deep_pictures_that_are_converted_stay_in_the_unit_range(tmp_path, channels):
    deep = np.where(disc(0, SIZE, (0, 1))[1], 65535, 0).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / 'i.png')
    image = load_image(tmp_path / 'i.png', channels, 0.5, PILLOW_DECODE)
    assert image.dtype == torch.float32
    assert (image.max() <= 1) == (channels == 3)  # the original divides 16 bits by 255
