"""LabelMe: one JSON a picture, with its shapes. See https://github.com/wkentaro/labelme."""

import base64
import binascii
import math
from pathlib import Path

import numpy as np

from utils.annotations import fields
from utils.annotations.drawing import bitmap_pixels, ellipse, rectangle, runs_of
from utils.annotations.records import (
    FEW_POINTS,
    NO_AREA,
    AnnotatedPicture,
    AnnotationSet,
    Outlines,
    Runs,
    Shape,
    listed_labels,
)
from utils.runtime.errors import UserError

WITHOUT_AREA = ('line', 'linestrip', 'point', 'points')
POLYGONS = ('polygon', 'rotation', 'oriented_rectangle', None, '')  # old files name no type


def read_labelme(source: Path) -> AnnotationSet:
    """Read the JSON files of a folder and of folders in it.

    Classes are numbered in the order of labels.txt in the folder, or else by name.
    """
    found = AnnotationSet()
    for path in fields.files_in(source, '*.json'):
        with found.attempt():
            document = fields.read_json(path)
            if not isinstance(document, dict) or 'shapes' not in document:
                found.count('JSON files without shapes are left out', path.name)
                continue
            found.pictures.append(_picture(found, path, source, document))
    if not found.pictures and not found.problems:
        raise UserError(
            f'{source} holds no LabelMe annotations; expected JSON files with shapes, one a picture'
        )
    found.labels = listed_labels(source if source.is_dir() else source.parent) or None
    return found


def _picture(found: AnnotationSet, path: Path, source: Path, document: dict) -> AnnotatedPicture:
    width, height = document.get('imageWidth'), document.get('imageHeight')
    data = document.get('imageData')
    size = None
    if width is not None and height is not None:
        size = fields.picture_size(width, height, str(path))
    elif data:
        rows, columns = _bitmap(data, f'{path}: imageData').shape
        size = columns, rows
    own = path.relative_to(source) if source.is_dir() else Path(path.name)
    names = [own.with_suffix('').as_posix()]
    if document.get('imagePath'):
        names.insert(0, fields.text(document['imagePath'], f'{path}: imagePath'))
    picture = AnnotatedPicture(path, tuple(names), size)
    for k, entry in enumerate(fields.listed(document['shapes'], f'{path}: shapes'), 1):
        what = f'{path}: shape {k}'
        shape = fields.mapping(entry, what)
        label = fields.text(shape.get('label'), f'{what}: label')
        area = _area(found, shape, what)
        if area:
            picture.shapes.append(Shape(label, area))
    return picture


def _area(found: AnnotationSet, shape: dict, what: str) -> Outlines | Runs | None:
    """Return the area of a shape; None, counted, if it has none."""
    kind = shape.get('shape_type')
    points = fields.points(fields.listed(shape.get('points'), f'{what}: points'), what)
    if kind in POLYGONS:
        if len(points) > 2:
            return Outlines((points,))
        found.count(FEW_POINTS, what)
        return None
    if kind in WITHOUT_AREA:
        found.count(NO_AREA, what)
        return None
    if kind not in ('rectangle', 'circle', 'mask'):
        raise fields.fault(f'{what}: shape_type', kind, 'polygon, rectangle, circle or mask')
    if kind == 'rectangle' and len(points) == 4:  # of versions that write all corners
        return Outlines((points,))
    if len(points) != 2:
        raise fields.fault(f'{what}: points', len(points), f'two points of a {kind}')
    (x0, y0), (x1, y1) = points.tolist()
    if kind == 'rectangle':
        return rectangle((x0, y0), (x1, y1))
    if kind == 'circle':  # its centre, and a point on it
        radius = math.hypot(x1 - x0, y1 - y0)
        return ellipse((x0, y0), (radius, radius))
    # The first corner is a pixel's index; LabelMe rounds it as it draws.
    corner = round(min(x0, x1)), round(min(y0, y1))
    return runs_of(_bitmap(shape.get('mask'), f'{what}: mask'), corner)


def _bitmap(value: object, what: str) -> np.ndarray:
    """Return the pixels (H, W) bool of a picture file in base64."""
    return bitmap_pixels(base64_bytes(value, what), what)


def base64_bytes(value: object, what: str) -> bytes:
    """Return the bytes of a text in base64."""
    try:
        return base64.b64decode(fields.text(value, what).encode())
    except (binascii.Error, ValueError) as error:
        raise fields.fault(what, value, 'a PNG in base64') from error
