"""GIF masks read by their strings: the pixels, palette and counts that Pillow finds."""

import io

import numpy as np
import pytest
from drawing import disc
from PIL import Image

from utils import gif
from utils.decoding import open_picture, open_strings
from utils.errors import UserError
from utils.mask_values import MaskEncoding, count_values
from utils.pair_facts import mask_facts

RUNS, NOISE = 'long runs', 'noise'


def saved(array, palette=None, **options):
    """The bytes of a GIF of an array (H, W) uint8."""
    picture, file = Image.fromarray(array), io.BytesIO()
    if palette is not None:
        picture.putpalette(palette)
    picture.save(file, 'GIF', **options)
    return file.getvalue()


def strings_of(data, file_bytes=0):
    """The strings in a GIF's bytes; of 0 bytes, which no detail is too much for."""
    with Image.open(io.BytesIO(data)) as picture:
        return gif.read_strings(picture, file_bytes)


def pixels(rng, kind, colours, size=(61, 83)):
    """(H, W) uint8 below `colours`."""
    found = rng.integers(0, colours, size).astype(np.uint8)
    return np.sort(found.ravel()).reshape(size) if kind == RUNS else found


def test_a_string_that_ends_with_its_own_first_pixel():
    """Codes of 3 bits: clear (4), pixel 1, the string just being made (6), end (5)."""
    codes = 4 | 1 << 3 | 6 << 6 | 5 << 9
    head = b'GIF87a' + bytes([3, 0, 1, 0, 0x81, 0, 0]) + bytes(range(12))  # 3 x 1, four colours
    data = head + b',' + bytes([0, 0, 0, 0, 3, 0, 1, 0, 0]) + b'\2\2' + codes.to_bytes(2, 'little')
    strings = strings_of(data + b'\0;')
    assert strings.parents.tolist() == [0, 0, 1]
    assert strings.lengths.tolist() == [0, 1, 2]
    assert np.asarray(strings.picture()).tolist() == [[1, 1, 1]]
    assert strings.count() == {1: 3}


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize('colours', [2, 5, 17, 256])
@pytest.mark.parametrize('kind', [RUNS, NOISE])
def test_pixels_and_palette_are_pillows(kind, colours, interlaced):
    """Noise fills the table of 4,096 strings, so that codes are cleared on the way."""
    rng = np.random.default_rng(colours)
    array = pixels(rng, kind, colours, (101, 97))
    for palette in (None, rng.integers(0, 256, 768).astype(np.uint8).tobytes()):
        data = saved(array, palette, interlace=int(interlaced))
        found, true = strings_of(data).picture(), Image.open(io.BytesIO(data))
        assert (found.mode, found.size) == (true.mode, true.size)
        assert found.tobytes() == true.tobytes()
        assert found.getpalette() == true.getpalette()


@pytest.mark.parametrize('kind', [RUNS, NOISE])
@pytest.mark.parametrize('colours', [1, 2, 4, 8, 9])
def test_counts_are_those_of_the_pixels(kind, colours):
    array = pixels(np.random.default_rng(colours), kind, colours)
    data = saved(array, bytes(range(256)) * 3)
    true = count_values(np.asarray(Image.open(io.BytesIO(data))))
    assert strings_of(data).count() == (true if colours <= gif.FEW_VALUES else None)


def test_facts_of_a_mask_are_the_same_by_strings_and_by_pixels(tmp_path, monkeypatch):
    path = tmp_path / 'a.gif'
    mask = disc(0, (500, 400), values=(0, 1, 2))[1].astype(np.uint8)
    path.write_bytes(saved(mask, bytes(range(7, 200))))
    monkeypatch.setattr(gif, 'PIXELS_PER_BYTE', 0)
    by_strings = mask_facts(path, MaskEncoding([]))
    assert open_strings(path).count() == by_strings[-1] == count_values(mask)
    monkeypatch.setattr(gif, 'PIXELS_PER_BYTE', 1e9)
    assert open_strings(path) is None
    assert mask_facts(path, MaskEncoding([])) == by_strings


def test_pictures_of_much_detail_and_other_kinds_are_left_to_pillow(tmp_path):
    rng = np.random.default_rng(0)
    noise, runs = (saved(pixels(rng, kind, 2, (400, 500))) for kind in (NOISE, RUNS))
    assert strings_of(noise, len(noise)) is None
    assert strings_of(runs, len(runs))
    array = pixels(rng, RUNS, 4, (400, 500))
    assert strings_of(saved(array, bytes(range(12)), transparency=2)) is None
    part = runs.replace(b',\0\0\0\0\xf4\1\x90\1', b',\0\0\0\0\xf4\1\x80\1')  # 500 x 384 of 400
    assert part != runs
    assert strings_of(part) is None
    Image.fromarray(array).save(tmp_path / 'a.gif', 'PNG')
    assert open_strings(tmp_path / 'a.gif') is None
    assert np.array_equal(np.asarray(open_picture(tmp_path / 'a.gif')), array)


def test_what_is_read_of_a_damaged_file_is_what_pillow_reads():
    """Of 3,000 files Pillow refuses most; none that it refuses is read, and none read otherwise."""
    rng = np.random.default_rng(0)
    whole = saved(np.kron(rng.integers(0, 2, (12, 12)), np.ones((8, 8))).astype(np.uint8))
    read = refused = 0
    for attempt in range(3000):
        data = bytearray(whole)
        if attempt % 4 == 0:
            del data[rng.integers(40, len(data)) :]
        else:
            data[rng.integers(36, len(data))] = rng.integers(0, 256)
        strings = strings_of(bytes(data))
        try:
            true = Image.open(io.BytesIO(data)).tobytes()
        except OSError:
            assert strings is None
            refused += 1
            continue
        if strings:
            assert strings.picture().tobytes() == true
            read += 1
    assert read > 30
    assert refused > 1000


def test_a_truncated_mask_is_named(tmp_path):
    path = tmp_path / 'a.gif'
    path.write_bytes(saved(disc(0, (500, 400))[1].astype(np.uint8))[:-20])
    with pytest.raises(UserError, match=r'a\.gif cannot be read as a picture: image file is trunc'):
        mask_facts(path, MaskEncoding([]))
