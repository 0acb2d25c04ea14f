"""Pages of TIFFs and compressed files are read one by one; the truth is what was written."""

import gzip
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from utils.images import decoding, tiff
from utils.images.decoding import PILLOW_DECODE, open_picture, open_reduced, to_values
from utils.images.kept import Kept
from utils.images.metadata import is_one_picture, page_count, pages_of, read_header, read_metadata
from utils.images.pages import Page, split_name
from utils.images.resizing import load_image
from utils.images.tiff_header import is_single
from utils.runtime import cgroups
from utils.runtime.errors import UserError

GREY = np.random.default_rng(0).integers(0, 255, (5, 20, 24)).astype(np.uint8)
DEEP = np.random.default_rng(1).integers(0, 4000, (5, 20, 24)).astype(np.uint16)
COLOUR = np.random.default_rng(2).integers(0, 255, (5, 20, 24, 3)).astype(np.uint8)
CHANNELS = DEEP[:4].reshape(2, 2, 20, 24)  # two slices of two channels
PLANES = CHANNELS.transpose(0, 2, 3, 1)  # the same as (slices, H, W, C)


def written(path, values, **options):
    kind = {'photometric': 'minisblack'} if values.ndim < 4 else {}
    tifffile.imwrite(path, values, **(kind | options))
    return path


def by_pillow(path, values, **options):
    first, *others = map(Image.fromarray, values)
    first.save(path, save_all=True, append_images=others, **options)
    return path


def as_one_directory(path):
    """Cut a TIFF's first directory off from the following ones, as ImageJ leaves them out."""
    content = bytearray(path.read_bytes())
    order = '<' if content[:1] == b'I' else '>'
    at = struct.unpack_from(f'{order}I', content, 4)[0]
    number = struct.unpack_from(f'{order}H', content, at)[0]
    struct.pack_into(f'{order}I', content, at + 2 + 12 * number, 0)
    path.write_bytes(content)
    return path


def imagej(path, values, axes, **options):
    return as_one_directory(written(path, values, imagej=True, metadata={'axes': axes}, **options))


# name: the file written at a path, and its pages
STACKS = {
    '8 bits': (lambda p: written(p, GREY), GREY),
    'LZW': (lambda p: by_pillow(p, GREY, compression='tiff_lzw'), GREY),
    'deflate': (lambda p: by_pillow(p, GREY, compression='tiff_adobe_deflate'), GREY),
    'strips': (lambda p: written(p, GREY, rowsperstrip=3), GREY),
    'tiles': (lambda p: written(p, GREY, tile=(16, 16)), GREY),
    'BigTIFF': (lambda p: written(p, GREY, bigtiff=True), GREY),
    '16 bits, big-endian': (lambda p: written(p, DEEP, byteorder='>'), DEEP),
    'floats': (lambda p: written(p, DEEP.astype(np.float32)), DEEP.astype(np.float32)),
    'unsigned of 32 bits': (lambda p: written(p, DEEP.astype(np.uint32)), DEEP),
    'RGB': (lambda p: by_pillow(p, COLOUR, compression='tiff_lzw'), COLOUR),
    'RGB of 16 bits': (
        lambda p: written(p, COLOUR.astype(np.uint16) * 200, photometric='rgb'),
        COLOUR.astype(np.uint16) * 200,
    ),
    'ImageJ': (lambda p: imagej(p, GREY, 'ZYX'), GREY),
    'ImageJ, 16 bits, big-endian': (lambda p: imagej(p, DEEP, 'TYX', byteorder='>'), DEEP),
    'ImageJ, channels': (lambda p: imagej(p, CHANNELS, 'ZCYX'), PLANES),
    'ImageJ, all directories': (
        lambda p: written(p, CHANNELS, imagej=True, metadata={'axes': 'ZCYX'}),
        PLANES,
    ),
    'OME, channels': (
        lambda p: written(p, CHANNELS, photometric='minisblack', ome=True,
                          metadata={'axes': 'ZCYX'}),
        PLANES,
    ),
    'OME, slices before channels': (
        lambda p: written(p, CHANNELS.swapaxes(0, 1), photometric='minisblack', ome=True,
                          metadata={'axes': 'CZYX'}),
        PLANES,
    ),
}  # fmt: skip


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('name', STACKS)
def test_each_page_holds_the_values_that_were_written(tmp_path, name, compressed):
    write, values = STACKS[name]
    path = write(tmp_path / 'a.tif')
    if compressed:
        (tmp_path / 'b.tif.gz').write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / 'b.tif.gz'
    assert page_count(path) == len(values)
    for page, expected in zip(pages_of(path), values, strict=True):
        expected = expected if expected.ndim == 3 else expected[..., None]
        channels = expected.shape[2]
        picture, size, times = open_reduced(page, 0.5, channels)
        assert (size, times) == ((24, 20), 1)
        assert np.array_equal(to_values(picture, channels, page), expected)
        metadata = read_metadata(page)
        assert (metadata.size, metadata.channels) == ((24, 20), channels)
        assert read_header(page) == metadata._replace(extremes=None)


@pytest.mark.parametrize('name', ['8 bits', '16 bits, big-endian', 'ImageJ', 'ImageJ, channels'])
def test_the_originals_way_of_reading_reads_pages_too(tmp_path, name):
    write, values = STACKS[name]
    last = pages_of(write(tmp_path / 'a.tif'))[-1]
    found = np.asarray(open_picture(last, PILLOW_DECODE)).reshape(values[-1].shape)
    assert np.array_equal(found, values[-1])


def test_a_page_is_named_by_file_and_number(tmp_path):
    page = Page(tmp_path / 'train-volume.tif.gz', 7)
    assert (page.name, page.stem) == ('train-volume.tif.gz:7', 'train-volume:7')
    assert (page.suffix, page.parent) == ('.tif.gz', tmp_path)
    assert str(page) == f'{tmp_path / "train-volume.tif.gz"}:7'


def test_a_stack_is_not_one_picture_and_has_no_further_page(tmp_path):
    path = written(tmp_path / 'a.tif', GREY)
    for read in (open_picture, read_metadata, read_header):
        with pytest.raises(UserError, match=r'a\.tif holds 5 pictures'):
            read(path)
        with pytest.raises(UserError, match=r'a\.tif:5: the file has 5 pages, counted from 0'):
            read(Page(path, 5))


@pytest.mark.parametrize('order', [1, -1])
def test_overviews_and_masks_of_a_picture_are_no_pages(tmp_path, order):
    path = tmp_path / 'a.tif'
    parts = [(GREY[0], 0), (GREY[0, ::2, ::2], 1), (GREY[1], 1)][::order]
    with tifffile.TiffWriter(path) as file:
        for values, kind in parts:
            file.write(values, photometric='minisblack', subfiletype=kind)
    kinds = struct.pack('<HHII', 254, 4, 1, 1), struct.pack('<HHII', 254, 4, 1, 4)
    path.write_bytes(path.read_bytes().replace(*kinds, 1))  # the first of both becomes a mask
    assert pages_of(path) == (path,)
    for decode in (decoding.DECODE_PATH, PILLOW_DECODE):
        assert np.array_equal(open_picture(path, decode), GREY[0])
    assert read_metadata(path).size == read_header(path).size == (24, 20)


def test_pictures_of_different_sizes_are_no_stack(tmp_path):
    path = tmp_path / 'a.tif'
    with tifffile.TiffWriter(path) as file:
        for values in (GREY[0], GREY[1, ::2, ::2]):
            file.write(values, photometric='minisblack')
    text = r'2 pictures of different sizes: page 0 has 24 x 20 pixels, page 1 12 x 10; expected one'
    for read in (page_count, open_picture):
        with pytest.raises(UserError, match=text):
            read(path)


def test_planes_may_be_pages_or_the_channels_of_one_picture(tmp_path):
    path = written(tmp_path / 'a.tif', DEEP[:3], imagej=True, metadata={'axes': 'CYX'})
    assert page_count(path) == 3
    assert is_one_picture(path)
    assert np.array_equal(open_picture(path), DEEP[:3].transpose(1, 2, 0))
    assert np.array_equal(np.asarray(open_picture(Page(path, 1))), DEEP[1])
    assert not is_one_picture(written(tmp_path / 'b.tif', DEEP))


def test_films_are_no_stacks(tmp_path):
    for name in ('a.gif', 'a.webp', 'a.png'):
        path = by_pillow(tmp_path / name, GREY)
        assert page_count(path) == 1
        with pytest.raises(UserError, match='holds 5 pictures'):
            open_picture(path)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['8 bits', 'LZW', 'ImageJ', 'unsigned of 32 bits'])
def test_a_truncated_stack_is_an_error_that_names_file_and_page(tmp_path, name):
    path = STACKS[name][0](tmp_path / 'a.tif')
    whole = path.read_bytes()
    for kept in (0.05, 0.4, 0.6):
        path.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(UserError, match=r'a\.tif(:\d)?.* cannot be read as a picture'):
            for page in pages_of(path):
                read_metadata(page)


def test_headers_tell_single_pictures_without_the_directories(tmp_path, monkeypatch):
    files = [
        written(tmp_path / 'a.tif', GREY[0]), written(tmp_path / 'b.tif', DEEP[0], bigtiff=True),
        by_pillow(tmp_path / 'c.tif', GREY[:1], compression='tiff_lzw'),
        written(tmp_path / 'd.tif', DEEP[0], byteorder='>', description='a cell'),
    ]  # fmt: skip
    Image.fromarray(GREY[0]).save(tmp_path / 'e.png')
    files.append((tmp_path / 'e.png').rename(tmp_path / 'e.tif'))
    stacks = [written(tmp_path / 'f.tif', GREY), imagej(tmp_path / 'g.tif', GREY, 'ZYX')]
    assert [is_single(path) for path in files + stacks] == [True] * 5 + [False] * 2
    monkeypatch.setattr(tiff, 'read_tiff', None)
    assert [page_count(path) for path in files] == [1] * 5


def test_the_directories_of_a_stack_are_read_once(tmp_path, monkeypatch):
    path, looks = written(tmp_path / 'a.tif', GREY), []
    real = tiff._read_pages
    monkeypatch.setattr(tiff, '_read_pages', lambda path: looks.append(path) or real(path))
    for page in pages_of(path):
        open_picture(page)
    assert looks == [path]


def test_files_are_kept_until_they_change_or_others_take_their_place(tmp_path):
    paths, reads = [tmp_path / name for name in 'abcd'], []
    for path in paths:
        path.write_bytes(b'1234')
    kept = Kept(len, limit=8)

    def read(path):
        reads.append(path.name)
        return path.read_bytes()

    for path in (*paths[:2], *paths[:2], paths[0]):
        kept.get(path, read)
    assert reads == ['a', 'b']
    kept.get(paths[2], read)  # takes the place of b, used longest ago
    kept.get(paths[0], read)
    assert reads == ['a', 'b', 'c']
    kept.get(paths[1], read)
    assert reads[3:] == ['b']
    paths[1].write_bytes(b'4321')
    os.utime(paths[1], ns=(0, 10**9))
    assert kept.get(paths[1], read) == b'4321'
    small = Kept(len, limit=1)  # two are kept whatever they take
    for path in paths[:2] * 2:
        small.get(path, read)
    assert reads[5:] == ['a', 'b']


def test_threads_that_want_one_file_read_it_once(tmp_path):
    path, reads = tmp_path / 'a', []
    path.write_bytes(b'1234')
    kept = Kept(len)

    def read(path):
        reads.append(path)
        time.sleep(0.02)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: kept.get(path, read), range(8))) == {b'1234'}
    assert reads == [path]


@pytest.mark.parametrize('suffix', ['.ppm', '.png', '.jpg', '.tif', '.bmp'])
def test_a_compressed_picture_is_read_as_if_it_were_not(tmp_path, suffix):
    plain, path = tmp_path / f'a{suffix}', tmp_path / f'a{suffix}.gz'
    Image.fromarray(COLOUR[0]).save(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    assert split_name(path.name) == ('a', f'{suffix}.gz')
    assert load_image(path, 3, 0.5).equal(load_image(plain, 3, 0.5))
    assert read_metadata(path) == read_metadata(plain)
    assert read_header(path) == read_header(plain)


def test_a_broken_compressed_file_is_an_error_that_names_it(tmp_path):
    path, content = tmp_path / 'a.ppm.gz', gzip.compress(b'P5 20 20 255\n' + bytes(400))
    for broken in (content[:-20], b'P5 20 20 255\n' + bytes(400), b'', content[:30] + content[40:]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r'a\.ppm\.gz cannot be read as a picture'):
            read_metadata(path)


def test_a_bomb_is_refused_while_it_grows(tmp_path, monkeypatch):
    path = tmp_path / 'a.ppm.gz'
    path.write_bytes(gzip.compress(b'P5 4000 4000 255\n' + bytes(16_000_000)))
    assert read_metadata(path).size == (4000, 4000)  # plain pictures compress well
    path.write_bytes(gzip.compress(b'P5 4000 4001 255\n' + bytes(16_004_000)))
    monkeypatch.setattr(cgroups, 'GIB', 2**20)
    monkeypatch.setattr(cgroups, 'free_memory', lambda: 0)
    with pytest.raises(UserError, match=r'a\.ppm\.gz .*over the limit of'):
        read_metadata(path)
