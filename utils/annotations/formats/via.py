"""VGG Image Annotator 1 and 2: JSON and CSV exports, and projects.

See https://www.robots.ox.ac.uk/~vgg/software/via/.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from utils.annotations import fields
from utils.annotations.drawing import ellipse, rectangle
from utils.annotations.records import (
    FEW_POINTS,
    NO_AREA,
    AnnotatedPicture,
    AnnotationSet,
    Outlines,
    Shape,
)
from utils.runtime.errors import UserError

EXPECTED = (
    'expected a JSON or CSV export of VGG Image Annotator 1 or 2 (via_region_data.json), or a '
    'project saved as JSON'
)
WITHOUT_AREA = ('point', 'polyline', 'line')
SHAPES = {
    'rect': ('x', 'y', 'width', 'height'),
    'circle': ('cx', 'cy', 'r'),
    'ellipse': ('cx', 'cy', 'rx', 'ry'),
}
CSV_COLUMNS = ('filename', 'region_shape_attributes', 'region_attributes')
ONLY_CLASS = 'object'  # where regions have no attributes
CHOICES = ('dropdown', 'radio')  # types of attributes of which a region has one value
USUAL = ('class', 'label', 'category', 'name', 'type')  # attributes that name a class


@dataclass
class _Region:
    """A region of a picture, before it is known which attribute is the class."""

    picture: AnnotatedPicture
    area: Outlines
    attributes: dict
    what: str


@dataclass
class _Reading:
    """What the files say; `declared` are the attributes of projects, by their names."""

    found: AnnotationSet
    regions: list[_Region] = field(default_factory=list)
    declared: dict[str, dict] = field(default_factory=dict)


def read_via(source: Path) -> AnnotationSet:
    """Read an export or project, or all of a folder; of CSV files only if there is no JSON.

    The class of a region is its attribute. Of several, those with a list of options (dropdown,
    radio) come first, then those called class, label, category, name or type, then the first.
    Classes are numbered in the order of the options, or else by name.
    """
    reading = _Reading(found := AnnotationSet())
    table = source.is_file() and source.suffix.lower() == '.csv'
    if not table:
        for path in fields.files_in(source, '*.json'):
            _read_json(reading, path, path == source)
    if table or (source.is_dir() and not found.pictures and not found.problems):
        for path in fields.files_in(source, '*.csv'):
            _read_csv(reading, path, path == source)
    if not found.pictures and not found.problems:
        raise UserError(f'{source} holds no annotations of VGG Image Annotator; {EXPECTED}')
    _add_shapes(reading)
    return found


def _read_json(reading: _Reading, path: Path, named: bool) -> None:
    """Add the pictures of a JSON file; raise UserError if it is another and the user named it."""
    document = fields.read_json(path)
    entries = document if isinstance(document, dict) else {}
    if {'project', 'metadata', 'view'} <= entries.keys():
        raise UserError(f'{path} is a project of VGG Image Annotator 3; {EXPECTED}')
    if '_via_img_metadata' in entries:
        declared = fields.mapping(entries.get('_via_attributes', {}), f'{path}: _via_attributes')
        attributes = fields.mapping(declared.get('region', {}), f'{path}: region attributes')
        reading.declared |= {
            name: fields.mapping(entry, f'{path}: {name}') for name, entry in attributes.items()
        }
        entries = fields.mapping(entries['_via_img_metadata'], f'{path}: _via_img_metadata')
    elif not any(isinstance(entry, dict) and 'regions' in entry for entry in entries.values()):
        if named:
            raise UserError(f'{path} is something else; {EXPECTED}')
        return
    for key, entry in entries.items():
        with reading.found.attempt():
            what = f'{path}: {key[:80]}'
            picture = fields.mapping(entry, what)
            name = fields.text(picture.get('filename'), f'{what}: filename')
            added = AnnotatedPicture(path, (name,), None)
            reading.found.pictures.append(added)
            for k, region in _numbered(picture.get('regions'), f'{what}: regions'):
                place = f'{what}: region {k}'
                parts = fields.mapping(region, place)
                shape, more = parts.get('shape_attributes'), parts.get('region_attributes', {})
                _add_region(reading, added, shape, more, place)


def _numbered(regions: object, what: str) -> Iterator[tuple[object, object]]:
    """Yield the regions, a list in version 2 and an object in version 1, with their numbers."""
    if isinstance(regions, dict):
        yield from regions.items()
    else:
        yield from enumerate(fields.listed(regions, what))


def _read_csv(reading: _Reading, path: Path, named: bool) -> None:
    """Add the pictures of a CSV file; raise UserError if it is another and the user named it."""
    pictures: dict[str, AnnotatedPicture] = {}
    rows = fields.read_csv(path)
    header = [name.strip().lstrip('#') for name in next(rows, (0, []))[1]]
    if not set(CSV_COLUMNS) <= set(header):
        if named:
            raise UserError(f'{path} has the columns {",".join(header)[:80]!a}; {EXPECTED}')
        return
    for line, row in rows:
        with reading.found.attempt():
            what = f'{path}: line {line}'
            fields.check_cells(row, len(header), what)
            name, shape, more = (row[header.index(column)] for column in CSV_COLUMNS)
            added = AnnotatedPicture(path, (fields.text(name, f'{what}: filename'),), None)
            added = pictures.setdefault(name, added)
            _add_region(reading, added, _cell(shape, what), _cell(more, what), what)
    reading.found.pictures += pictures.values()


def _cell(text: str, what: str) -> object:
    try:
        return json.loads(text or '{}')
    except (ValueError, RecursionError):
        raise fields.fault(what, text, 'an object of JSON in the cell') from None


def _add_region(
    reading: _Reading, picture: AnnotatedPicture, shape: object, more: object, what: str
) -> None:
    """Add a region if it has an area; a row of a CSV file without any is that of a picture."""
    attributes = fields.mapping(more, f'{what}: region_attributes')
    values = fields.mapping(shape, f'{what}: shape_attributes')
    area = _area(reading.found, values, what) if values else None
    if area:
        reading.regions.append(_Region(picture, area, attributes, what))


def _area(found: AnnotationSet, shape: dict, what: str) -> Outlines | None:
    """Return the area of a region; None, counted, if it has none."""
    kind = shape.get('name')
    if kind in WITHOUT_AREA:
        found.count(NO_AREA, what)
        return None
    if kind == 'polygon':
        x, y = (fields.listed(shape.get(f'all_points_{axis}'), what) for axis in 'xy')
        if len(x) != len(y):
            raise fields.fault(f'{what}: all_points_y', len(y), f'{len(x)} of them, as of x')
        if len(x) > 2:
            return Outlines((fields.points(list(zip(x, y, strict=True)), what),))
        found.count(FEW_POINTS, what)
        return None
    if not isinstance(kind, str) or kind not in SHAPES:
        raise fields.fault(f'{what}: name', kind, 'polygon, rect, circle or ellipse')
    numbers = [fields.number(shape.get(key), f'{what}: {key}') for key in SHAPES[kind]]
    left, top, a, b = numbers if len(numbers) == 4 else (*numbers, numbers[-1])
    if kind == 'rect':
        return rectangle((left, top), (left + a, top + b))
    turned = math.degrees(fields.number(shape.get('theta', 0), f'{what}: theta'))  # clockwise
    return ellipse((left, top), (abs(a), abs(b)), turned)


def _add_shapes(reading: _Reading) -> None:
    """Give the pictures their regions, with the class that an attribute names."""
    found, chosen = reading.found, _class_attribute(reading)
    options = reading.declared.get(chosen or '', {}).get('options')
    found.labels = [name for name in options if name] if isinstance(options, dict) else None
    for region in reading.regions:
        with found.attempt():
            values = [ONLY_CLASS] if chosen is None else _values(region.attributes.get(chosen))
            if not values:
                found.count(f'regions without the attribute {chosen} are left out', region.what)
                continue
            if len(values) > 1:
                found.count(f'regions of several {chosen}, of which the first counts', region.what)
            label = fields.text(values[0], f'{region.what}: {chosen}')
            region.picture.shapes.append(Shape(label, region.area))
            if sum(bool(_values(value)) for value in region.attributes.values()) > 1:
                what = f'regions of several attributes, of which {chosen} is the class'
                found.count(what, region.what)


def _class_attribute(reading: _Reading) -> str | None:
    """Return the name of the attribute that is the class; None if no region has one."""
    used = dict.fromkeys(
        name
        for region in reading.regions
        for name, value in region.attributes.items()
        if _values(value)
    )
    choices = [
        name for name, entry in reading.declared.items()
        if name in used and entry.get('type') in CHOICES
    ]  # fmt: skip
    names = choices or list(used)
    ranks = {name: USUAL.index(name.lower()) for name in names if name.lower() in USUAL}
    return min(ranks, key=lambda name: ranks[name]) if ranks else next(iter(names), None)


def _values(value: object) -> list[str]:
    """Return the values of an attribute: a text, a number, or the boxes that are ticked."""
    if isinstance(value, dict):
        return [str(name) for name, ticked in value.items() if ticked]
    return [str(value)] if value not in (None, '', []) else []
