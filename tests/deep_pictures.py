"""TIFF and PNG files of more bits and bands than Pillow writes, byte by byte."""

import struct
import zlib

import numpy as np

RGB, GREY, CMYK, LAB = 2, 1, 5, 8  # photometric interpretations
SIZES = {3: 'H', 4: 'I', 12: 'd'}  # TIFF types
FORMATS = {'u': 1, 'i': 2, 'f': 3}  # sample formats by numpy's kind


def tiff(*pages, colours=RGB, extra=(), planar=False, order='<', turn=1, others=(), kinds=None):
    """Return an uncompressed TIFF of arrays (H, W, C), one a page.

    others: further tags (number, type, values). kinds: NewSubfileType of each page.
    """
    data = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', 8)
    for number, array in enumerate(pages):
        height, width, bands = array.shape
        pixels = array.astype(array.dtype.newbyteorder(order))
        parts = [pixels[..., k].tobytes() for k in range(bands)] if planar else [pixels.tobytes()]
        tags = [
            (254, 4, [kinds[number] if kinds else 0]), (256, 3, [width]), (257, 3, [height]),
            (258, 3, [array.itemsize * 8] * bands), (259, 3, [1]), (262, 3, [colours]),
            (273, 4, [0] * len(parts)), (274, 3, [turn]), (277, 3, [bands]), (278, 3, [height]),
            (279, 4, [len(part) for part in parts]), (284, 3, [2 if planar else 1]),
            (339, 3, [FORMATS[array.dtype.kind]] * bands), *others,
        ]  # fmt: skip
        tags += [(338, 3, list(extra))] if extra else []
        changed = {tag for tag, _, _ in others}
        tags = [tag for k, tag in enumerate(tags) if tag[0] not in changed or tag in others]
        data += _page(sorted(tags), parts, len(data), order, number + 1 < len(pages))
    return data


def _page(tags, parts, start, order, more):
    """Return a page at `start`: its tags, their long values, its pixels."""
    end = start + 2 + 12 * len(tags) + 4
    numbers = {tag: list(values) for tag, _, values in tags}
    kinds = {tag: kind for tag, kind, _ in tags}
    raw = {tag: _packed(kinds[tag], values, order) for tag, values in numbers.items()}
    pixels_at = end + sum(len(text) for text in raw.values() if len(text) > 4)
    places = [pixels_at + sum(map(len, parts[:k])) for k in range(len(parts))]
    raw[273] = _packed(4, places, order)
    entries, long = struct.pack(order + 'H', len(tags)), b''
    for tag, text in raw.items():
        count = len(text) if kinds[tag] == 2 else len(numbers[tag])
        entries += struct.pack(order + 'HHI', tag, kinds[tag], count)
        entries += text if len(text) == 4 else struct.pack(order + 'I', end + len(long))
        long += text if len(text) > 4 else b''
    pixels = b''.join(parts)
    after = pixels_at + len(pixels) if more else 0
    return entries + struct.pack(order + 'I', after) + long + pixels


def _packed(kind, values, order):
    text = (
        b''.join(values) if kind == 2 else struct.pack(order + SIZES[kind] * len(values), *values)
    )
    return text + b'\0' * (max(4, len(text) + len(text) % 2) - len(text))


def png(array, exif=b''):
    """Return a PNG of uint16 (H, W, C): grey and alpha, RGB, or RGBA; filtered by Sub and Up."""
    height, width, channels = array.shape
    rows = np.frombuffer(array.astype('>u2').tobytes(), np.uint8).reshape(height, -1)
    step, lines = 2 * channels, b''
    for k, row in enumerate(rows):
        if k % 2:
            lines += b'\2' + (row - rows[k - 1]).tobytes()
        else:
            left = np.concatenate([np.zeros(step, np.uint8), row[:-step]])
            lines += b'\1' + (row - left).tobytes()
    kind = {2: 4, 3: 2, 4: 6}[channels]
    chunks = [b'IHDR' + struct.pack('>IIBBBBB', width, height, 16, kind, 0, 0, 0)]
    chunks += [b'eXIf' + exif] if exif else []
    chunks += [b'IDAT' + zlib.compress(lines), b'IEND']
    body = [struct.pack('>I', len(c) - 4) + c + struct.pack('>I', zlib.crc32(c)) for c in chunks]
    return b'\x89PNG\r\n\x1a\n' + b''.join(body)


def noise(channels, dtype=np.uint16, size=(24, 20), seed=0):
    """Return random values (H, W, C) of all bits; size: (width, height)."""
    rng = np.random.default_rng(seed)
    shape = (*size[::-1], channels)
    if np.dtype(dtype).kind == 'f':
        return rng.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def camera_set(folder, count=6, bits=11, channels=3, extension='tif'):
    """Write discs of `bits` in 16 bits into folder/imgs, and their masks into folder/masks."""
    from drawing import disc
    from PIL import Image

    for name in ('imgs', 'masks'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        image, mask = disc(k, colours=channels)
        deep = image.astype(np.uint16) << (bits - 8)
        content = png(deep) if extension == 'png' else tiff(deep)
        (folder / f'imgs/disc{k}.{extension}').write_bytes(content)
        Image.fromarray(mask.astype(np.uint8)).save(folder / f'masks/disc{k}.png')
    return folder / 'imgs', folder / 'masks'
