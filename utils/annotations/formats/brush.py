"""Label Studio's brush masks: a bit stream of run lengths, of the bytes of an RGBA picture."""

import numpy as np

from utils.annotations import fields
from utils.annotations.drawing import runs_of
from utils.annotations.records import Runs
from utils.runtime.errors import UserError


class BitStream:
    """Numbers of any count of bits, the highest first."""

    def __init__(self, data: bytes, what: str):
        self.data, self.position, self.what = data, 0, what

    def number(self, bits: int) -> int:
        """Return the next number; raise UserError at the end of the data."""
        start, end = self.position, self.position + bits
        if end > 8 * len(self.data):
            raise UserError(f'{self.what} ends too early', 'broken annotation')
        self.position = end
        last = (end + 7) // 8
        value = int.from_bytes(self.data[start // 8 : last], 'big')
        return (value >> (8 * last - end)) & ((1 << bits) - 1)

    def numbers(self, count: int, bits: int) -> np.ndarray:
        """Return several numbers, (count,) int64."""
        start, end = self.position, self.position + count * bits
        if end > 8 * len(self.data):
            raise UserError(f'{self.what} ends too early', 'broken annotation')
        self.position = end
        data = np.frombuffer(self.data[start // 8 : (end + 7) // 8], dtype=np.uint8)
        single = np.unpackbits(data)[start % 8 :][: count * bits].reshape(count, bits)
        return single @ (1 << np.arange(bits - 1, -1, -1))


def decode_brush(rle: object, size: tuple[int, int], what: str) -> Runs:
    """Return the pixels of a brush mask: alpha over half, or over 0 if none is over half.

    rle: list of bytes. size: (width, height) of the picture.
    """
    try:
        data = bytes(fields.listed(rle, what))
    except (TypeError, ValueError):
        raise fields.fault(what, rle, 'a list of bytes') from None
    values = decode_values(data, 4 * size[0] * size[1], what)
    alpha = values[3::4].reshape(size[::-1])
    # Edges are smoothed; what programs import may have another value than 255 inside.
    return runs_of(alpha > (127 if alpha.max() > 127 else 0))


def decode_values(data: bytes, total: int, what: str) -> np.ndarray:
    """Return the values of a stream, (total,) uint8; raise UserError for another count.

    The stream has the count of values (32 bits), bits of a value less one (5), and four lengths of
    bits less one (4 each). Then follow blocks: a bit that says whether one value is repeated, which
    of the four lengths (2 bits), the count of values less one in so many bits, and the values.
    """
    stream = BitStream(data, what)
    count = stream.number(32)
    if count != total:
        raise fields.fault(f'{what}: count of values', count, f'{total}, 4 a pixel')
    bits = stream.number(5) + 1
    lengths = [stream.number(4) + 1 for _ in range(4)]
    values, at = np.zeros(total, dtype=np.uint8), 0
    while at < total:
        repeated = stream.number(1)
        end = at + 1 + stream.number(lengths[stream.number(2)])
        if end > total:
            raise fields.fault(f'{what}: count of values', end, f'at most {total}')
        if repeated:
            values[at:end] = min(stream.number(bits), 255)
        else:
            values[at:end] = np.minimum(stream.numbers(end - at, bits), 255)
        at = end
    return values
