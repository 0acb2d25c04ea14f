"""COCO instances: one JSON of images, annotations and categories.

See https://cocodataset.org/#format-data. Run lengths are decoded here, compressed ones too:
pycocotools 2.0.11 writes beyond its memory for a broken text and aborts the process.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from utils.annotations import fields
from utils.annotations.records import (
    FEW_POINTS,
    AnnotatedPicture,
    AnnotationSet,
    Outlines,
    Runs,
    Shape,
)
from utils.runtime.errors import UserError, first_few

Entry = TypeVar('Entry')

EXPECTED = 'expected COCO instances, a JSON file with images, annotations and categories'
NO_OUTLINE = 'objects with a box but no outline are left out'


def read_coco(source: Path) -> AnnotationSet:
    """Read a COCO file, or all of a folder: those called instances…, if there are any.

    Classes are numbered in the order of their category ids.
    """
    paths = list(fields.files_in(source, '*.json'))
    instances = [path for path in paths if 'instances' in path.name]  # beside captions, key points
    documents = list(_documents(instances, source)) or list(_documents(paths, source))
    if not documents:
        raise UserError(f'{source} holds no COCO annotations; {EXPECTED}')
    found = AnnotationSet(labels=[], named_folders=True)
    for path, document in documents:
        _add_document(found, path, document)
    shapes = sum(len(picture.shapes) for picture in found.pictures)
    if not shapes and found.counts[NO_OUTLINE] and not found.problems:
        raise UserError(
            f'{documents[0][0]} has boxes only ({found.counts[NO_OUTLINE]} objects), and masks '
            'need outlines: annotations with a segmentation of polygons or run lengths'
        )
    return found


def _documents(paths: list[Path], source: Path) -> Iterator[tuple[Path, dict]]:
    """Yield the COCO files; raise UserError if the source is a file and is none."""
    for path in paths:
        document = fields.read_json(path)
        keys = document.keys() if isinstance(document, dict) else ()
        annotations = document.get('annotations') if isinstance(document, dict) else None
        if isinstance(annotations, dict):  # by their ids, as in files of LIVECell
            annotations = [*annotations.values()]
        first = annotations[0] if isinstance(annotations, list) and annotations else {}
        panoptic = isinstance(first, dict) and 'segments_info' in first
        if {'images', 'annotations', 'categories'} <= set(keys) and not panoptic:
            yield path, fields.mapping(document, str(path)) | {'annotations': annotations}
        elif path == source:
            what = 'panoptic COCO, whose PNG files are masks' if panoptic else 'something else'
            raise UserError(f'{path} is {what}; {EXPECTED}')


def _add_document(found: AnnotationSet, path: Path, document: dict) -> None:
    annotations = fields.listed(document['annotations'], f'{path}: annotations')
    labels = _labels(found, path, document)
    by_id: dict[object, AnnotatedPicture] = {}
    for k, image in enumerate(fields.listed(document['images'], f'{path}: images'), 1):
        with found.attempt():
            key, picture = _picture(path, image, f'{path}: image {k}')
            if key in by_id:
                raise fields.fault(f'{path}: image {k}: id', key, 'ids that differ')
            by_id[key] = picture
    used = set()
    for k, annotation in enumerate(annotations, 1):
        what = f'{path}: annotation {k}'
        with found.attempt():
            entry = fields.mapping(annotation, what)
            category = _known(labels, entry.get('category_id'), f'{what}: category_id')
            picture = _known(by_id, entry.get('image_id'), f'{what}: image_id')
            used.add(category)
            area = _area(found, entry.get('segmentation'), picture, what)
            if area:
                picture.shapes.append(Shape(category, area))
    found.pictures += by_id.values()
    listed = _without_group(found, path, document, used)
    found.labels = list(dict.fromkeys([*(found.labels or ()), *listed]))


def _labels(found: AnnotationSet, path: Path, document: dict) -> dict[int, str]:
    """Return the name of each category id."""
    labels: dict[int, str] = {}
    for k, entry in enumerate(fields.listed(document['categories'], f'{path}: categories'), 1):
        what = f'{path}: category {k}'
        category = fields.mapping(entry, what)
        key = fields.whole(category.get('id'), f'{what}: id')
        if key in labels:
            raise fields.fault(f'{what}: id', key, 'ids that differ')
        labels[key] = fields.text(category.get('name'), f'{what}: name')
        if list(labels.values()).count(labels[key]) > 1:
            found.count('categories of one name are one class', f'{labels[key]} in {path.name}')
    return labels


def _without_group(found: AnnotationSet, path: Path, document: dict, used: set[str]) -> list[str]:
    """Return the labels without that of Roboflow, which stands for all others and has no object."""
    entries = sorted(document['categories'], key=lambda entry: entry['id'])
    names = [fields.text(entry['name'], str(path)) for entry in entries]
    for name, entry in zip(names, entries, strict=True):
        others = [other for other in entries if other is not entry]
        group = bool(others) and all(other.get('supercategory') == name for other in others)
        if group and name not in used and name not in (found.labels or ()):
            found.count('categories that only group others are no class', f'{name} in {path.name}')
            return [other for other in names if other != name]
    return names


def _known(table: dict[Any, Entry], key: object, what: str) -> Entry:
    """Return the entry of an id."""
    try:
        return table[key]
    except (KeyError, TypeError):
        raise fields.fault(what, key, f'one of the ids: {first_few(table) or "none"}') from None


def _picture(path: Path, image: object, what: str) -> tuple[object, AnnotatedPicture]:
    """Return the id and the picture of an entry of `images`."""
    entry = fields.mapping(image, what)
    key = entry.get('id')
    if not isinstance(key, int | str):
        raise fields.fault(f'{what}: id', key, 'a number')
    name = fields.text(entry.get('file_name'), f'{what}: file_name')
    width, height = entry.get('width'), entry.get('height')
    known = width is not None and height is not None
    size = fields.picture_size(width, height, what) if known else None
    return key, AnnotatedPicture(path, (name,), size)


def _area(
    found: AnnotationSet, value: object, picture: AnnotatedPicture, what: str
) -> Outlines | Runs | None:
    """Return the area of a segmentation; None, counted, if it has none."""
    what += ': segmentation'
    if not value:
        found.count(NO_OUTLINE, what)
        return None
    if isinstance(value, dict):
        return _runs(value, picture, what)
    polygons = fields.listed(value, what)
    if not isinstance(polygons[0], list):  # of some tools: one polygon, not in a list
        polygons = [polygons]
    rings = [fields.points(polygon, what) for polygon in polygons]
    good = tuple(ring for ring in rings if len(ring) > 2)
    for _ in range(len(rings) - len(good)):
        found.count(FEW_POINTS, what)
    return Outlines(good) if good else None


def _runs(value: dict, picture: AnnotatedPicture, what: str) -> Runs:
    size = fields.listed(value.get('size'), f'{what}: size')
    if len(size) != 2:
        raise fields.fault(f'{what}: size', size, '[height, width]')
    width, height = fields.picture_size(size[1], size[0], what)
    if picture.size not in (None, (width, height)):
        raise fields.fault(
            f'{what}: size', f'{width} x {height}', f'{picture.size}, that of the picture'
        )
    counts = value.get('counts')
    if isinstance(counts, str):
        counts = decode_counts(counts, what)
    lengths = fields.run_lengths(counts, width * height, what)
    return Runs(lengths, (width, height), by_column=True)


def decode_counts(text: str, what: str) -> list[int]:
    """Return the run lengths of a compressed text.

    A number is written in pieces of five bits, the lowest first, as characters from '0'; a sixth
    bit says that more follow, and the highest of the last piece is the sign. From the fourth on,
    numbers are differences from the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 50:
            raise fields.fault(f'{what}: counts', text, 'compressed run lengths')
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise fields.fault(f'{what}: counts', text, 'compressed run lengths')
    return counts
