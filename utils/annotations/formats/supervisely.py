"""Supervisely projects: meta.json, and folders ann/ beside img/.

See https://docs.supervise.ly/data-organization/00_ann_format_navi, and for coordinates
https://developer.supervisely.com/app-development/advanced/coordinate-system.
"""

import zlib
from pathlib import Path

import numpy as np

from utils.annotations import fields
from utils.annotations.drawing import bitmap_pixels, rectangle, runs_of
from utils.annotations.records import (
    FEW_POINTS,
    NO_AREA,
    AnnotatedPicture,
    AnnotationSet,
    Outlines,
    Runs,
    Shape,
)
from utils.runtime.errors import UserError

from .labelme import base64_bytes

EXPECTED = 'expected a Supervisely project: meta.json, ann/NAME.jpg.json and img/NAME.jpg'
ABOVE = 3  # folders above the source in which meta.json may be
WITHOUT_AREA = ('point', 'line', 'polyline', 'graph', 'cuboid', 'point_3d')
LARGEST = 1 << 28  # bytes of an inflated PNG


def read_supervisely(source: Path) -> AnnotationSet:
    """Read a project, or its part in the folder that is named.

    Classes are numbered in the order of meta.json; those of lines and points are none.
    """
    folder = source if source.is_dir() else source.parent
    roots = [folder, *folder.resolve().parents[:ABOVE]]
    root = next((place for place in roots if (place / 'meta.json').is_file()), None)
    if root is None:
        raise UserError(f'{source} holds no meta.json; {EXPECTED}')
    shapes = _classes(root / 'meta.json')
    labels = [name for name, shape in shapes.items() if shape not in WITHOUT_AREA]
    found = AnnotationSet(labels=labels, home=root)
    one = source.is_file() and source.name != 'meta.json'
    for path in [source] if one else fields.files_in(folder, '*.json'):
        if one or path.resolve().parent.name == 'ann':
            with found.attempt():
                found.pictures.append(_picture(found, path, root, shapes))
    if not found.pictures and not found.problems:
        raise UserError(f'{source} holds no folder ann with annotations; {EXPECTED}')
    return found


def _classes(path: Path) -> dict[str, object]:
    """Return the kind of shape of each class."""
    document = fields.mapping(fields.read_json(path), str(path))
    shapes: dict[str, object] = {}
    for k, entry in enumerate(fields.listed(document.get('classes'), f'{path}: classes'), 1):
        what = f'{path}: class {k}'
        name = fields.text(fields.mapping(entry, what).get('title'), f'{what}: title')
        shapes[name] = entry.get('shape')
    return shapes


def _picture(
    found: AnnotationSet, path: Path, root: Path, classes: dict[str, object]
) -> AnnotatedPicture:
    document = fields.mapping(fields.read_json(path), str(path))
    entry = fields.mapping(document.get('size'), f'{path}: size')
    size = fields.picture_size(entry.get('width'), entry.get('height'), str(path))
    folders = path.resolve().parent.parent.relative_to(root.resolve())
    picture = AnnotatedPicture(path, ((folders / 'img' / path.stem).as_posix(),), size)
    for k, value in enumerate(fields.listed(document.get('objects'), f'{path}: objects'), 1):
        what = f'{path}: object {k}'
        with found.attempt():
            figure = fields.mapping(value, what)
            label = fields.text(figure.get('classTitle'), f'{what}: classTitle')
            if label not in classes:
                raise fields.fault(f'{what}: classTitle', label, 'a class of meta.json')
            kind = figure.get('geometryType') or classes[label]  # old files have no geometryType
            area = _area(found, figure, kind, what)
            if area:
                picture.shapes.append(Shape(label, area))
    return picture


def _area(found: AnnotationSet, figure: dict, kind: object, what: str) -> Outlines | Runs | None:
    """Return the area of an object; None, counted, if it has none."""
    if kind in WITHOUT_AREA:
        found.count(NO_AREA, what)
        return None
    if kind == 'bitmap':
        return _bitmap(fields.mapping(figure.get('bitmap'), f'{what}: bitmap'), f'{what}: bitmap')
    if kind not in ('polygon', 'rectangle'):
        raise fields.fault(f'{what}: geometryType', kind, 'polygon, rectangle or bitmap')
    points = fields.mapping(figure.get('points'), f'{what}: points')
    exterior = _ring(points.get('exterior'), f'{what}: exterior')
    if kind == 'rectangle':
        if len(exterior) != 2:
            raise fields.fault(f'{what}: exterior', len(exterior), 'two corners of a rectangle')
        low, high = exterior.tolist()
        return rectangle((low[0], low[1]), (high[0], high[1]))
    interior = fields.listed(points.get('interior') or [], f'{what}: interior')
    holes = [_ring(hole, f'{what}: interior') for hole in interior]
    if len(exterior) > 2:
        return Outlines((with_holes(exterior, holes),))
    found.count(FEW_POINTS, what)
    return None


def _ring(value: object, what: str) -> np.ndarray:
    return fields.points(fields.listed(value, what), what).reshape(-1, 2)


def with_holes(ring: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """Return one outline (N, 2) that goes around a polygon and each hole.

    The ways to a hole and back are the same line, which has no area.
    """
    parts = [ring, ring[:1]]
    for hole in holes:
        parts += [hole, hole[:1], ring[:1]]
    return np.concatenate(parts)


def _bitmap(bitmap: dict, what: str) -> Runs:
    """Return the pixels of a PNG, deflated, in base64, whose upper left pixel is at `origin`."""
    origin = fields.listed(bitmap.get('origin'), f'{what}: origin')
    if len(origin) != 2:
        raise fields.fault(f'{what}: origin', origin, '[x, y]')
    left, top = (int(fields.number(value, f'{what}: origin')) for value in origin)
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(base64_bytes(bitmap.get('data'), f'{what}: data'), LARGEST)
    except zlib.error as error:
        raise fields.fault(f'{what}: data', str(error), 'a deflated PNG in base64') from None
    return runs_of(bitmap_pixels(data, what, by_alpha=True), (left, top))
