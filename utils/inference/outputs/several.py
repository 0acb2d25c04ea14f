"""Write the masks of a stack or volume as one file: TIFF pages, slices of a NIfTI volume, array.

Axis letters: D pages or slices, H and W pixels, K classes.
"""

import gzip
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from utils.images.volumes import as_stored
from utils.runtime.files import whole_file

from .names import STACK_SUFFIXES, VOLUME_SUFFIXES, suffix_of

LARGEST_TIFF = 2**32 - 2**25  # bytes, of which 32 MiB are for headers; more is a BigTIFF
FAST = 1  # zlib's level: masks of 512 x 512 pixels become 2 kB in 1 ms


class PackedArray(NamedTuple):
    """A compressed array: pages wait in memory until the last one of their file is predicted."""

    content: bytes
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, array: np.ndarray) -> 'PackedArray':
        """Compress an array."""
        packed = zlib.compress(np.ascontiguousarray(array).data, FAST)
        return cls(packed, array.shape, array.dtype)

    def unpack(self) -> np.ndarray:
        """Return the array."""
        return np.frombuffer(zlib.decompress(self.content), self.dtype).reshape(self.shape)


def save_several(
    results: Iterator[Image.Image | np.ndarray], count: int, path: Path, source: Path
) -> None:
    """Write `count` pictures or arrays, one of each page of `source`, in the format of the name.

    source: the file of which a volume gets the place and the orientation.
    """
    suffix = suffix_of(path)
    with whole_file(path) as part:
        if suffix in STACK_SUFFIXES:
            _write_stack(map(_as_image, results), count, part)
        elif suffix in VOLUME_SUFFIXES:
            slices = np.stack([np.asarray(result) for result in results])
            _write_volume(slices, part, source, suffix == VOLUME_SUFFIXES[0])
        else:
            _write_array(map(np.asarray, results), count, part)


def _as_image(result: Image.Image | np.ndarray) -> Image.Image:
    return result if isinstance(result, Image.Image) else Image.fromarray(result)


def _write_stack(pictures: Iterator[Image.Image], count: int, part: Path) -> None:
    """Write pictures of one mode as the pages of a TIFF, compressed by deflate."""
    import tifffile  # late: only stacks need it, and Pillow would hold all pages in memory

    first = next(pictures)
    big = count * np.asarray(first).nbytes > LARGEST_TIFF
    with tifffile.TiffWriter(part, bigtiff=big) as writer:
        for picture in chain([first], pictures):
            options: dict[str, Any] = {'photometric': 'minisblack'}
            if picture.mode == 'P':
                colours = np.zeros((256, 3), dtype=np.uint16)
                palette = np.array(picture.getpalette(), dtype=np.uint16).reshape(-1, 3)
                colours[: len(palette)] = palette * 257
                options = {'photometric': 'palette', 'colormap': colours.T}
            elif picture.mode == 'RGB':
                options = {'photometric': 'rgb'}
            writer.write(
                np.asarray(picture), compression='zlib', compressionargs={'level': FAST},
                metadata=None, **options,
            )  # fmt: skip


def _write_array(arrays: Iterator[np.ndarray], count: int, part: Path) -> None:
    """Write arrays of one shape as one .npy array of them, without holding all in memory."""
    first = next(arrays)
    header = {
        'descr': np.lib.format.dtype_to_descr(first.dtype),
        'fortran_order': False,
        'shape': (count, *first.shape),
    }
    with part.open('wb') as file:
        np.lib.format.write_array_header_1_0(file, header)
        for array in chain([first], arrays):
            file.write(np.ascontiguousarray(array).data)


def _write_volume(slices: np.ndarray, part: Path, source: Path, compressed: bool) -> None:
    """Write slices (D, H, W) or (D, H, W, K) as a NIfTI volume in the place of `source`.

    Affine, units and the order and direction of axes are the source's; what its header says of its
    values is not taken over.
    """
    import nibabel

    image: Any = nibabel.load(source)
    bands = [slices] if slices.ndim == 3 else np.moveaxis(slices, -1, 0)
    stored = np.stack([as_stored(band, source) for band in bands], axis=-1)
    same_voxels = stored.size == np.prod(image.shape)
    shape = image.shape if same_voxels else stored.shape[: 3 if len(bands) == 1 else 4]
    header = image.header.copy()
    header.extensions.clear()
    header.set_data_dtype(stored.dtype)
    header.set_slope_inter(1, 0)
    header.set_intent('none')
    header['cal_min'] = header['cal_max'] = 0
    volume = type(image)(stored.reshape(shape), image.affine, header)
    with part.open('wb') as file:
        if compressed:  # no name and no time: the same masks are the same bytes
            with gzip.GzipFile('', 'wb', FAST, file, mtime=0) as packed:
                volume.to_stream(packed)
        else:
            volume.to_stream(file)
