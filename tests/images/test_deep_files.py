"""Every bit and band of 16-bit PNGs and of TIFFs is read, upright; the truth is written by hand."""

import importlib.util
import struct
import sys

import numpy as np
import pytest
from deep_pictures import CMYK, GREY, LAB, RGB, noise, png, tiff
from PIL import Image

from utils.images.decoding import PILLOW_DECODE, open_reduced, to_values
from utils.images.metadata import read_header, read_metadata
from utils.images.resizing import load_image
from utils.masks.encoding import MaskEncoding, load_mask
from utils.masks.metadata import read_mask_metadata
from utils.runtime.errors import UserError

RGB16, RGBN16, FIVE = noise(3), noise(4), noise(5)
RGBN8, ALPHA16, GREY_ALPHA16 = noise(4, np.uint8), noise(4), noise(2)
FLOATS, SIGNED = noise(3, np.float32), noise(4, np.int16)

# name: extension, the file, and its values (H, W, C) without alpha
FILES = {
    'RGB of 16 bits': ('tif', tiff(RGB16), RGB16),
    'RGB of 16 bits, big-endian': ('tif', tiff(RGB16, order='>'), RGB16),
    'RGB of 16 bits, planes': ('tif', tiff(RGB16, planar=True), RGB16),
    'RGB of 16 bits, PNG': ('png', png(RGB16), RGB16),
    'RGBA of 16 bits': ('tif', tiff(ALPHA16, extra=[2]), ALPHA16[..., :3]),
    'RGBA of 16 bits, premultiplied': ('tif', tiff(ALPHA16, extra=[1]), ALPHA16[..., :3]),
    'RGBA of 16 bits, PNG': ('png', png(ALPHA16), ALPHA16[..., :3]),
    'grey and alpha of 16 bits, PNG': ('png', png(GREY_ALPHA16), GREY_ALPHA16[..., :1]),
    'infrared of 8 bits': ('tif', tiff(RGBN8, extra=[0]), RGBN8),
    'infrared of 8 bits, undeclared': ('tif', tiff(RGBN8), RGBN8),
    'infrared of 8 bits, grey': ('tif', tiff(RGBN8, colours=GREY, extra=[0] * 3), RGBN8),
    'infrared of 8 bits, planes': ('tif', tiff(RGBN8, extra=[0], planar=True), RGBN8),
    'infrared of 16 bits': ('tif', tiff(RGBN16, extra=[0]), RGBN16),
    'infrared of 16 bits, big-endian': ('tif', tiff(RGBN16, extra=[0], order='>'), RGBN16),
    'infrared and alpha': ('tif', tiff(FIVE, extra=[0, 2]), FIVE[..., :4]),
    'alpha and infrared': ('tif', tiff(FIVE, extra=[2, 0]), FIVE[..., [0, 1, 2, 4]]),
    'five bands, planes': ('tiff', tiff(FIVE, colours=GREY, extra=[0] * 4, planar=True), FIVE),
    'floats': ('tif', tiff(FLOATS, colours=GREY, extra=[0] * 2), FLOATS),
    'signed': ('tif', tiff(SIGNED, colours=GREY, extra=[0] * 3), SIGNED),
    'unsigned of 32 bits': ('tif', tiff(noise(1, np.uint32), colours=GREY), noise(1, np.uint32)),
    'one band of doubles': ('tif', tiff(noise(1, np.float64), colours=GREY), noise(1, np.float64)),
    'two bands': ('tif', tiff(noise(2, np.uint8), colours=GREY, extra=[0]), noise(2, np.uint8)),
}


@pytest.mark.parametrize('name', FILES)
def test_every_bit_and_band_is_read(tmp_path, name):
    extension, content, values = FILES[name]
    path = tmp_path / f'a.{extension}'
    path.write_bytes(content)
    metadata, channels = read_metadata(path), values.shape[2]
    assert (metadata.size, metadata.channels) == ((24, 20), channels)
    assert metadata.deep == (values.dtype != np.uint8)
    if metadata.deep:
        assert tuple(metadata.extremes) == (values.min(), values.max())
    assert read_header(path) == metadata._replace(extremes=None)
    picture, size, times = open_reduced(path, 0.5, channels)
    assert (size, times) == ((24, 20), 1)
    assert np.array_equal(to_values(picture, channels, path), values)
    assert picture.dtype == values.dtype


@pytest.mark.parametrize('name', ['RGBA of 16 bits', 'RGBA of 16 bits, PNG'])
def test_alpha_of_16_bits_is_a_channel_if_asked_for(tmp_path, name):
    path = tmp_path / f'a.{FILES[name][0]}'
    path.write_bytes(FILES[name][1])
    assert np.array_equal(to_values(open_reduced(path, 1, 4)[0], 4, path), ALPHA16)
    assert read_metadata(path).channels_as(4) == 4
    assert read_metadata(path).channels_as(3) == 3


def test_alpha_of_8_bits_stays_alpha(tmp_path):
    path = tmp_path / 'a.tif'
    path.write_bytes(tiff(RGBN8, extra=[2]))
    assert read_metadata(path)[1:5] == ('RGBA', 3, False, True)
    assert np.array_equal(to_values(open_reduced(path, 1, 3)[0], 3, path), RGBN8[..., :3])


def test_of_more_bands_a_network_of_three_channels_gets_the_first_three(tmp_path):
    path = tmp_path / 'a.tif'
    path.write_bytes(tiff(RGBN16, extra=[0]))
    assert np.array_equal(to_values(open_reduced(path, 1, 3)[0], 3, path), RGBN16[..., :3])
    assert read_metadata(path).channels_as(3) == 3
    with pytest.raises(UserError, match='has 4 channels; the network takes 1'):
        to_values(open_reduced(path, 1, 1)[0], 1, path)


def test_inks_of_16_bits_become_rgb(tmp_path):
    path = tmp_path / 'a.tif'
    path.write_bytes(tiff(RGBN16, colours=CMYK))
    light = 65535 - RGBN16.astype(np.float64)
    expected = light[..., :3] * light[..., 3:] / 65535
    found = to_values(open_reduced(path, 1, 3)[0], 3, path)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('kind', ['by Pillow', 'by tifffile', 'PNG'])
def test_they_are_turned_as_viewers_show_them(tmp_path, turn, kind):
    exif = b'II*\0' + struct.pack('<IHHHIII', 8, 1, 274, 3, 1, turn, 0)
    path = tmp_path / ('a.png' if kind == 'PNG' else 'a.tif')
    values = FIVE if kind == 'by tifffile' else RGB16
    colours, extra = (GREY, [0] * 4) if values is FIVE else (RGB, [])
    stored = tiff(values, turn=turn, colours=colours, extra=extra)
    path.write_bytes(png(values, exif) if kind == 'PNG' else stored)
    expected = {
        1: values, 2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1],
        5: values.swapaxes(0, 1), 6: values.swapaxes(0, 1)[:, ::-1],
        7: values.swapaxes(0, 1)[::-1, ::-1], 8: values.swapaxes(0, 1)[::-1],
    }[turn]  # fmt: skip
    found = open_reduced(path, 1, values.shape[2])[0]
    assert np.array_equal(found, expected)
    metadata = read_metadata(path)
    assert (metadata.size, metadata.turned) == (expected.shape[1::-1], turn > 1)


def test_pages_are_refused_but_overviews_are_no_pages(tmp_path):
    path, half = tmp_path / 'a.tif', RGBN16[::2, ::2]
    path.write_bytes(tiff(RGBN16, RGBN16, extra=[0]))
    with pytest.raises(UserError, match=r'holds 2 pictures \(TIFF'):
        read_metadata(path)
    path.write_bytes(tiff(RGBN16, half, extra=[0], kinds=[0, 1]))
    assert np.array_equal(open_reduced(path, 1, 4)[0], RGBN16)


@pytest.mark.parametrize('name', ['RGB of 16 bits', 'RGB of 16 bits, PNG', 'five bands, planes'])
@pytest.mark.parametrize('part', [0.05, 0.5, 0.99])
def test_a_truncated_file_is_one_error_that_names_it(tmp_path, name, part):
    extension, content, _ = FILES[name]
    path = tmp_path / f'a.{extension}'
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match=rf'a\.{extension} .*cannot be read') as caught:
        read_metadata(path)
    assert caught.value.kind in ('truncated', 'unreadable')
    if part == 0.99 and extension == 'tiff':  # tifffile takes parts that are missing for zeros
        assert caught.value.kind == 'truncated'


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path, monkeypatch):
    path = tmp_path / 'a.tif'
    path.write_bytes(tiff(FIVE, colours=GREY, extra=[0] * 4, others=[(259, 3, [5])]))  # LZW
    if importlib.util.find_spec('imagecodecs') is None:
        with pytest.raises(UserError, match=r'a\.tif: .*: pip install imagecodecs'):
            read_metadata(path)
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(UserError, match=r'a\.tif: .*: pip install tifffile'):
        read_metadata(path)


def test_a_colour_space_that_is_not_converted_is_an_error(tmp_path):
    (tmp_path / 'a.tif').write_bytes(tiff(RGB16, colours=LAB))
    with pytest.raises(UserError, match=r'a\.tif: TIFF of 16 bits in the colour space 8 .*as RGB'):
        read_metadata(tmp_path / 'a.tif')


@pytest.mark.parametrize('name', ['RGB of 16 bits', 'RGB of 16 bits, PNG'])
def test_the_original_keeps_the_high_byte(tmp_path, name):
    path = tmp_path / f'a.{FILES[name][0]}'
    path.write_bytes(FILES[name][1])
    found = load_image(path, 3, 1.0, PILLOW_DECODE)
    assert np.array_equal(found.permute(1, 2, 0), RGB16 >> 8)
    assert read_metadata(path, PILLOW_DECODE).mode == 'RGB'


@pytest.mark.parametrize('extension', ['tif', 'png'])
def test_masks_of_16_bit_colours_keep_their_labels(tmp_path, extension):
    """Of labels up to 255 in grey, or of colours, the high byte alone is nothing."""
    labels = (np.arange(480).reshape(20, 24) % 3).astype(np.uint16)
    path = tmp_path / f'm.{extension}'
    grey = labels[..., None].repeat(3, axis=2)
    path.write_bytes(png(grey) if extension == 'png' else tiff(grey))
    assert read_mask_metadata(path, MaskEncoding([])).counts == {0: 160, 1: 160, 2: 160}
    assert np.array_equal(load_mask(path, MaskEncoding([0, 1, 2]), 1.0), labels)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 0]])
    deep = (colours * 257).astype(np.uint16)[labels]
    path.write_bytes(png(deep) if extension == 'png' else tiff(deep))
    encoding = MaskEncoding([tuple(colour) for colour in colours.tolist()])
    assert set(read_mask_metadata(path, MaskEncoding([])).counts) == set(encoding.values)
    assert np.array_equal(load_mask(path, encoding, 0.5), labels[1::2, 1::2])
    path.write_bytes(png(deep + 3) if extension == 'png' else tiff(deep + 3))
    with pytest.raises(UserError, match=rf'm\.{extension}: a colour mask of 16 bits'):
        load_mask(path, encoding, 1.0)


def test_a_compressed_file_needs_no_other_package(tmp_path):
    """LZW, the usual compression of GeoTIFFs, which tifffile alone does not read."""
    path = tmp_path / 'a.tif'
    Image.fromarray(RGBN8, 'RGBA').save(path, compression='tiff_lzw')
    content = path.read_bytes()
    value = content.index(struct.pack('<HHI', 338, 3, 1)) + 8  # of ExtraSamples: alpha
    path.write_bytes(content[:value] + struct.pack('<I', 0) + content[value + 4 :])
    assert np.array_equal(open_reduced(path, 1, 4)[0], RGBN8)
    assert read_metadata(path).mode == '4 x uint8'


@pytest.mark.parametrize('name', ['RGB of 16 bits', 'RGB of 16 bits, PNG', 'five bands, planes'])
def test_a_file_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch, name):
    path = tmp_path / f'a.{FILES[name][0]}'
    path.write_bytes(FILES[name][1])
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(UserError, match=rf'{path.name} is too large'):
        read_metadata(path)
