"""A changed picture or array file is read or refused with one message, in little time and memory.

`pytest -m slow tests/images/test_mutated_files.py` tries 5,000 files of each reader.
"""

import io
import resource
import time
import zlib
from pathlib import Path

import deep_pictures
import numpy as np
import pytest
import torch
from drawing import disc
from launching import in_own_process
from mutating import FUZZED, mutated_file, rezipped
from PIL import Image

from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.images.metadata import read_header, read_metadata
from utils.images.resizing import load_image
from utils.masks.encoding import MaskEncoding, load_mask
from utils.masks.metadata import read_mask_metadata
from utils.runtime import cgroups
from utils.runtime.errors import UserError

SECONDS, KIB = 5, 2**20  # at most, of one file: of processor time; of memory, 1 GiB for getrusage
IMAGE, MASK = (array.astype(np.uint8) for array in disc(0, size=(40, 30)))


def pillow(form, mode='RGB', **options):
    file = io.BytesIO()
    source = Image.fromarray(MASK if mode == '1' else IMAGE)
    deep = {'I;16': np.uint16, 'F': np.float32, 'I': np.int32}.get(mode)
    picture = Image.fromarray(IMAGE[..., 0].astype(deep)) if deep else source.convert(mode)
    picture.save(file, form, **options)
    return file.getvalue()


def arrays(save, *contents):
    return [(save(file := io.BytesIO(), content), file.getvalue())[1] for content in contents]


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return exif


def compressed_tiff():
    """A deflated TIFF of five bands of 16 bits, which tifffile reads."""
    values = deep_pictures.noise(5)
    packed = zlib.compress(values.tobytes())
    plain = deep_pictures.tiff(values, others=[(259, 3, [8]), (279, 4, [len(packed)])])
    return plain[: -values.nbytes] + packed


def deep_tiffs():
    noise = deep_pictures.noise
    return [
        deep_pictures.tiff(noise(3)), deep_pictures.tiff(noise(4), extra=[2]),
        deep_pictures.tiff(noise(5, np.uint8)), deep_pictures.tiff(noise(4), colours=5),
        deep_pictures.tiff(noise(2, np.float32), colours=1, planar=True, order='>'),
        deep_pictures.tiff(noise(3, np.int16), turn=6), compressed_tiff(),
        deep_pictures.tiff(noise(1, np.float64), colours=1),
    ]  # fmt: skip


ARRAYS = [IMAGE, MASK, IMAGE.astype(np.float32) / 255, MASK > 0, IMAGE.astype(np.uint16) * 9]
TIFF = [('L', {}), ('RGB', {'compression': 'tiff_lzw'}), ('P', {'compression': 'tiff_deflate'}),
        ('1', {'compression': 'group4'}), ('RGB', {'compression': 'jpeg'}), ('F', {}),
        ('I;16', {}), ('RGB', {'compression': 'packbits', 'exif': turned()}),
        ('CMYK', {})]  # fmt: skip

# By suffix and kind: the form of the file, see mutating.pieces_of, and sound files.
# By hand: Pillow 10.1 does not write them.
DEEP_PGM = b'P5 20 15 65535\n' + (200 * np.arange(300, dtype='>u2')).tobytes()
READERS = {
    'png': ('png', [pillow('PNG', mode) for mode in ('L', 'RGB', 'P', '1', 'LA', 'RGBA')]
            + [pillow('PNG', exif=turned())]),
    'png of 16 bits': ('png', [deep_pictures.png(deep_pictures.noise(c)) for c in (2, 3, 4)]
                       + [pillow('PNG', 'I;16')]),
    'jpg': ('jpg', [pillow('JPEG', mode) for mode in ('L', 'RGB', 'CMYK')]
            + [pillow('JPEG', progressive=True), pillow('JPEG', exif=turned())]),
    'gif': ('gif', [pillow('GIF', 'P'), pillow('GIF', 'L', interlace=1), pillow('GIF', '1')]),
    'bmp': ('bmp', [pillow('BMP', mode) for mode in ('RGB', 'L', 'P', '1')]),
    'tif': ('tif', [pillow('TIFF', mode, **options) for mode, options in TIFF]),
    'tif of many bits or bands': ('tif', deep_tiffs()),
    'webp': ('webp', [pillow('WEBP'), pillow('WEBP', lossless=True), pillow('WEBP', 'RGBA'),
                      pillow('WEBP', exif=turned())]),
    'ppm': ('words', [pillow('PPM'), b'P3 2 2 255\n' + b'7 ' * 12, b'P6 3 2 999 ' + bytes(36)]),
    'pgm': ('words', [pillow('PPM', 'L'), DEEP_PGM, pillow('PPM', '1')]),
    'npy': ('text', arrays(np.save, *ARRAYS)),
    'pt': ('zip', arrays(lambda file, array: torch.save(torch.from_numpy(array), file), *ARRAYS)),
    'pth': ('words', arrays(
        lambda file, array: torch.save(
            torch.from_numpy(array), file, _use_new_zipfile_serialization=False),
        *ARRAYS[:-1])),
}  # fmt: skip


def read_as_image(path, decode=DECODE_PATH):
    """Read a file as train.py and predict.py read an image."""
    read_header(path)
    metadata = read_metadata(path, decode)
    low, high = metadata.extremes or (0, 1)
    asked = [(low, high + 1)] * metadata.channels if decode == DECODE_PATH else None
    load_image(path, metadata.channels, 0.5, decode, asked)


def read_as_mask(path, decode=DECODE_PATH):
    """Read a file as train.py reads a mask."""
    metadata = read_mask_metadata(path, MaskEncoding([]), decode, (20, 15))
    values = list(metadata.counts)
    load_mask(path, MaskEncoding(values[:8], ignore=values[8:], snap=True), 0.5, decode=decode)


WAYS = [
    (work, how) for work in (read_as_image, read_as_mask) for how in (DECODE_PATH, PILLOW_DECODE)
]


def faults_of(work, path, decode):
    """Return what is wrong with how a file is read, as a list of at most one text."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        work(path, decode)
    except UserError as error:
        if path.name not in str(error):
            return [f'a message without the name: {error}']
    except Exception as error:  # noqa: BLE001  any is a fault
        return [f'{type(error).__name__}: {error}']
    if (seconds := time.process_time() - started) > SECONDS:
        return [f'{seconds:.1f} s']
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return [f'{grown / KIB:.2f} GiB'] if grown > KIB else []


def try_files(reader, seeds, monkeypatch):
    """Read mutated files of a reader as image and as mask; return faults by seed."""
    monkeypatch.setattr(cgroups, 'free_memory', lambda: 0)  # as on a full machine
    form, contents = READERS[reader]
    path, found = Path(f'changed.{reader.partition(" ")[0]}'), {}
    for seed in seeds:
        content = contents[seed % len(contents)]
        hostile = form == 'zip' and seed % 2
        changed = (
            rezipped(content, seed) if hostile else mutated_file(content, form, seed, contents)
        )
        path.write_bytes(changed)
        for work, decode in WAYS:
            if faults := faults_of(work, path, decode):
                found[seed, work.__name__] = faults[0]
    return found


@pytest.mark.parametrize('reader', READERS)
def test_sound_files_are_read(folder, reader):
    for content in READERS[reader][1]:
        path = folder / f'sound.{reader.partition(" ")[0]}'
        path.write_bytes(content)
        read_as_image(path)


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.filterwarnings('ignore')
def test_changed_files_are_read_or_refused_with_one_message(folder, monkeypatch, reader):
    assert try_files(reader, range(24), monkeypatch) == {}


@pytest.mark.slow
@pytest.mark.parametrize('reader', READERS)
@pytest.mark.filterwarnings('ignore')
@in_own_process
def test_many_changed_files_of_each_reader(folder, monkeypatch, reader):
    assert try_files(reader, range(FUZZED), monkeypatch) == {}
