"""Label Studio: the JSON of a project, with its brush masks in it or beside it as PNG files.

See https://labelstud.io/guide/export. The form JSON-MIN is not read.
"""

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

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
from utils.masks.joined import foreground
from utils.runtime.errors import UserError

from .brush import decode_brush
from .labelme import base64_bytes

# Names of the export as PNG or NumPy files: task, annotation, user, control tag, label, number.
EXPORTED = re.compile(
    r'task-(?P<task>\d+)-annotation-(?P<annotation>\d+)-by-(?:\d+|.*?\.[A-Za-z]+|[^-]*)-'
    r'[^-]+-(?P<label>.+)-\d+\.(?:png|npy)'
)
PREFIX = re.compile(r'[0-9a-f]{8}-(?=.)')  # of uploaded files
WITHOUT_AREA = ('keypointlabels', 'keypoint', 'vectorlabels', 'vector')
Exports = dict[tuple[int, int], list[tuple[str, Path]]]  # files of (task, annotation), by label


def read_label_studio(source: Path) -> AnnotationSet:
    """Read a project's JSON, or those of a folder, with the exported masks in folders beside it.

    Of a task's annotations the last counts that is not cancelled. Predictions and drafts do not.
    Classes are numbered in the order of labels.txt in the folder, or else by name.
    """
    folder = source if source.is_dir() else source.parent
    exports = _exported(folder)
    found = AnnotationSet(labels=listed_labels(folder) or None)
    tasks = 0
    for path in [source] if source.is_file() else sorted(folder.glob('*.json')):
        document = fields.read_json(path)
        if not _is_project(document):
            if path == source:
                raise UserError(f"{path}: expected Label Studio's export as JSON, a list of tasks")
            continue
        for k, task in enumerate(fields.listed(document, str(path)), 1):
            tasks += 1
            with found.attempt():
                _add_task(found, path, task, exports, f'{path}: task {k}')
    if not tasks:
        raise UserError(f"{source} holds no JSON of Label Studio; expected its export as 'JSON'")
    return found


def _is_project(document: object) -> bool:
    first = document[0] if isinstance(document, list) and document else None
    return isinstance(first, dict) and 'data' in first


def _exported(folder: Path) -> Exports:
    """Return the mask files of an export, in the folder and folders in it."""
    found: Exports = {}
    for path in sorted(folder.rglob('task-*-annotation-*')):
        if match := EXPORTED.fullmatch(path.name):
            key = int(match['task']), int(match['annotation'])
            found.setdefault(key, []).append((match['label'], path))
    return found


def _add_task(found: AnnotationSet, path: Path, entry: object, exports: Exports, what: str) -> None:
    task = fields.mapping(entry, what)
    annotations = [
        fields.mapping(annotation, f'{what}: annotation')
        for annotation in fields.listed(
            task.get('annotations', task.get('completions', [])), f'{what}: annotations'
        )
    ]
    done = [annotation for annotation in annotations if not annotation.get('was_cancelled')]
    if not done:
        found.count('tasks without an annotation get no mask', what)
        return
    if len(done) > 1:
        found.count('tasks with several annotations, of which the last counts', what)
    picture = AnnotatedPicture(path, _names(task, what), None)
    result = done[-1].get('result')
    numbers = task.get('id'), done[-1].get('id')
    files = next((entry for key, entry in exports.items() if key == numbers), [])
    if result:
        for k, region in enumerate(fields.listed(result, f'{what}: result'), 1):
            _add_region(found, picture, fields.mapping(region, what), f'{what}: region {k}')
    elif files:
        for label, file in files:
            picture.shapes.append(Shape(label, _file_runs(picture, file)))
    elif result is None and not exports:
        raise UserError(
            f"{what} has neither a result nor exported masks; expected Label Studio's export as "
            "'JSON', or its PNG files in a folder beside the JSON",
            'tasks without their labels',
        )
    found.pictures.append(picture)


def _names(task: dict, what: str) -> tuple[str, ...]:
    """Return the names that a task's picture may have: as uploaded, and without the prefix."""
    data = fields.mapping(task.get('data'), f'{what}: data')
    texts = [value for value in data.values() if isinstance(value, str)]
    links = [value for value in (data.get('image'), *texts) if isinstance(value, str)]
    upload = task.get('file_upload')
    if not links and not isinstance(upload, str):
        raise fields.fault(f'{what}: data', data, 'the path of a picture: {"image": …}')
    names = [upload] if isinstance(upload, str) else []
    names += [_local(link) for link in links[:1]]
    short = [PREFIX.sub('', name.rpartition('/')[2], count=1) for name in names]
    return tuple(dict.fromkeys(fields.text(name, what) for name in [*names, *short]))


def _local(link: str) -> str:
    """Return the path in a link: /data/upload/3/a.jpg, s3://…, /data/local-files/?d=a.jpg."""
    parts = urlsplit(link) if '?' in link or '://' in link else None
    if parts is None:
        return unquote(link)
    folders = parse_qs(parts.query).get('d')
    return unquote(folders[0] if folders else parts.path)


def _add_region(found: AnnotationSet, picture: AnnotatedPicture, region: dict, what: str) -> None:
    """Add a region's shape, if it has a label and an area."""
    value, kind = region.get('value'), region.get('type')
    if not isinstance(value, dict) or kind in ('choices', 'textarea', 'rating', 'relation'):
        return  # of the whole picture, or of two regions
    labels = next(
        (value[key] for key in (kind, 'labels', *value)
         if isinstance(key, str) and key.endswith('labels') and key in value), None,
    )  # fmt: skip
    if not labels:  # with the tags Polygon and Labels, another entry of the region has the label
        found.count('entries without a label are left out', what)
        return
    names = [fields.text(label, f'{what}: label') for label in fields.listed(labels, what)]
    if len(names) > 1:
        found.count('regions with several labels, of which the first counts', what)
    if kind in WITHOUT_AREA:
        found.count(NO_AREA, what)
        return
    size = fields.picture_size(region.get('original_width'), region.get('original_height'), what)
    if picture.size not in (None, size):
        raise fields.fault(f'{what}: original size', size, f'{picture.size}, as of other regions')
    picture.size = size
    if region.get('image_rotation'):
        found.count('regions drawn on a turned picture, whose masks should be looked at', what)
    area = _area(found, value, size, what)
    if area:
        picture.shapes.append(Shape(names[0], area))


def _area(
    found: AnnotationSet, value: dict, size: tuple[int, int], what: str
) -> Outlines | Runs | None:
    """Return the area of a region, whose coordinates are percent of the size."""
    if 'rle' in value:
        return decode_brush(value['rle'], size, f'{what}: rle')
    if isinstance(value.get('imageDataURL'), str):
        return _bitmap(value['imageDataURL'], size, what)
    if 'points' in value:
        ring = fields.points(fields.listed(value['points'], f'{what}: points'), what)
        if len(ring) > 2:
            return Outlines((ring * np.array(size) / 100,))
        found.count(FEW_POINTS, what)
        return None
    keys = next((k for k in (RECTANGLE, ELLIPSE) if set(k) <= set(value)), None)
    if keys is None:
        raise fields.fault(what, sorted(value), 'points, rle, x y width height, or an ellipse')
    percent = [fields.number(value[key], f'{what}: {key}') for key in keys]
    x, y, a, b = np.array(percent) * np.array([*size, *size]) / 100
    turned = fields.number(value.get('rotation') or 0, f'{what}: rotation')
    if keys == ELLIPSE:
        return ellipse((x, y), (a, b), turned)
    return rectangle((x, y), (x + a, y + b), turned, pivot=(x, y))


RECTANGLE = ('x', 'y', 'width', 'height')
ELLIPSE = ('x', 'y', 'radiusX', 'radiusY')


def _bitmap(link: str, size: tuple[int, int], what: str) -> Runs:
    """Return the pixels of a data: link to a PNG."""
    pixels = bitmap_pixels(base64_bytes(link.rpartition(',')[2], what), what)
    if pixels.shape != size[::-1]:
        raise fields.fault(f'{what}: size', pixels.shape[::-1], f'{size}, that of the picture')
    return runs_of(pixels)


def _file_runs(picture: AnnotatedPicture, path: Path) -> Runs:
    """Return the pixels of an exported mask, over half of 255."""
    runs = runs_of(foreground(path))
    if picture.size not in (None, runs.size):
        raise fields.fault(f'{path}: size', runs.size, f'{picture.size}, as of other masks')
    picture.size = runs.size
    return runs
