"""Picture files that Pillow decodes only in part: 16-bit colours, TIFFs of other bands or types.

Of 16 bits a channel Pillow keeps the high byte of colours, and of more than three bands the first
three. Its decoders read them completely where they are told another form of pixels: 16-bit colours
as high bytes and again as low bytes, four bands as RGBA. That takes twice the time for 16 bits, but
no other package, whatever the compression (dev/LOG.md). All other bands and types are read by the
package tifffile, and by imagecodecs where a compression needs that.

Axis letters: H and W pixels, C channels.
"""

import io
import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from utils.runtime.errors import UserError

from . import tiff
from .pages import Source, file_of, is_compressed
from .tiff import ORIENTATION, TiffPage, open_binary

PNG_START, PNG_MODES = b'\x89PNG\r\n\x1a\n', {2: 'RGB', 4: 'LA', 6: 'RGBA'}  # by colour type

# Values of TIFF tags.
RGB, INKS, KNOWN_COLOURS = 2, 5, (0, 1, 2, 5)  # of COLOURS; the first two are grey
PILLOW_MODES = {3: 'RGB', 4: 'RGBA'}  # by bands
COMPLETE = 'complete'  # mode of planes that Pillow decodes as they are
ALPHA = (1, 2, 999)  # of EXTRA; 0 is a band
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # of FORMATS
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

    source: Source
    size: tuple[int, int]  # (width, height), upright
    turn: int  # ORIENTATION
    dtype: str  # of its pixels
    bands: int  # without alpha
    alpha: int | None = None  # position of the alpha band in the file
    mode: str = ''  # in which Pillow decodes it; empty for tifffile
    inks: bool = False  # the bands are CMYK
    page: TiffPage | None = None  # of a TIFF

    @property
    def path(self) -> Path:
        """The file."""
        return file_of(self.source)

    @property
    def planes(self) -> int:
        """The number of planes of which its bands are put together."""
        return len(self.page.planes) if self.page else 1

    @property
    def channels(self) -> int:
        """The channels of its pixels, without alpha."""
        return self.bands - self.inks


def find(source: Source) -> DeepFile | None:
    """Return the header of such a file, None for any other; may raise whatever Pillow raises.

    It costs 11 µs, and 61 for a TIFF.
    """
    with open_binary(file_of(source)) as file:
        start = file.read(tiff.START_BYTES)
    if start.startswith(PNG_START) and start[24:25] == b'\x10' and start[25] in PNG_MODES:
        return _find_png(source, PNG_MODES[start[25]])
    return _find_tiff(source, tiff.page_at(source)) if start.startswith(tiff.STARTS) else None


def read(file: DeepFile, channels: int | None = None) -> np.ndarray:
    """Return the pixels (H, W, C) of a file, upright, in its own type and values.

    channels: of the network. Alpha is dropped, unless it is needed for so many channels; it is then
    the last. Of more bands than three, 3 channels are the first three. Raises UserError for a
    missing package, and what Pillow and tifffile raise for broken files.
    """
    pixels = _stored(file)
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


def _find_png(source: Source, mode: str) -> DeepFile | None:
    with open_binary(file_of(source)) as file, Image.open(file) as picture:
        if getattr(picture, 'is_animated', False):
            return None
        # Image's own method, because that of PNG decodes the whole picture.
        turn = Image.Image.getexif(picture).get(ORIENTATION, 1)
        alpha = None if mode == 'RGB' else len(mode) - 1
        bands = len(mode) - (alpha is not None)
        return DeepFile(source, _upright(picture.size, turn), turn, 'uint16', bands, alpha, mode)


def _find_tiff(source: Source, page: TiffPage) -> DeepFile | None:
    tags = page.tags
    bits, formats = set(tags.get(tiff.BITS, (1,))), set(tags.get(tiff.FORMATS, (UNSIGNED,)))
    depth, kind, colours = max(bits), max(formats), tags.get(tiff.COLOURS, (1,))[0]
    bands, extra = tags.get(tiff.BANDS, (1,))[0], tags.get(tiff.EXTRA, ())
    alphas = [bands - len(extra) + k for k, value in enumerate(extra) if value in ALPHA]
    usual = {0: 1, 1: 1, RGB: 3}.get(colours, bands)
    by_pillow = depth <= 8 and kind == UNSIGNED and bands - len(alphas) <= usual
    by_pillow = by_pillow or (bands == 1 and (kind, depth) in ONE_BAND)
    planes = len(page.planes)
    if by_pillow and planes == 1 and not page.raw:
        return None
    if colours not in KNOWN_COLOURS and not by_pillow:
        raise UserError(
            f'{source}: TIFF of {depth} bits in the colour space {colours} of its tag '
            f'{tiff.COLOURS}; expected grey, RGB or CMYK (0, 1, 2, 5). Save it as RGB.'
        )
    plain = bits in ({8}, {16}) and formats == {UNSIGNED} and tags.get(tiff.PLANES, (1,))[0] == 1
    mode = PILLOW_MODES.get(bands, '') if colours == RGB and plain else ''
    if by_pillow:
        mode = COMPLETE
    turn = tags.get(tiff.ORIENTATION, (1,))[0]
    width = max(8, 1 << (depth - 1).bit_length())  # of numpy's types
    if width > 64:
        raise ValueError(f'{depth} bits a channel')
    alpha = alphas[0] if alphas and planes == 1 else None
    return DeepFile(
        source, _upright(page.size, turn), turn, f'{KINDS[kind]}{width}',
        bands * planes - (alpha is not None), alpha, mode, colours == INKS and planes == 1, page,
    )  # fmt: skip


def _upright(size: tuple[int, int], turn: int) -> tuple[int, int]:
    return size if turn not in range(5, 9) else size[::-1]


def _stored(file: DeepFile) -> np.ndarray:
    """Return the stored bands (H, W, C) of all planes, upright."""
    page = file.page
    if page is None:
        return _by_pillow(file, None)
    if page.raw:
        bands = file.bands // file.planes
        return UPRIGHT.get(file.turn, np.asarray)(tiff.read_raw(file.path, page, file.dtype, bands))
    planes = []
    for k, place in enumerate(page.planes):
        by_pillow = partial(_by_pillow, file, place if k else page.place)
        planes.append(by_pillow() if file.mode else _by_tifffile(file, place))
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


@contextmanager
def opened_at(path: Path, place: int | None = None) -> Iterator[ImageFile.ImageFile]:
    """Open a file by Pillow for the block, at the TIFF directory at `place` if that is given."""
    if place is None and not is_compressed(path):
        with Image.open(path) as picture:  # by name, because Pillow maps some files into memory
            yield picture
        return
    file = open_binary(path) if place is None else tiff.open_at(path, place)
    with file, Image.open(file) as picture:
        yield picture


def _by_pillow(file: DeepFile, place: int | None) -> np.ndarray:
    """Return the stored pixels of a plane, all of them, upright."""
    if file.mode == COMPLETE:
        with opened_at(file.path, place) as picture:
            picture.load()
            array = np.asarray(picture.convert('L') if picture.mode == '1' else picture)
        return array.reshape(*array.shape[:2], -1)
    if file.dtype == 'uint8':
        return _decoded(file, place, file.mode, file.mode)
    if file.mode == 'LA':  # four bytes a pixel, as in RGBA of 8 bits
        four = np.ascontiguousarray(_decoded(file, place, 'RGBA', 'RGBA'))
        return four.view('>u2').astype(np.uint16)
    with opened_at(file.path, place) as picture:
        form: Any = picture.tile[0][3]
        stored = (form if isinstance(form, str) else form[0])[-1]
    if stored == 'N':  # what libtiff returns
        stored = 'L' if struct.pack('=H', 1)[0] else 'B'
    other = 'L' if stored == 'B' else 'B'
    forms = (f'{file.mode};16{order}' for order in (stored, other))
    high, low = (_decoded(file, place, file.mode, form) for form in forms)
    return high.astype(np.uint16) << 8 | low


def _decoded(file: DeepFile, place: int | None, mode: str, form: str) -> np.ndarray:
    """Return a picture (H, W, C) uint8 of Pillow's `mode`, its stored pixels taken for `form`."""
    with opened_at(file.path, place) as picture:
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


def _by_tifffile(file: DeepFile, place: int) -> np.ndarray:
    try:
        import tifffile  # late: only these files need it
    except ImportError as error:
        raise _package_error(file.path, 'tifffile') from error
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)  # of tags that it does not know
    with open_binary(file.path) as stream, tifffile.TiffFile(stream) as container:
        container.filehandle.seek(place)  # where it then reads a directory
        page: Any = tifffile.TiffPage(container, index=0)
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends) > stream.seek(0, io.SEEK_END):  # tifffile would fill up with zeros
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
