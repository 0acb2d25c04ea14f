"""CVAT for images 1.1: one XML of pictures and shapes.

See https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/.
"""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from utils.annotations import fields
from utils.annotations.drawing import ellipse, rectangle
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

WITHOUT_AREA = ('polyline', 'points', 'skeleton', 'cuboid')


def read_cvat(source: Path) -> AnnotationSet:
    """Read an annotations.xml, or all XML files of CVAT in a folder.

    Classes are numbered in the order of the task's labels. Shapes of a higher z_order cover others.
    """
    found = AnnotationSet(named_folders=True)
    for path in fields.files_in(source, '*.xml'):
        root = _parse(path)
        if root.tag == 'annotations':
            _add_document(found, path, root)
        elif path == source:
            raise UserError(f"{path} begins with <{root.tag[:40]}>; expected CVAT's <annotations>")
    if not found.pictures and not found.problems:
        raise UserError(f'{source} holds no CVAT annotations; expected annotations.xml with images')
    return found


def _parse(path: Path) -> ElementTree.Element:
    """Return the root of an XML file; documents that define entities are refused.

    Entities can expand to any size or name other files; CVAT writes none.
    """

    def refuse(*_: object) -> None:
        raise UserError(f'{path} has a DOCTYPE, which CVAT does not write; it is not read')

    try:
        data = path.read_bytes()
        scanner = expat.ParserCreate()
        scanner.StartDoctypeDeclHandler = refuse
        scanner.Parse(data, True)
        return ElementTree.fromstring(data)
    except (
        OSError,
        ValueError,
        LookupError,
        RecursionError,
        SyntaxError,
        expat.ExpatError,
    ) as error:
        raise UserError(f'{path} cannot be read as XML: {error}', 'unreadable') from error


def _add_document(found: AnnotationSet, path: Path, root: ElementTree.Element) -> None:
    if root.find('track') is not None:
        raise UserError(
            f"{path} holds the tracks of a video; expected the export 'CVAT for images 1.1'"
        )
    labels = [
        fields.text(label.findtext('name'), f'{path}: label')
        for label in root.iterfind('meta//labels/label')
        if label.find('parent') is None  # points of a skeleton
    ]
    found.labels = list(dict.fromkeys([*(found.labels or ()), *labels])) or None
    for k, image in enumerate(root.iterfind('image'), 1):
        with found.attempt():
            found.pictures.append(_picture(found, path, image, f'{path}: image {k}'))


def _picture(
    found: AnnotationSet, path: Path, image: ElementTree.Element, what: str
) -> AnnotatedPicture:
    name = fields.text(image.get('name'), f'{what}: name')
    size = None
    if image.get('width') is not None:
        size = fields.picture_size(image.get('width'), image.get('height'), what)
    picture, ordered = AnnotatedPicture(path, (name,), size), []
    for k, element in enumerate(image, 1):
        where = f'{what}: {element.tag} {k}'
        if element.tag == 'tag':  # of the whole picture
            continue
        if element.tag in WITHOUT_AREA:
            found.count(NO_AREA, where)
            continue
        label = fields.text(element.get('label'), f'{where}: label')
        area = _area(found, element, where)
        if area:
            order = fields.number(element.get('z_order', 0), f'{where}: z_order')
            ordered.append((order, Shape(label, area)))
    picture.shapes = [shape for _, shape in sorted(ordered, key=lambda entry: entry[0])]
    return picture


def _area(found: AnnotationSet, element: ElementTree.Element, what: str) -> Outlines | Runs | None:
    """Return the area of an element; None, counted, if it has none."""
    numbers = {
        name: fields.number(value, f'{what}: {name}')
        for name, value in element.attrib.items()
        if name in ('xtl', 'ytl', 'xbr', 'ybr', 'cx', 'cy', 'rx', 'ry', 'rotation')
    }
    turned = numbers.pop('rotation', 0.0)
    if element.tag == 'polygon':
        words = (element.get('points') or '').replace(';', ',').split(',')
        values = [fields.number(word, f'{what}: points') for word in words if word.strip()]
        ring = fields.points(values, f'{what}: points')
        if len(ring) > 2:
            return Outlines((ring,))
        found.count(FEW_POINTS, what)
        return None
    if element.tag == 'mask':
        return _mask(element, what)
    names = {'box': 'xtl ytl xbr ybr', 'ellipse': 'cx cy rx ry'}.get(element.tag)
    if names is None:
        raise fields.fault(what, element.tag, 'polygon, mask, box or ellipse')
    if missing := set(names.split()) - set(numbers):
        raise fields.fault(what, f'without {min(missing)}', names)
    a, b, c, d = (numbers[name] for name in names.split())
    if element.tag == 'box':
        return rectangle((a, b), (c, d), turned)
    return ellipse((a, b), (abs(c), abs(d)), turned)


def _mask(element: ElementTree.Element, what: str) -> Runs:
    """Return a mask: runs along the rows of a box, of which the first is outside."""
    width, height = fields.picture_size(element.get('width'), element.get('height'), what)
    left, top = (fields.number(element.get(name), f'{what}: {name}') for name in ('left', 'top'))
    words = [word for word in (element.get('rle') or '').split(',') if word.strip()]
    counts = np.array([fields.whole(word, f'{what}: rle') for word in words], dtype=np.int64)
    lengths = fields.run_lengths(counts, width * height, f'{what}: rle')
    return Runs(lengths, (width, height), (int(left), int(top)))
