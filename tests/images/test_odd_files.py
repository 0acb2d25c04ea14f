"""Odd, broken and hostile files: each gives one message that names it, none a wrong result."""

import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from drawing import data_set, pair_files, scan_all
from PIL import Image
from running import run_train

import predict
from utils.images.arrays import read_array
from utils.images.decoding import open_picture
from utils.images.metadata import read_metadata
from utils.masks.values import mask_array
from utils.runtime import cgroups
from utils.runtime.errors import UserError

SIZE = (48, 32)


class Bomb:
    """Unpickling it would make a folder."""

    def __reduce__(self):
        return os.mkdir, ('exploded',)


def encoded(extension, mode='RGB', size=SIZE, **options):
    file = io.BytesIO()
    formats = {'jpg': 'JPEG', 'tif': 'TIFF', 'pgm': 'PPM'}
    Image.new(mode, size).save(file, formats.get(extension, extension.upper()), **options)
    return file.getvalue()


def saved(save, content):
    file = io.BytesIO()
    save(content, file)
    return file.getvalue()


def npy(array):
    return saved(lambda content, file: np.save(file, content, allow_pickle=True), array)


def tensor(content):
    return saved(torch.save, content)


def png_of(width, height):
    """Return a PNG whose header claims this size, with one byte of data."""
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = [header, b'IDAT' + zlib.compress(b'\0'), b'IEND']
    body = [struct.pack('>I', len(c) - 4) + c + struct.pack('>I', zlib.crc32(c)) for c in chunks]
    return b'\x89PNG\r\n\x1a\n' + b''.join(body)


def npy_header(text):
    header = text.encode().ljust(118 - 10 + 9) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header


def pages(extension, count=3):
    frames = [Image.new('L', SIZE, 90 * k) for k in range(count)]
    file = io.BytesIO()
    form = {'tif': 'TIFF'}.get(extension, extension.upper())
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def bands(count):
    """Return a TIFF of `count` 8-bit bands, such as no mask has."""
    tags = [
        (256, 3, 1, SIZE[0]), (257, 3, 1, SIZE[1]), (258, 3, 1, 8), (259, 3, 1, 1),
        (262, 3, 1, 1), (273, 4, 1, 200), (277, 3, 1, count), (278, 3, 1, SIZE[1]),
        (279, 4, 1, count * SIZE[0] * SIZE[1]),
    ]  # fmt: skip
    entries = b''.join(struct.pack('<HHII', *tag) for tag in tags)
    head = b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + b'\0' * 4
    return head.ljust(200, b'\0') + bytes(count * SIZE[0] * SIZE[1])


JPEG, PNG = encoded('jpg'), encoded('png')
UNREADABLE = 'cannot be read as a picture'
BROKEN = {
    'empty.png': (b'', UNREADABLE),
    'empty.jpg': (b'', UNREADABLE),
    'empty.npy': (b'', UNREADABLE),
    'empty.pt': (b'', UNREADABLE),
    'text.png': (b'hello', UNREADABLE),
    'page.jpg': (b'<!DOCTYPE html><html>404</html>', UNREADABLE),
    'pointer.png': (b'version https://git-lfs.github.com/spec/v1\n', UNREADABLE),
    'zeros.tif': (bytes(5000), UNREADABLE),
    'noise.bmp': (bytes(range(256)) * 9, UNREADABLE),
    'cut.jpg': (JPEG[:-20], UNREADABLE),
    'cut head.jpg': (JPEG[:100], UNREADABLE),
    'cut.png': (PNG[:-30], UNREADABLE),
    'cut head.png': (PNG[:20], UNREADABLE),
    'cut.gif': (encoded('gif', 'P')[:-20], UNREADABLE),
    'cut.bmp': (encoded('bmp')[:500], UNREADABLE),
    'cut.tif': (encoded('tif')[:300], UNREADABLE),
    'cut.webp': (encoded('webp')[:25], UNREADABLE),
    'cut.pgm': (encoded('pgm', 'L')[:40], UNREADABLE),
    'cut.npy': (npy(np.zeros((32, 48), np.uint8))[:200], UNREADABLE),
    'cut.pt': (tensor(torch.zeros(32, 48))[:200], UNREADABLE),
    'flipped.png': (PNG[:45] + b'\xff\xff' + PNG[47:], UNREADABLE),
    'huge.png': (png_of(100_000, 100_000), 'is too large: .*Expected at most 178,956,970 pixels'),
    'huge.pgm': (b'P5 100000 100000 255\n0', 'is too large'),
    'huge.npy': (
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000)}"),
        UNREADABLE,
    ),
    'huge.pt': (
        tensor(torch.zeros(1).expand(100_000, 100_000)),
        'stand for 40,000,000,000 bytes|178,956,970 pixels',
    ),
    'negative.npy': (
        npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -4)}"),
        UNREADABLE,
    ),
    'open bracket.npy': (npy_header("{'descr': '|u1', 'shape': (4,"), UNREADABLE),
    'code.npy': (npy_header("__import__('os').mkdir('exploded')"), UNREADABLE),
    'objects.npy': (npy(np.array([Bomb()], dtype=object)), UNREADABLE),
    'pickle.npy': (pickle.dumps(Bomb()), UNREADABLE),
    'pickle.pt': (pickle.dumps(Bomb()), 'not a file of torch.save'),
    'object.pth': (tensor(Bomb()), 'not a file of torch.save'),
    'dict.pt': (tensor({'mask': torch.zeros(32, 48)}), 'holds a dict, not a tensor'),
    'list.pt': (tensor([1, 2]), 'holds a list, not a tensor'),
    'bfloat16.pt': (tensor(torch.zeros(32, 48, dtype=torch.bfloat16)), 'no plain array'),
    'sparse.pt': (tensor(torch.eye(32).to_sparse()), 'no plain array'),
    'zip.npy': (saved(lambda a, f: np.savez(f, a=a), np.zeros((32, 48))), 'holds NpzFile'),
    'scalar.npy': (npy(np.uint8(7)), r'array of shape \(\)'),
    'line.npy': (npy(np.zeros(48, np.uint8)), r'array of shape \(48,\)'),
    'nothing.npy': (npy(np.zeros((0, 48), np.uint8)), UNREADABLE),
    'pages.tif': (pages('tif'), '(has 3 pages but|3 pages; expected)'),
    'film.gif': (pages('gif'), r'holds 3 pictures \(GIF'),
    'film.webp': (pages('webp'), r'holds 3 pictures \(WEBP'),
    'film.png': (pages('png'), r'holds 3 pictures \(PNG'),
    'five bands cut.tif': (bands(5)[:-1], UNREADABLE),
    'lab.tif': (encoded('tif', 'LAB'), 'of mode LAB; expected grey'),
}
AS_IMAGE = {
    'complex.npy': (npy(np.zeros((32, 48), complex)), 'type complex128; expected uint8'),
    'text.npy': (npy(np.full((32, 48), 'a')), 'expected uint8, uint16'),
    'ids.npy': (npy(np.zeros((32, 48), np.int64)), 'type int64; expected uint8'),
    'nan.npy': (npy(np.full((32, 48), np.nan)), '1536 of 1536 values are NaN or infinite'),
    'infinite.pt': (tensor(torch.full((32, 48), torch.inf)), 'values are NaN or infinite'),
    'first.pt': (tensor(torch.zeros(3, 32, 48, dtype=torch.uint8)), r'looks like \(C, H, W\)'),
    'film.npy': (npy(np.zeros((2, 32, 48, 3), np.uint8)), 'expected one picture'),
    'hole.tif': (encoded('tif', 'F', SIZE)[:-4] + struct.pack('<f', float('nan')), '1 of 1536'),
}
AS_MASK = {
    'soft.npy': (npy(np.full((32, 48), 0.5)), r'type float64; expected \(H, W\) integers'),
    'five bands.tif': (bands(5), r'shape \(32, 48, 5\).*expected \(H, W\) integers'),
    'scores.npy': (npy(np.zeros((32, 48, 9), np.uint8)), r'take argmax\(axis=2\)'),
    'soft.tif': (
        encoded('tif', 'F', SIZE)[:-4] + struct.pack('<f', 0.5),
        'mask of mode F; expected grey, palette',
    ),
    'print.jpg': (encoded('jpg', 'CMYK'), 'mask of mode CMYK; expected grey'),
    'soft.pt': (tensor(torch.full((32, 48), 0.5)), 'type float32; expected'),
}
CASES = [
    *[(name, *case, where) for name, case in BROKEN.items() for where in ('imgs', 'masks')],
    *[(name, *case, 'imgs') for name, case in AS_IMAGE.items()],
    *[(name, *case, 'masks') for name, case in AS_MASK.items()],
]


@pytest.mark.parametrize(
    ('name', 'content', 'message', 'where'), CASES, ids=[f'{c[-1]}: {c[0]}' for c in CASES]
)
def test_a_bad_file_gives_one_message_that_names_it(folder, capsys, name, content, message, where):
    data_set(folder, 1)
    Image.new('RGB', SIZE).save(folder / 'imgs/bad.png')
    Image.new('L', SIZE).save(folder / 'masks/bad.png')
    (folder / where / 'bad.png').unlink()
    path = folder / where / f'bad.{name.rpartition(".")[2]}'
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=f'1 problem with the data:\n1 .*:\n.*bad.*{message}'
    ) as caught:
        scan_all(pair_files(folder / 'imgs', folder / 'masks'))
    text = str(caught.value)
    assert '. ' in text.rpartition('bad')[2] or ';' in text  # a remedy follows
    assert not (folder / 'exploded').exists()
    assert run_train() == 2
    assert run_train() == 2  # the scan is cached, but not as a good file
    assert 'Traceback' not in capsys.readouterr().err
    if where == 'imgs' and name != 'pages.tif':  # predict.py takes stacks
        torch.save({'format': 'unet'}, 'MODEL.pth')  # never reached
        assert predict.main(['-i', str(path)]) == 2
        err = capsys.readouterr().err
        assert 'bad.' in err
        assert 'Traceback' not in err


FINE = {
    'jpeg named png.png': JPEG,
    'png named jpg.jpg': PNG,
    'bmp named tif.tif': encoded('bmp'),
    'progressive.jpg': encoded('jpg', progressive=True),
    'interlaced.gif': encoded('gif', 'P', interlace=1),
    'lzw.tif': encoded('tif', compression='tiff_lzw'),
    'UPPER.PNG': PNG,
}


def noise(extension):
    """Return a file of random pixels, whose data is long in any format."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 160), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, {'jpg': 'JPEG', 'tif': 'TIFF'}.get(extension, extension))
    return file.getvalue()


@pytest.mark.parametrize('part', [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize('extension', ['jpg', 'gif', 'png', 'tif'])
def test_a_truncated_file_is_found_wherever_it_ends_and_named(tmp_path, extension, part):
    path, content = tmp_path / f'a.{extension}', noise(extension)
    path.write_bytes(content)
    assert read_metadata(path).size == (160, 96)
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match=rf'a\.{extension} .*') as caught:
        read_metadata(path)
    assert caught.value.kind in ('truncated', 'unreadable')


@pytest.mark.parametrize('name', FINE)
def test_a_file_is_read_by_its_content_whatever_its_suffix(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FINE[name])
    assert read_metadata(path).size == SIZE
    assert open_picture(path).size == SIZE


def test_arrays_of_any_memory_order_are_read_right(tmp_path):
    array = np.arange(35, dtype=np.uint8).reshape(5, 7)
    np.save(tmp_path / 'a.npy', np.asfortranarray(array))
    torch.save(torch.from_numpy(array).T, tmp_path / 'b.pt')
    assert np.array_equal(mask_array(open_picture(tmp_path / 'a.npy'), tmp_path), array)
    assert np.array_equal(open_picture(tmp_path / 'b.pt'), array.T)


def repeated(path):
    torch.save(torch.zeros(1, dtype=torch.uint8).expand(2048, 2048), path)


def compressed(path):
    torch.save(torch.zeros(2048, 2048, dtype=torch.uint8), 'plain.pt')
    with zipfile.ZipFile('plain.pt') as old, zipfile.ZipFile(path, 'w', 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def with_a_hole(path):
    path.write_bytes(npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (8192, 8192)}"))
    os.truncate(path, path.stat().st_size + 8192**2)
    if path.stat().st_blocks * 512 > 2**20:
        pytest.skip('this file system has no holes in files')


@pytest.mark.skipif(not hasattr(os.stat_result, 'st_blocks'), reason='no holes in files')
@pytest.mark.parametrize('write', [repeated, compressed, with_a_hole])
def test_a_small_file_that_would_fill_the_memory_is_refused(folder, monkeypatch, write):
    monkeypatch.setattr(cgroups, 'free_memory', lambda: 0)
    monkeypatch.setattr(cgroups, 'GIB', 2**20)
    path = folder / ('a.npy' if write is with_a_hole else 'a.pt')
    write(path)
    with pytest.raises(
        UserError, match=r'a\.\w+ cannot be read .* stand for .* over the limit of 1'
    ):
        read_array(path)


def test_a_flipped_bit_of_an_array_of_torch_is_found(folder):
    content = bytearray(tensor(torch.full((32, 48), 77, dtype=torch.uint8)))
    content[content.index(b'M' * 32)] ^= 1
    (folder / 'a.pt').write_bytes(content)
    with pytest.raises(UserError, match=r'a\.pt cannot be read .*damaged \(Bad CRC-32'):
        read_array(folder / 'a.pt')
