"""Pages of TIFF files: which of their directories are pictures, and where each of them is.

Overviews and masks, which GDAL and microscopes put beside a picture, are no pages. ImageJ writes a
large stack as one directory, and the other planes as bytes behind it. Where ImageJ or OME say that
planes are channels of one picture, a page has several planes. All planes of a file may be the
channels of one picture or, as tifffile writes stacks for ImageJ, slices: they are pages then, and a
Path without a page is one picture.
"""

import gzip
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from utils.runtime.cgroups import check_size
from utils.runtime.errors import UserError

from .kept import Kept
from .pages import Page, Source, file_of, is_compressed, kind_of
from .tiff_header import DESCRIPTION, STARTS

SUFFIXES = ('.tif', '.tiff')
START_BYTES = 26  # enough for a TIFF's header, and for the colour type of a PNG

# Tags (https://www.awaresystems.be/imaging/tiff/tifftags.html) and values of theirs.
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS = 254, 256, 257, 258, 259, 262
OFFSETS, ORIENTATION, BANDS, PLANES = 273, 274, 277, 284
EXTRA, FORMATS, NO_DATA = 338, 339, 42113
KEPT_TAGS = (
    SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, DESCRIPTION, ORIENTATION, BANDS, PLANES,
    EXTRA, FORMATS, NO_DATA,
)  # fmt: skip
REDUCED_OR_MASK = 5  # bits of SUBFILE: pages that are no pictures of their own
BROKEN_TAGS = (LookupError, ValueError, TypeError, AttributeError, StopIteration, struct.error)

CHUNK = 2**22  # bytes
MOST_CHANNELS = 8  # more planes than these are slices, whatever they are called

Tags = dict[int, tuple]


class TiffPage(NamedTuple):
    """A picture in a TIFF. raw: `planes` are places of bytes behind the tags' own picture."""

    tags: Tags  # of its first plane
    planes: tuple[int, ...]  # places of the directories of its planes
    raw: bool = False
    first: bool = True  # whether it is the file's first directory, which any reader finds

    @property
    def place(self) -> int | None:
        """Where Pillow has to look for its first plane; None where it looks by itself."""
        return None if self.first else self.planes[0]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.tags[WIDTH][0], self.tags[HEIGHT][0]


class TiffFile(NamedTuple):
    """The pages of a TIFF, and the picture that these are if they are its channels, or None."""

    pages: list[TiffPage]
    joined: TiffPage | None = None


def is_tiff(path: Path) -> bool:
    """Return whether the name is that of a TIFF, compressed by gzip or not."""
    return kind_of(path) in SUFFIXES


def read_tiff(path: Path) -> TiffFile:
    """Return the pages of a TIFF; raise UserError if their sizes differ, or what Pillow raises.

    They are remembered, so that reading all pages of a file takes time in proportion to these. The
    first look at a file of one page costs 60 µs.
    """
    return _known.get(path, _read_pages)


def page_at(source: Source) -> TiffPage:
    """Return the page of a TIFF, or the only one of a Path; raise UserError for another number."""
    pages, joined = read_tiff(file_of(source))
    if not isinstance(source, Page):
        if joined is None and len(pages) > 1:
            raise several_error(source, len(pages), 'TIFF pages or frames')
        return joined or pages[0]
    if source.index >= len(pages):
        raise UserError(f'{source}: the file has {len(pages)} pages, counted from 0')
    return pages[source.index]


def several_error(path: Path, count: object, what: str) -> UserError:
    """Return the UserError for a file of several pictures where one is expected."""
    return UserError(
        f'{path} holds {count} pictures ({what}); expected one. Save each as a file, or all as the '
        'channels of one .npy (H, W, C).'
    )


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading; a compressed one is decompressed into memory first.

    Raises OSError or EOFError for a broken one, TooLargeError for one that seems a bomb.
    """
    return io.BytesIO(_contents.get(path, _decompress)) if is_compressed(path) else path.open('rb')


def _decompress(path: Path) -> bytes:
    """Return the content; the limit is checked as it grows, because gzip does not know its size."""
    content = io.BytesIO()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK):
                content.write(chunk)
                check_size(content.tell(), path)
    except zlib.error as error:
        raise OSError(f'gzip: {error}') from error
    return content.getvalue()


def open_at(path: Path, place: int) -> BinaryIO:
    """Open a TIFF whose directory at `place` seems to be the first one, as Pillow reads that."""
    with open_binary(path) as file:
        start = file.read(16)
        big = start[2:4].strip(b'\0') == b'+'
        order, at = '<' if start[0] == 73 else '>', 8 if big else 4
        header = start[:at] + struct.pack(order + ('Q' if big else 'I'), place)
        if is_compressed(path):
            file.seek(0)
            return io.BytesIO(header + file.read()[len(header) :])
    return _Shifted(path, header)


class _Shifted(io.BufferedReader):
    """A file with another beginning. libtiff, which reads the file itself, gets `place` too."""

    def __init__(self, path: Path, header: bytes):
        super().__init__(io.FileIO(path))
        self._header = header

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; those of the header are its own."""
        at = self.tell()
        content = super().read(size)
        own = self._header[at : at + len(content)]
        return own + content[len(own) :]


def read_raw(path: Path, page: TiffPage, dtype: str, bands: int) -> np.ndarray:
    """Return the planes (H, W, C) of a page of raw planes; raise OSError for a truncated file."""
    width, height = page.size
    count = width * height * bands
    planes = []
    with open_binary(path) as file:
        order = '<' if file.read(1) == b'I' else '>'
        for place in page.planes:
            file.seek(place)
            content = file.read(count * np.dtype(dtype).itemsize)
            if len(content) < count * np.dtype(dtype).itemsize:
                raise OSError('image file is truncated')
            stored = np.frombuffer(content, order + np.dtype(dtype).str[1:])
            planes.append(stored.astype(dtype).reshape(height, width, bands))
    pixels = np.concatenate(planes, axis=2)
    inverted = page.tags.get(COLOURS, (1,))[0] == 0 and dtype == 'uint8'
    return 255 - pixels if inverted else pixels  # Pillow inverts such pictures, too


def no_data_value(source: Source) -> float:
    """Return the value of pixels without data that GDAL records in a TIFF, NaN for none."""
    if is_tiff(file_of(source)):
        with suppress(*BROKEN_TAGS):
            return float(page_at(source).tags[NO_DATA][0].strip(' \0'))
    return math.nan


def _read_pages(path: Path) -> TiffFile:
    with open_binary(path) as file:
        start = file.read(START_BYTES)
        found = list(_directories(file, start)) if start.startswith(STARTS) else []
    if not found:
        raise SyntaxError('not a TIFF file')
    pictures = [one for one in found if not one[1].get(SUBFILE, (0,))[0] & REDUCED_OR_MASK]
    pictures = pictures or found[:1]
    _check_sizes(path, [tags for _, tags in pictures])
    tags = pictures[0][1]
    description = str(tags.pop(DESCRIPTION, ('',))[0])
    raw = _raw_planes(tags, description) if len(pictures) == 1 else []
    places = raw or [place for place, _ in pictures]

    def page(planes: list[int]) -> TiffPage:
        own, first = pictures[0 if raw else planes[0]][1], places[planes[0]] == found[0][0]
        return TiffPage(own, tuple(places[k] for k in planes), bool(raw), first)

    pages = _grouped(len(places), description)
    if len(pages) == 1 < len(places):
        return TiffFile([page([k]) for k in pages[0]], page(pages[0]))
    return TiffFile(list(map(page, pages)))


def _check_sizes(path: Path, pictures: list[Tags]) -> None:
    """Raise UserError for pictures of different sizes, which are no stack."""
    sizes = [(tags[WIDTH][0], tags[HEIGHT][0]) for tags in pictures]
    other = next((k for k, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None:
        raise UserError(
            f'{path} holds {len(sizes)} pictures of different sizes: page 0 has {sizes[0][0]} x '
            f'{sizes[0][1]} pixels, page {other} {sizes[other][0]} x {sizes[other][1]}; expected '
            'one size. Save each as a file.'
        )


def _directories(file: BinaryIO, start: bytes) -> Iterator[tuple[int, Tags]]:
    """Yield place and tags of each directory of a TIFF; `start` are its first bytes."""
    big = start[2:4].strip(b'\0') == b'+'
    header, seen = start[: 16 if big else 8], set()
    order, count, entry = '<' if start[:1] == b'I' else '>', 'Q' if big else 'H', 20 if big else 12
    size = file.seek(0, io.SEEK_END)
    place = ImageFileDirectory_v2(header).next
    while place and place not in seen:
        seen.add(place)
        file.seek(place)
        number = struct.unpack(order + count, file.read(struct.calcsize(count)))[0]
        if file.tell() + entry * number > size:  # Pillow takes what there is
            raise OSError('image file is truncated')
        file.seek(place)
        tags = ImageFileDirectory_v2(header)
        tags.load(file)
        found = {tag: tags[tag] for tag in KEPT_TAGS if tag in tags}
        if DESCRIPTION in found:  # the place of the bytes, which only ImageJ's stacks need
            found[OFFSETS] = tags.get(OFFSETS, (0,))
        yield place, {tag: v if isinstance(v, tuple) else (v,) for tag, v in found.items()}
        place = tags.next


def _number(text: str, name: str) -> int:
    """Return the number in a line NAME=number of ImageJ, or an attribute of OME; 1 without."""
    found = re.search(rf'(?m)(?:^|\s){name}="?(\d+)', text)
    return int(found[1]) if found else 1


def _raw_planes(tags: Tags, description: str) -> list[int]:
    """Return the places of the planes that ImageJ wrote behind one directory, none for others."""
    images = _number(description, 'images') if description.startswith('ImageJ=') else 1
    if images < 2 or tags.get(COMPRESSION, (1,))[0] != 1 or len(tags.get(OFFSETS, ())) != 1:
        return []
    size = tags[WIDTH][0] * tags[HEIGHT][0] * sum(tags.get(BITS, (8,))) // 8
    return [tags[OFFSETS][0] + k * size for k in range(images)]


def _grouped(planes: int, description: str) -> list[list[int]]:
    """Return the planes of each page: one, or the channels that ImageJ or OME tell of."""
    single = [[k] for k in range(planes)]
    if description.startswith('ImageJ='):
        channels = _number(description, 'channels')
        step = 1  # planes from one channel to the next
    elif '<OME' in description[:2000] and planes > 1:
        slices, frames = _number(description, 'SizeZ'), _number(description, 'SizeT')
        channels = planes // (slices * frames) if planes % (slices * frames) == 0 else 1
        order = re.search(r'DimensionOrder="XY(\w+)"', description)
        sizes = {'Z': slices, 'T': frames}
        before = order[1].partition('C')[0] if order else ''
        step = math.prod(sizes.get(axis, 1) for axis in before)
    else:
        return single
    if not 1 < channels <= MOST_CHANNELS or planes % channels:
        return single
    firsts = [k for k in range(planes) if k // step % channels == 0]
    return [[first + c * step for c in range(channels)] for first in firsts]


_contents: Kept[bytes] = Kept(len)  # of compressed files
_known: Kept[TiffFile] = Kept(lambda file: 2000 * len(file.pages), limit=2**25)
