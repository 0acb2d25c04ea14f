"""The mode of a mask file depends on its format and on the classes' values alone.

Not on the form of the training masks: grey, palette, RGB, one bit, 16 bits, array, or unknown.
"""

import numpy as np
import pytest
import torch
from networks import brightness_network, save
from PIL import Image

import predict
from utils.data.dataset import SegmentationDataset
from utils.inference.outputs.formats import check_output_format, format_mask, save_result
from utils.masks.encoding import MaskEncoding, to_image
from utils.runtime.errors import UserError

DEEP_MODES = {'I': 'I;16'}  # Pillow before 10.3 reads 16 bits of a PNG as I
SUFFIXES = ('png', 'tif', 'bmp', 'gif', 'jpg')
COLOURS = [(0, 0, 0), (0, 90, 250), (200, 0, 0)]

# Values of the classes: the mode in each format, in the order of SUFFIXES, as Pillow reads it.
MODES = {
    (0, 255): 'L L L L L',
    (0, 1): '1 1 1 L L',
    (0, 7): 'P P P P L',
    (0, 1, 2): 'P P P P L',
    (1, 2, 3): 'P P P P L',
    (0, 32): 'P P P P L',
    (0, 33): 'L L L L L',
    (0, 128, 255): 'L L L L L',
    (0, 300, 40000): 'I;16 I;16 - - -',
    tuple(COLOURS): 'RGB RGB RGB P RGB',
}


def indexed(palette):
    def encode(values):
        picture = Image.fromarray(values.astype(np.uint8))
        picture.putpalette(palette)
        return picture

    return encode


# Form of the training masks: from values (H, W) or colours (H, W, 3) to what is saved, and where.
FORMS = {
    'grey': (lambda v: Image.fromarray(v.astype(np.uint8)), 'png'),
    'one bit': (lambda v: Image.fromarray(v.astype(bool)), 'png'),
    'palette': (indexed(list(range(256)) + list(range(255, -1, -1)) + [9] * 256), 'png'),
    'palette of a GIF': (indexed([0, 0, 0, 255, 255, 255] + [0] * 762), 'gif'),
    'palette that hides classes': (indexed([7] * 768), 'png'),
    'grey in RGB': (lambda v: Image.fromarray(v.astype(np.uint8)).convert('RGB'), 'bmp'),
    '16 bits': (lambda v: Image.fromarray(v.astype(np.uint16)), 'tif'),
    'bool array': (lambda v: v.astype(bool), 'npy'),
    'int64 array': (lambda v: v.astype(np.int64), 'npy'),
    'RGB': (lambda v: Image.fromarray(v.astype(np.uint8)), 'png'),
    'colour array': (lambda v: v.astype(np.uint8), 'npy'),
    'unknown': (None, ''),
}


GREY = ('grey', 'palette', 'palette of a GIF', 'palette that hides classes', 'grey in RGB')
DEEP = ('16 bits', 'int64 array', 'unknown')


def forms(values):
    """Return the forms that training masks of these values may have."""
    if isinstance(values[0], tuple):
        return ['RGB', 'colour array', 'unknown']
    if max(values) > 255:
        return DEEP
    return [*GREY, *DEEP] + ['one bit', 'bool array'] * (max(values) == 1)


def trained_on(folder, values, form):
    """Return the encoding that training finds for masks of this form."""
    encode, suffix = FORMS[form]
    if encode is None:
        return MaskEncoding(list(values))
    (folder / 'imgs').mkdir(parents=True)
    (folder / 'masks').mkdir()
    classes = np.arange(24 * 20).reshape(20, 24) * len(values) // (24 * 20)
    Image.new('RGB', (24, 20)).save(folder / 'imgs/a.png')
    content, path = encode(np.array(values)[classes]), folder / f'masks/a.{suffix}'
    if suffix == 'npy':
        np.save(path, content)
    else:
        content.save(path, **({'optimize': False} if suffix == 'gif' else {}))
    masks = SegmentationDataset(folder / 'imgs', folder / 'masks').masks
    assert tuple(masks.values) == values
    return masks


@pytest.mark.parametrize('values', MODES, ids=str)
def test_the_mode_and_the_values_are_the_same_for_every_form_of_training_masks(tmp_path, values):
    indices = np.repeat(np.arange(len(values), dtype=np.uint8), 16)[None].repeat(16, axis=0)
    for form in forms(values):
        masks = trained_on(tmp_path / form, values, form)
        for suffix, mode in zip(SUFFIXES, MODES[values].split(), strict=True):
            path = tmp_path / f'{form}.{suffix}'
            if mode == '-':
                with pytest.raises(UserError, match='16 bits'):
                    check_output_format('values', [path], masks)
                continue
            save_result(format_mask('values', masks, indices, as_array=False), path)
            with Image.open(path) as picture:
                assert DEEP_MODES.get(picture.mode, picture.mode) == mode, (form, suffix)
                colours = isinstance(values[0], tuple)
                found = np.asarray(picture.convert('RGB') if colours else picture)
            # One bit becomes 0 and 255 where a format has none.
            written = (0, 255) if values == (0, 1) and mode == 'L' else values
            expected = np.array(written)[indices]
            if suffix == 'jpg':  # which keeps the middle of an area of one value, but for rounding
                found, expected = found[8, 8::16], expected[8, 8::16]
            assert np.abs(found.astype(int) - expected).max() <= 3 * (suffix == 'jpg'), form


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_class_numbers_as_index_and_colours_have_one_mode_too(tmp_path, suffix):
    indices = np.array([[0, 1, 2]], np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    for form in ('grey', 'palette', 'palette that hides classes', '16 bits', 'unknown'):
        masks = trained_on(tmp_path / form, (0, 1, 2), form)
        path = tmp_path / f'{form}.{suffix}'
        for output_format, mode in (('index', 'P'), ('color', 'RGB')):
            save_result(format_mask(output_format, masks, indices, as_array=False), path)
            as_read = {'jpg': {'P': 'L'}.get(mode, mode), 'gif': 'P'}.get(suffix, mode)
            assert Image.open(path).mode == as_read, (form, output_format)


def test_the_palette_of_the_training_masks_gives_the_colours(tmp_path):
    masks = trained_on(tmp_path, (0, 1, 2), 'palette')
    indices = np.array([[0, 1, 2]], np.uint8)
    for form in ('values', 'color'):
        found = format_mask(form, masks, indices, as_array=False).convert('RGB')
        assert np.asarray(found).tolist() == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]


@pytest.mark.slow
@pytest.mark.parametrize('encoding', [{}, {'mode': 'P', 'palette': [0, 0, 0, 255, 255, 255]}])
def test_carvana_masks_are_one_bit_or_grey_0_and_255(folder, encoding):
    """Of the original's file, and of one that an earlier version wrote for masks of GIF files."""
    if encoding:
        save('m.pth', brightness_network(), mask_values=[0, 1], mask_encoding=encoding)
    else:
        torch.save(brightness_network().state_dict() | {'mask_values': [0, 1]}, 'm.pth')
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    Image.fromarray(pixels).save('img.png')
    for suffix, mode in zip(SUFFIXES, '1 1 1 L L'.split(), strict=True):
        command = ['-m', 'm.pth', '-i', 'img.png', '-o', f'o.{suffix}', '-s', '1']
        assert predict.main(command) == 0
        with Image.open(f'o.{suffix}') as mask:
            assert mask.mode == mode
            white = np.asarray(mask.convert('L'))
        assert (white[:, :30] < 8).all()
        assert (white[:, 34:] > 247).all()


@pytest.mark.parametrize('values', [[0, 1], [0, 255], [0, 1, 2], [0, 900], [[0, 0, 0], [9, 9, 9]]])
def test_a_mask_is_written_fast_and_takes_hardly_more_bytes_than_with_pillows_default(
    tmp_path, values
):
    y, x = np.mgrid[:640, :960]
    indices = ((x - 480) ** 2 + 2 * (y - 320) ** 2 < 60_000 + 9_000 * np.sin(x / 7)).astype(
        np.uint8
    )
    picture = to_image(indices, MaskEncoding(values))
    picture.save(tmp_path / 'default.png')
    save_result(picture, tmp_path / 'ours.png')
    names = (tmp_path / 'ours.png', tmp_path / 'default.png')
    with Image.open(names[0]) as written, Image.open(names[1]) as usual:
        assert written.mode == usual.mode
        assert np.array_equal(np.asarray(written), np.asarray(usual))
    ours, default = ((tmp_path / f'{name}.png').stat().st_size for name in ('ours', 'default'))
    picture.save(tmp_path / 'level1.png', compress_level=1)
    assert ours < 1.02 * (tmp_path / 'level1.png').stat().st_size  # 2,855 and 2,846 by one zlib
    assert ours < 1.5 * default
    stream = (tmp_path / 'ours.png').read_bytes().partition(b'IDAT')[2]
    assert stream[1] >> 6 == 0  # zlib's header: its fastest way
