"""Whole JPEGs are told without decoding them, and no broken one is taken for whole."""

import io

import numpy as np
import pytest
from PIL import Image

from utils.decoding import examine_picture
from utils.errors import UserError
from utils.jpeg import is_whole_jpeg


def jpeg(**options):
    """The bytes of a picture of 160 x 96 with soft noise."""
    small = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((160, 96), Image.Resampling.BICUBIC).save(file, 'JPEG', **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ('options', 'after', 'whole'),
    [
        ({}, b'', True),
        ({'restart_marker_rows': 1}, b'', True),
        ({'comment': 'x' * 300}, b'', True),
        ({}, b'\0' * 100 + b'\xff\xd9', True),  # cameras add to files what decoders do not read
        ({'progressive': True}, b'', False),  # of several scans: only decoding tells
    ],
)
def test_whole_files(tmp_path, options, after, whole):
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg(**options) + after)
    assert is_whole_jpeg(path) == whole
    assert examine_picture(path).size == (160, 96)


@pytest.mark.parametrize('progressive', [False, True])
def test_no_file_that_decoding_refuses_is_taken_for_whole(tmp_path, progressive):
    """Cut off, bytes of the header or of the pixels changed, 500 bytes lost to zeros."""
    rng, data, path = np.random.default_rng(1), jpeg(progressive=progressive), tmp_path / 'a.jpg'
    refused = 0
    for attempt in range(800):
        damaged = bytearray(data)
        if attempt % 4 == 0:
            del damaged[rng.integers(2, len(data)) :]
        elif attempt % 4 == 1:
            damaged[rng.integers(0, 700)] = rng.integers(0, 256)
        elif attempt % 4 == 2:
            damaged[rng.integers(0, len(data))] = rng.integers(0, 256)
        else:
            start = rng.integers(300, len(data) - 500)
            damaged[start : start + 500] = bytes(500)
        path.write_bytes(damaged)
        try:
            with Image.open(path, formats=['JPEG']) as picture:
                picture.load()
        except OSError:
            refused += 1
            assert not is_whole_jpeg(path), attempt
    assert refused > 100


def test_a_truncated_image_is_named(tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg()[:-30])
    with pytest.raises(UserError, match=r'a\.jpg cannot be read as a picture: image file is trunc'):
        examine_picture(path)


def test_only_what_may_be_broken_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg()[:-30])
    monkeypatch.setattr('utils.decoding.is_whole_jpeg', lambda path: True)
    assert examine_picture(path).size == (160, 96)
