"""NIfTI volumes (.nii, .nii.gz) as axial slices, read by the package nibabel.

Whatever the order and direction of a file's axes, slices go from the feet to the head, their rows
from the back to the front and their columns from left to right (RAS axes). A file that does not
tell its orientation is taken as it is. Axis letters: D slices, H and W pixels, C channels.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.runtime.cgroups import check_size
from utils.runtime.errors import UserError

from .kept import Kept
from .pages import Page, Source, file_of, kind_of

SUFFIX = '.nii'
MOST_CHANNELS = 8  # of a fourth axis; longer ones are frames
SHIFT = 0.1  # voxels by which the corners of two volumes that fit may differ


class VolumeHeader(NamedTuple):
    """What a file says of its slices."""

    shape: tuple[int, ...]  # (D, H, W), or (D, H, W, C)
    stored: tuple[int, ...]  # (X, Y, Z) or (X, Y, Z, C) in the file
    turns: np.ndarray  # (3, 2), nibabel's orientation of the stored axes
    affine: np.ndarray | None  # (4, 4), from indices (x, y, z) of slices to mm; None if unknown


class Volume(NamedTuple):
    """The stored values of a file, as slices, and what makes them true values."""

    slices: np.ndarray  # (D, H, W) or (D, H, W, C), a view of what is stored
    slope: float
    intercept: float


def is_volume(path: Path) -> bool:
    """Return whether the name is that of a volume."""
    return kind_of(path) == SUFFIX


def read_volume_header(path: Path) -> VolumeHeader:
    """Return the header of a volume; raise UserError for a file that is none."""
    return _headers.get(path, lambda path: _header(path, _load(path)))


def read_slice(source: Source) -> np.ndarray:
    """Return a slice (H, W) or (H, W, C): integers as stored, or floats if they are scaled.

    A compressed file is decompressed once, as long as it is among those that were used last.
    Raises UserError, naming the file, for a broken one, and for a Path of several slices.
    """
    volume = _volumes.get(file_of(source), _read)
    count, index = len(volume.slices), source.index if isinstance(source, Page) else 0
    if not isinstance(source, Page) and count > 1:
        raise UserError(f'{source} is a volume of {count} slices; expected one picture')
    if index >= count:
        raise UserError(f'{source}: the file has {count} slices, counted from 0')
    stored = np.array(volume.slices[index])
    if (volume.slope, volume.intercept) != (1, 0):
        return (stored * np.float64(volume.slope) + volume.intercept).astype(np.float32)
    return _usual_type(stored)


def as_stored(slices: np.ndarray, path: Path) -> np.ndarray:
    """Return slices (D, H, W) in the axes of the file at `path`, (X, Y, Z)."""
    import nibabel

    turns = read_volume_header(path).turns
    back = nibabel.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], turns)
    return nibabel.orientations.apply_orientation(slices.transpose(2, 1, 0), back)


def apart(one: VolumeHeader, other: VolumeHeader) -> bool:
    """Return whether two volumes of one shape lie at different places, as their headers say."""
    if one.affine is None or other.affine is None:
        return False
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    corners[:, :3] *= np.array(one.shape[2::-1]) - 1
    moved = (corners @ one.affine.T - corners @ other.affine.T)[:, :3]
    voxel = np.linalg.norm(one.affine[:3, :3], axis=0).min()
    return bool(np.abs(moved).max() > SHIFT * voxel)


def check_package(path: Path) -> None:
    """Raise UserError, naming the file, if nibabel is not installed."""
    try:
        import nibabel  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'{path}: NIfTI volumes are read by the package nibabel, which is not installed: '
            'pip install -r requirements-volumes.txt'
        ) from error


def _load(path: Path) -> Any:
    """Return nibabel's image, its values not read yet."""
    check_package(path)
    import nibabel

    logging.getLogger('nibabel.global').setLevel(logging.CRITICAL)  # of headers that it corrects
    try:
        image: Any = nibabel.load(path)  # values are mapped into memory where not compressed
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise OSError(f'not a NIfTI file: {error}') from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise OSError(f'not a NIfTI volume but {type(image).__name__}')
    return image


def _header(path: Path, image: Any) -> VolumeHeader:
    import nibabel

    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 5 and shape[3] == 1:  # a vector of each voxel
        shape = (*shape[:3], shape[4])
    shape += (1,) * (3 - len(shape))
    if len(shape) > 4 or 0 in shape or (len(shape) == 4 and shape[3] > MOST_CHANNELS):
        raise UserError(
            f'{path} holds an array of shape {shape}; expected (X, Y, Z), or (X, Y, Z, C) of at '
            f'most {MOST_CHANNELS} channels. Save each frame as a file.'
        )
    known = int(image.header['sform_code']) > 0 or int(image.header['qform_code']) > 0
    affine = np.asarray(image.affine, dtype=np.float64)
    turns = nibabel.io_orientation(affine if known else np.eye(4))
    if not np.isfinite(affine).all() or np.isnan(turns).any():
        raise UserError(f'{path}: its affine has axes of length 0; expected three directions')
    slices = [0, 0, 0]
    for axis in range(3):
        slices[2 - int(turns[axis, 0])] = shape[axis]
    upright = affine @ nibabel.orientations.inv_ornt_aff(turns, shape[:3]) if known else None
    return VolumeHeader((*slices, *shape[3:]), shape, turns, upright)


def _read(path: Path) -> Volume:
    import nibabel

    image = _load(path)
    header = _header(path, image)
    check_size(int(np.prod(header.stored)) * image.get_data_dtype().itemsize, path)
    stored = np.asanyarray(image.dataobj.get_unscaled()).reshape(header.stored)
    upright = nibabel.orientations.apply_orientation(stored, header.turns)
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    return Volume(upright.swapaxes(0, 2), slope, intercept)


def _usual_type(values: np.ndarray) -> np.ndarray:
    """Return values in a type that pictures have, see arrays.TYPES."""
    if values.dtype.names:  # colours, as fields
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == 'i' and size == 1:
        return values.astype(np.int16)
    if kind in 'iu' and size == 8:
        narrow = np.int32 if kind == 'i' or values.max() < 2**31 else np.uint32
        fits = np.iinfo(narrow).min <= values.min() and values.max() <= np.iinfo(narrow).max
        return values.astype(narrow if fits else np.float64)
    return values.astype(values.dtype.newbyteorder('='), copy=False)


def _taken(volume: Volume) -> int:
    """Return the bytes that a volume takes; mapped ones take none of their own."""
    base: Any = volume.slices
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return 2**20
        base = base.base
    return volume.slices.nbytes


_headers: Kept[VolumeHeader] = Kept(lambda header: 1000, limit=2**24)
_volumes: Kept[Volume] = Kept(_taken)
