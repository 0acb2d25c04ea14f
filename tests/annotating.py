"""Annotations of one scene in every format, and what scripts/masks_from.py makes of them.

The scene: a picture a.png of 12 x 8 pixels, in which a cat covers the rows 1 to 4 of the columns 1
to 5, and a dog, drawn later, the rows 3 to 6 of the columns 4 to 9.
"""

import base64
import csv
import io
import json
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'scripts'))

import masks_from

FORMATS = masks_from.FORMATS
WIDTH, HEIGHT = 12, 8
BOXES = {'cat': (1, 1, 6, 5), 'dog': (4, 3, 10, 7)}  # left, top, right, bottom
SCENE = np.zeros((HEIGHT, WIDTH), np.uint8)
SCENE[1:5, 1:6] = 1
SCENE[3:7, 4:10] = 2


def corners(name):
    left, top, right, bottom = BOXES[name]
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def picture(path, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def json_file(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding='utf-8')
    return path


def coco(*segmentations, categories=((1, 'cat'), (18, 'dog')), images=None, **image):
    """A document of one image, or of several; a segmentation is of a category's number."""
    images = images or [{'id': 7, 'file_name': 'a.png', 'width': WIDTH, 'height': HEIGHT} | image]
    annotations = [
        {'id': k, 'image_id': images[0]['id'], 'category_id': number, 'segmentation': value}
        for k, (number, value) in enumerate(segmentations, 1)
    ]
    named = [{'id': number, 'name': name} for number, name in categories]
    return {'images': images, 'annotations': annotations, 'categories': named}


def flat(points):
    return [float(value) for point in points for value in point]


def labelme(*shapes, **more):
    size = {'imagePath': 'a.png', 'imageData': None, 'imageWidth': WIDTH, 'imageHeight': HEIGHT}
    return {'version': '5.5.0', 'flags': {}, 'shapes': list(shapes)} | size | more


def shape(label, points, kind='polygon', **more):
    entry = {'label': label, 'points': points, 'shape_type': kind, 'group_id': None, 'flags': {}}
    return entry | more


def yolo_line(number, points):
    return ' '.join([str(number), *(f'{x / WIDTH:.6f} {y / HEIGHT:.6f}' for x, y in points)])


def cvat(*elements, name='a.png', labels=('cat', 'dog'), more=''):
    listed = ''.join(f'<label><name>{label}</name></label>' for label in labels)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f'<meta><task><labels>{listed}</labels></task></meta>'
        f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}">{"".join(elements)}'
        f'</image>{more}</annotations>'
    )


def cvat_polygon(label, points, z=0):
    text = ';'.join(f'{x:.2f},{y:.2f}' for x, y in points)
    return f'<polygon label="{label}" occluded="0" points="{text}" z_order="{z}"></polygon>'


def region(kind, value, label='cat', **more):
    size = {'original_width': WIDTH, 'original_height': HEIGHT, 'image_rotation': 0}
    return {'type': kind, 'value': value | {kind: [label]}, 'id': 'x', **size} | more


def percent(points):
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def task(*results, number=1, name='a.png', **annotation):
    annotation = {'id': 10 * number, 'result': list(results)} | annotation
    link = f'/data/upload/3/{name}'
    return {'id': number, 'data': {'image': link}, 'file_upload': name, 'annotations': [annotation]}


def encode_brush(mask, value=255):
    """A mask as Label Studio stores it: runs over 3 values as repeats, others one by one."""
    flat = np.repeat(mask.ravel().astype(np.uint8) * value, 4)
    bits = f'{flat.size:032b}{7:05b}' + ''.join(f'{n - 1:04b}' for n in (3, 4, 8, 16))
    ends = [*(np.flatnonzero(np.diff(flat)) + 1), flat.size]
    at = 0
    for end in ends:
        length = end - at
        field, width = next((k, n) for k, n in enumerate((3, 4, 8, 16)) if length <= 1 << n)
        one_by_one = length <= 4
        bits += f'{0 if one_by_one else 1}{field:02b}{length - 1:0{width}b}'
        bits += f'{flat[at]:08b}' * (length if one_by_one else 1)
        at = end
    bits += '0' * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def runs(mask, order='F'):
    """Runs 'start length …' of a mask, as Kaggle's notebooks write them: 'F' down the columns."""
    pixels = np.concatenate([[0], (mask != 0).flatten(order=order), [0]])
    starts = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts[1::2] -= starts[::2]
    return ' '.join(map(str, starts))


def csv_file(path, header, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([header.split(','), *rows])
    return path


def via_region(points, attributes):
    x, y = (list(values) for values in zip(*points, strict=True))
    polygon = {'name': 'polygon', 'all_points_x': x, 'all_points_y': y}
    return {'shape_attributes': polygon, 'region_attributes': attributes}


def via(*regions, name='a.png'):
    entry = {'filename': name, 'size': 99, 'regions': list(regions), 'file_attributes': {}}
    return {f'{name}99': entry}


def figure(title, kind='polygon', exterior=(), interior=(), **more):
    points = {'exterior': list(exterior), 'interior': list(interior)}
    return {'classTitle': title, 'geometryType': kind, 'points': points, 'tags': []} | more


def sly_bitmap(pixels):
    """A mask as Supervisely's SDK stores it: a palette PNG whose index 0 is transparent."""
    file = io.BytesIO()
    image = Image.fromarray(pixels.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(file, 'PNG', transparency=0)
    return base64.b64encode(zlib.compress(file.getvalue())).decode()


def supervisely(folder, *figures, classes=(('cat', 'polygon'), ('dog', 'polygon')), name='a.png'):
    """Write meta.json and the annotation of a picture; return the project's folder."""
    listed = [{'title': title, 'shape': shape, 'color': '#00FF00'} for title, shape in classes]
    json_file(folder / 'meta.json', {'classes': listed, 'tags': []})
    size = {'height': HEIGHT, 'width': WIDTH}
    document = {'description': '', 'tags': [], 'size': size, 'objects': list(figures)}
    json_file(folder / f'ds0/ann/{name}.json', document)
    return folder


def write_scene(folder, kind):
    """Write the scene's picture and annotations; return what to name as IN."""
    boxes = [(name, corners(name)) for name in BOXES]
    if kind == 'yolo':
        picture(folder / 'images/a.png')
        (folder / 'labels').mkdir()
        lines = [yolo_line(k, points) for k, (_, points) in enumerate(boxes)]
        (folder / 'labels/a.txt').write_text('\n'.join(lines) + '\n')
        (folder / 'data.yaml').write_text('names: [cat, dog]\n')
        return folder
    if kind == 'supervisely':
        picture(folder / 'ds0/img/a.png')
        return supervisely(folder, *(figure(name, exterior=points) for name, points in boxes))
    picture(folder / 'a.png')
    if kind == 'runs':
        masks = [box_mask((1, *box)) for box in BOXES.values()]
        rows = [('a.png', name, runs(mask)) for name, mask in zip(BOXES, masks, strict=True)]
        return csv_file(folder / 'train.csv', 'ImageId,ClassId,EncodedPixels', *rows)
    if kind == 'via':
        regions = [via_region(points, {'class': name}) for name, points in boxes]
        return json_file(folder / 'via_region_data.json', via(*regions))
    if kind == 'coco':
        polygons = [(number, [flat(p)]) for number, (_, p) in zip((1, 18), boxes, strict=True)]
        return json_file(folder / 'instances.json', coco(*polygons))
    if kind == 'labelme':
        json_file(folder / 'a.json', labelme(*(shape(name, points) for name, points in boxes)))
    if kind == 'label-studio':
        regions = [
            region('polygonlabels', {'points': percent(points)}, name) for name, points in boxes
        ]
        json_file(folder / 'project.json', [task(*regions)])
    if kind == 'cvat':
        (folder / 'annotations.xml').write_text(cvat(*(cvat_polygon(*box) for box in boxes)))
    return folder


def convert(kind, source, out, *more):
    """The exit code of scripts/masks_from.py."""
    return masks_from.main([kind, str(source), str(out), *more])


def mask(path):
    with Image.open(path) as picture:
        assert picture.mode == 'L'
        return np.asarray(picture)


def box_mask(*boxes, size=(WIDTH, HEIGHT)):
    """A mask of boxes (value, left, top, right, bottom), later ones over earlier ones."""
    result = np.zeros(size[::-1], np.uint8)
    for value, left, top, right, bottom in boxes:
        result[top:bottom, left:right] = value
    return result
