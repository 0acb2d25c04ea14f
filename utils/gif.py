"""GIF masks by their strings: counted without their pixels, decoded in less than half the time.

LZW, GIF's compression, codes strings of pixels, each an earlier string and one pixel more; a
Carvana mask of 1918 x 1280 is 4,600 of them. Pillow writes each out pixel by pixel, 4.6 ms a mask.
Here numpy follows all strings at once, 1.1 ms for the count of every value, and pixels are copied
string by string, 2.0 ms. https://www.w3.org/Graphics/GIF/spec-gif89a.txt, appendix F.
"""

from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image

KNOWN = 4096  # strings that codes can name, of at most 12 bits
# A string costs about as much here as some hundred pixels in Pillow: pictures of more detail than
# a byte for so many pixels are left to it.
PIXELS_PER_BYTE = 128
FEW_VALUES = 8  # of a mask; those of more are counted in their pixels
PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))  # first row and step of an interlaced picture's parts


@dataclass
class Strings:
    """What a GIF's pixels are made of: strings in the file's order, after an empty one.

    mode, size, palette: as Pillow has them, (width, height) and bytes R, G, B, ….
    parents: int64 (N + 1,), of each string the one that it continues by a pixel, 0 for none.
    pixels: int64 (N + 1,), of each string that continues none its pixel, else 0.
    lengths: int64 (N + 1,), of each string in pixels.
    """

    mode: str
    size: tuple[int, int]
    palette: bytes
    interlaced: bool
    parents: np.ndarray
    pixels: np.ndarray
    lengths: np.ndarray

    def count(self) -> dict[int, int] | None:
        """How many pixels hold each value; None where that is better counted in the pixels."""
        roots = np.where(self.parents, self.parents, np.arange(len(self.parents)))
        for _ in range(int(self.lengths.max()).bit_length()):
            roots = roots[roots]
        firsts = self.pixels[roots]
        # A string is longer than its parent by the first pixel of the string after that one.
        ends = np.where(self.parents, np.append(firsts, 0)[self.parents + 1], self.pixels)
        values = np.unique(ends[1:])
        if len(values) > FEW_VALUES:
            return None
        held = (ends[:, None] == values).astype(np.int64)
        held[0] = 0
        totals = _sum_over_parents(held, self.parents).sum(axis=0)
        return dict(zip(values.tolist(), totals.tolist(), strict=True))

    def picture(self) -> Image.Image:
        """The decoded picture."""
        width, height = self.size
        stored = np.frombuffer(self._join(), dtype=np.uint8).reshape(height, width)
        rows = stored
        if self.interlaced:
            rows, done = np.empty_like(stored), 0
            for first, step in PASSES:
                part = rows[first::step]
                part[:] = stored[done : done + len(part)]
                done += len(part)
        picture = Image.frombuffer(self.mode, self.size, rows, 'raw', self.mode, 0, 1)
        if self.mode == 'P':
            picture.putpalette(self.palette)
        return picture

    def _join(self) -> bytearray:
        """All strings, one after the other: each is copied from where its parent was written."""
        sources = (np.cumsum(self.lengths) - self.lengths)[self.parents]
        joined = bytearray()
        strings = (self.parents, self.pixels, sources, sources + self.lengths)
        for parent, pixel, source, end in zip(*(s[1:].tolist() for s in strings), strict=True):
            if not parent:
                joined.append(pixel)
                continue
            itself = end > len(joined)  # it ends with its own first pixel, not written yet
            joined += joined[source:end]
            if itself:
                joined.append(joined[source])
        return joined


def read_strings(picture: Image.Image, file_bytes: int) -> Strings | None:
    """The strings of an opened picture that was not loaded; file_bytes is its file's size.

    None, for Pillow to decode or to refuse, where it is no GIF or a broken one, does not fill
    its frame, is transparent in parts, or has much detail.
    """
    if picture.format != 'GIF' or len(picture.tile) != 1:
        return None
    _, extents, offset, (bits, interlaced, transparency) = picture.tile[0]
    width, height = picture.size
    whole = extents == (0, 0, width, height)
    opaque = transparency == -1 and 'transparency' not in picture.info
    if not (whole and opaque) or bits > 8 or file_bytes * PIXELS_PER_BYTE > width * height:
        return None
    picture.fp.seek(offset)
    codes, first_strings = _read_codes(_read_blocks(picture.fp), bits)
    named = (1 << bits) + 2  # the first code that is not a pixel, clear or end
    parents = np.where(codes < named, 0, first_strings + codes - named)
    if (parents > np.arange(len(parents))).any():
        return None  # a string that was not known yet
    parents = np.append(0, parents)
    lengths = _sum_over_parents(np.minimum(np.arange(len(parents)), 1), parents)
    if lengths.sum() != width * height:
        return None
    pixels = np.where(parents, 0, np.append(0, codes))
    palette = picture.palette.getdata()[1] if picture.palette else b''
    return Strings(picture.mode, (width, height), palette, interlaced, parents, pixels, lengths)


def _sum_over_parents(amounts: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """For each string the sum of `amounts` (N + 1, …) of it, its parent, that one's, and so on.

    Each round doubles how many are added; the empty string's amount must be 0.
    """
    while parents.any():
        amounts = amounts + amounts[parents]
        parents = parents[parents]
    return amounts


def _read_codes(data: bytes, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes of all strings, int64, and for each the first string since the last clear code.

    How many bits a code takes depends on how many strings are known, and each code makes one more
    known; so all codes up to a clear code, wherever that comes, are read at once.
    """
    clear, end = 1 << bits, (1 << bits) + 1
    octets = np.frombuffer(data + bytes(2), dtype=np.uint8).astype(np.int64)
    words = octets[:-2] | octets[1:-1] << 8 | octets[2:] << 16
    known = clear + 1 + np.maximum(np.arange(8 * len(data) // (bits + 1)), 1)
    widths = np.frexp(np.minimum(known, KNOWN - 1))[1].astype(np.int64)
    ends = np.cumsum(widths)
    parts, first_strings, start, strings = [], [], 0, 0
    while True:
        count = int(np.searchsorted(ends, 8 * len(data) - start, 'right'))
        places = start + ends[:count] - widths[:count]
        codes = words[places >> 3] >> (places & 7) & (1 << widths[:count]) - 1
        stops = np.flatnonzero((codes == clear) | (codes == end))
        stop = int(stops[0]) if len(stops) else count
        parts.append(codes[:stop])
        first_strings.append(np.full(stop, strings + 1))
        strings += stop
        if stop == count or codes[stop] == end:
            return np.concatenate(parts), np.concatenate(first_strings)
        start += int(ends[stop])


def _read_blocks(file: IO[bytes]) -> bytes:
    """The data of the blocks that follow, each led by its length, up to one of length 0.

    Nothing where the file ends before that.
    """
    blocks = []
    while length := file.read(1):
        block = file.read(length[0])
        if len(block) < length[0]:
            break
        if not block:
            return b''.join(blocks)
        blocks.append(block)
    return b''
