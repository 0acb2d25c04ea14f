"""Picture files that Pillow decodes only in part: 16-bit colours, TIFFs of other bands or types.

Of 16 bits a channel Pillow keeps the high byte of colours, and of more than three bands the first
three. Its decoders read them completely where they are told another form of pixels: 16-bit colours
as high bytes and again as low bytes, four bands as RGBA. That takes twice the time for 16 bits, but
no other package, whatever the compression (dev/LOG.md). All other bands and types are read by the
package tifffile, and by imagecodecs where a compression needs that.

Axis letters: H and W pixels, C channels.
"""

import logging
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from utils.runtime.errors import UserError

ORIENTATION = 274  # EXIF and TIFF tag; values from 5 on swap width and height
PNG_START, PNG_MODES = b'\x89PNG\r\n\x1a\n', {2: 'RGB', 4: 'LA', 6: 'RGBA'}  # by colour type
TIFF_STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')

# TIFF tags (https://www.awaresystems.be/imaging/tiff/tifftags.html) and values of theirs.
SUBFILE, WIDTH, HEIGHT, BITS, COLOURS, BANDS, PLANES = 254, 256, 257, 258, 262, 277, 284
EXTRA, FORMATS, NO_DATA = 338, 339, 42113
REDUCED_OR_MASK = 5  # bits of SUBFILE: pages that are no pictures of their own
RGB, INKS, KNOWN_COLOURS = 2, 5, (0, 1, 2, 5)  # of COLOURS; the first two are grey
PILLOW_MODES = {3: 'RGB', 4: 'RGBA'}  # by bands
ALPHA = (1, 2, 999)  # of EXTRA; 0 is a band
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # of FORMATS
BROKEN_TAGS = (LookupError, ValueError, TypeError, AttributeError, StopIteration, struct.error)
KINDS = {UNSIGNED: 'uint', SIGNED: 'int', FLOAT: 'float', 4: 'uint'}

# Types of one band, format and bits, that Pillow reads completely.
ONE_BAND = {(UNSIGNED, bits) for bits in (1, 2, 4, 8, 12, 16)} | {
    (SIGNED, 16), (SIGNED, 32), (FLOAT, 32),
}  # fmt: skip

# How a stored picture is turned to be upright, by ORIENTATION.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip


class DeepFile(NamedTuple):
    """The header of a file that `read` reads."""

    path: Path
    size: tuple[int, int]  # (width, height), upright
    turn: int  # ORIENTATION
    dtype: str  # of its pixels
    bands: int  # without alpha
    alpha: int | None = None  # position of the alpha band in the file
    mode: str = ''  # in which Pillow decodes it; empty for tifffile
    inks: bool = False  # the bands are CMYK

    @property
    def channels(self) -> int:
        """The channels of its pixels, without alpha."""
        return self.bands - self.inks


def find(path: Path) -> DeepFile | None:
    """Return the header of such a file, None for any other; may raise whatever Pillow raises.

    It costs 11 µs, and 61 for a TIFF.
    """
    with path.open('rb') as file:
        start = file.read(26)
        if start.startswith(PNG_START) and start[24:25] == b'\x10' and start[25] in PNG_MODES:
            return _find_png(path, PNG_MODES[start[25]])
        if start.startswith(TIFF_STARTS):
            return _find_tiff(path, list(_directories(file, start)))
    return None


def read(file: DeepFile, channels: int | None = None) -> np.ndarray:
    """Return the pixels (H, W, C) of a file, upright, in its own type and values.

    channels: of the network. Alpha is dropped, unless it is needed for so many channels; it is then
    the last. Of more bands than three, 3 channels are the first three. Raises UserError for a
    missing package, and what Pillow and tifffile raise for broken files.
    """
    pixels = _by_pillow(file) if file.mode else _by_tifffile(file)
    if file.alpha is not None:
        alpha = pixels[..., file.alpha : file.alpha + 1]
        pixels = np.delete(pixels, file.alpha, axis=2)
    if file.inks:
        white = np.iinfo(pixels.dtype).max
        light = white - pixels.astype(np.uint64)
        pixels = (light[..., :3] * light[..., 3:4] // white).astype(pixels.dtype)
    if file.alpha is not None and channels == file.channels + 1:
        pixels = np.concatenate([pixels, alpha], axis=2)
    return np.ascontiguousarray(pixels[..., :3] if channels == 3 else pixels)


def no_data_value(path: Path) -> float:
    """Return the value of pixels without data that GDAL records in a TIFF, NaN for none."""
    with path.open('rb') as file, suppress(*BROKEN_TAGS):
        start = file.read(26)
        if start.startswith(TIFF_STARTS):
            return float(next(_directories(file, start))[NO_DATA][0].strip(' \0'))
    return math.nan


def _find_png(path: Path, mode: str) -> DeepFile | None:
    with Image.open(path) as picture:
        if getattr(picture, 'is_animated', False):
            return None
        # Image's own method, because that of PNG decodes the whole picture.
        turn = Image.Image.getexif(picture).get(ORIENTATION, 1)
        alpha = None if mode == 'RGB' else len(mode) - 1
        bands = len(mode) - (alpha is not None)
        return DeepFile(path, _upright(picture.size, turn), turn, 'uint16', bands, alpha, mode)


def _directories(file: BinaryIO, start: bytes) -> Iterator[dict[int, tuple]]:
    """Yield the tags of each page of a TIFF; `start` are its first bytes."""
    header, seen = start[: 16 if start[2:4].strip(b'\0') == b'+' else 8], set()
    offset = ImageFileDirectory_v2(header).next
    while offset and offset not in seen:
        seen.add(offset)
        tags = ImageFileDirectory_v2(header)
        file.seek(offset)
        tags.load(file)
        found = {tag: tags[tag] for tag in tags}
        yield {tag: v if isinstance(v, tuple) else (v,) for tag, v in found.items()}
        offset = tags.next


def _find_tiff(path: Path, pages: list[dict[int, tuple]]) -> DeepFile | None:
    pictures = [tags for tags in pages if not tags.get(SUBFILE, (0,))[0] & REDUCED_OR_MASK]
    tags = (pictures or pages)[0]
    bits, formats = set(tags.get(BITS, (1,))), set(tags.get(FORMATS, (UNSIGNED,)))
    depth, kind, colours = max(bits), max(formats), tags.get(COLOURS, (1,))[0]
    bands, extra = tags.get(BANDS, (1,))[0], tags.get(EXTRA, ())
    alphas = [bands - len(extra) + k for k, value in enumerate(extra) if value in ALPHA]
    usual = {0: 1, 1: 1, RGB: 3}.get(colours, bands)
    if depth <= 8 and kind == UNSIGNED and bands - len(alphas) <= usual:
        return None
    if bands == 1 and (kind, depth) in ONE_BAND:
        return None
    if len(pictures) > 1:
        raise UserError(
            f'{path} holds {len(pictures)} pictures (TIFF pages or frames); expected one. Save '
            'each as a file, or all as the channels of one .npy (H, W, C).'
        )
    if colours not in KNOWN_COLOURS:
        raise UserError(
            f'{path}: TIFF of {depth} bits in the colour space {colours} of its tag {COLOURS}; '
            'expected grey, RGB or CMYK (0, 1, 2, 5). Save it as RGB.'
        )
    plain = bits in ({8}, {16}) and formats == {UNSIGNED} and tags.get(PLANES, (1,))[0] == 1
    mode = PILLOW_MODES.get(bands, '') if colours == RGB and plain and len(pages) == 1 else ''
    turn = tags.get(ORIENTATION, (1,))[0]
    width = next((n for n in (8, 16, 32, 64) if n >= depth), 0)
    if not width:
        raise ValueError(f'{depth} bits a channel')
    return DeepFile(
        path, _upright((tags[WIDTH][0], tags[HEIGHT][0]), turn), turn, f'{KINDS[kind]}{width}',
        bands - bool(alphas), alphas[0] if alphas else None, mode, colours == INKS,
    )  # fmt: skip


def _upright(size: tuple[int, int], turn: int) -> tuple[int, int]:
    return size if turn not in range(5, 9) else size[::-1]


def _by_pillow(file: DeepFile) -> np.ndarray:
    """Return the stored pixels, all of them, upright."""
    if file.dtype == 'uint8':
        return _decoded(file, file.mode, file.mode)
    if file.mode == 'LA':  # four bytes a pixel, as in RGBA of 8 bits
        return np.ascontiguousarray(_decoded(file, 'RGBA', 'RGBA')).view('>u2').astype(np.uint16)
    with Image.open(file.path) as picture:
        form: Any = picture.tile[0][3]
        stored = (form if isinstance(form, str) else form[0])[-1]
    if stored == 'N':  # what libtiff returns
        stored = 'L' if struct.pack('=H', 1)[0] else 'B'
    other = 'L' if stored == 'B' else 'B'
    high, low = (_decoded(file, file.mode, f'{file.mode};16{order}') for order in (stored, other))
    return high.astype(np.uint16) << 8 | low


def _decoded(file: DeepFile, mode: str, form: str) -> np.ndarray:
    """Return a picture (H, W, C) uint8 of Pillow's `mode`, its stored pixels taken for `form`."""
    with Image.open(file.path) as picture:
        picture._mode = mode  # type: ignore[attr-defined]  # as Pillow's handbook has plugins do
        # Pillow before 11 has tuples, later versions named ones.
        picture.tile = [_as_form(tile, form) for tile in picture.tile]
        picture.load()
        # Pillow turns a TIFF when it loads it, but no PNG.
        turn = picture.getexif().get(ORIENTATION, 1)
        return UPRIGHT.get(turn, np.asarray)(np.array(picture))


def _as_form(tile: Any, form: str) -> Any:
    """Return a part of a picture, as Pillow lists them, with its pixels taken for `form`."""
    arguments = form if isinstance(tile[3], str) else (form, *tile[3][1:])
    changed = (*tile[:3], arguments)
    return tile._make(changed) if hasattr(tile, '_make') else changed


def _by_tifffile(file: DeepFile) -> np.ndarray:
    try:
        import tifffile  # late: only these files need it
    except ImportError as error:
        raise _package_error(file.path, 'tifffile') from error
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)  # of tags that it does not know
    with tifffile.TiffFile(file.path) as tiff:
        pages: list[Any] = list(tiff.pages)
        page = next((p for p in pages if not p.subfiletype & REDUCED_OR_MASK), pages[0])
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends) > file.path.stat().st_size:  # tifffile would fill up with zeros
            raise OSError('image file is truncated')
        try:
            pixels = page.asarray(squeeze=False)
        except (ImportError, ValueError, KeyError) as error:
            if 'imagecodecs' not in str(error) and not isinstance(error, ImportError):
                raise
            raise _package_error(file.path, 'imagecodecs') from error
    planes, depth, height, width, samples = pixels.shape
    if depth != 1:
        raise ValueError(f'a volume of {depth} slices')
    pixels = pixels[:, 0].transpose(1, 2, 0, 3).reshape(height, width, planes * samples)
    return UPRIGHT.get(file.turn, np.asarray)(pixels)


def _package_error(path: Path, package: str) -> UserError:
    return UserError(
        f'{path}: its bands, type or compression are read by the package {package}, which is '
        f'not installed: pip install {package}'
    )
