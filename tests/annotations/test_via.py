"""VGG Image Annotator: every shape, exports and projects, which attribute is the class."""

import json

import numpy as np
import pytest
from annotating import (
    SCENE,
    box_mask,
    convert,
    corners,
    csv_file,
    json_file,
    mask,
    picture,
    via,
    via_region,
    write_scene,
)

from utils.annotations.recognize import annotation_command

CAT = corners('cat')
HEADER = (
    'filename,file_size,file_attributes,region_count,region_id,'
    'region_shape_attributes,region_attributes'
)


def shape(attributes, **values):
    return {'shape_attributes': values, 'region_attributes': attributes}


@pytest.fixture
def run(tmp_path, capsys):
    """Convert a document; return the mask of a.png, and what was printed."""

    def convert_document(document, code=0):
        picture(tmp_path / 'in/a.png')
        source = json_file(tmp_path / 'in/via_region_data.json', document)
        assert convert('via', source, tmp_path / 'out', '--overwrite') == code
        printed = capsys.readouterr()
        return mask(tmp_path / 'out/a.png') if code == 0 else None, printed.out + printed.err

    return convert_document


def project(regions, attributes):
    return {
        '_via_settings': {}, '_via_img_metadata': via(*regions),
        '_via_attributes': {'region': attributes, 'file': {}},
    }  # fmt: skip


def classes(tmp_path):
    return (tmp_path / 'out/classes.json').read_text().strip()


def test_regions_of_version_1_have_numbers_as_keys_and_no_class(run, tmp_path):
    document = via()
    document['a.png99'] |= {'fileref': '', 'base64_img_data': '', 'regions': {
        '0': via_region(CAT, {}), '1': via_region(corners('dog'), {}),
    }}  # fmt: skip
    found, _ = run(document)
    assert (found == (SCENE > 0)).all()
    assert classes(tmp_path) == '{"background": 0, "object": 1}'


def test_rectangles_circles_and_ellipses(run):
    found, _ = run(via(shape({}, name='rect', x=2, y=1, width=3, height=4)))
    assert (found == box_mask((1, 2, 1, 5, 5))).all()
    y, x = np.mgrid[:8, :12] + 0.5
    found, _ = run(via(shape({}, name='circle', cx=6, cy=4, r=3)))
    assert (found == ((x - 6) ** 2 + (y - 4) ** 2 < 9)).all()
    found, _ = run(via(shape({}, name='ellipse', cx=6, cy=4, rx=5, ry=2)))
    assert (found == (((x - 6) / 5) ** 2 + ((y - 4) / 2) ** 2 < 1)).all()


def test_the_angle_of_an_ellipse_is_in_radians_clockwise(run):
    upright, _ = run(via(shape({}, name='ellipse', cx=6, cy=4, rx=1.3, ry=3.3)))
    turned, _ = run(via(shape({}, name='ellipse', cx=6, cy=4, rx=3.3, ry=1.3, theta=np.pi / 2)))
    assert (upright == turned).all()
    leaning, _ = run(via(shape({}, name='ellipse', cx=6, cy=4, rx=4, ry=1, theta=np.pi / 4)))
    assert leaning[2, 4]  # from the upper left
    assert leaning[5, 7]  # to the lower right
    assert not leaning[5, 4]


def test_lines_and_points_have_no_area(run):
    line = {'name': 'polyline', 'all_points_x': [1, 9, 9], 'all_points_y': [1, 1, 7]}
    point = {'name': 'point', 'cx': 3, 'cy': 3}
    two = {'name': 'polygon', 'all_points_x': [1, 9], 'all_points_y': [1, 1]}
    others = [shape({}, **values) for values in (line, point, two)]
    found, text = run(via(via_region(CAT, {}), *others))
    assert (found == box_mask((1, 1, 1, 6, 5))).all()
    assert 'shapes without area (lines, points) are left out: 2 (' in text
    assert 'fewer than three points are left out: 1 (' in text


def test_the_options_of_a_project_are_the_classes_in_their_order(run, tmp_path):
    regions = [via_region(corners(name), {'id': 'x', 'kind': name}) for name in ('cat', 'dog')]
    listed = {'type': 'dropdown', 'options': {'horse': '', 'dog': '', 'cat': ''}}
    found, text = run(project(regions, {'id': {'type': 'text'}, 'kind': listed}))
    assert classes(tmp_path) == '{"background": 0, "horse": 1, "dog": 2, "cat": 3}'
    assert (found == np.array([0, 3, 2])[SCENE]).all()
    assert 'regions of several attributes, of which kind is the class: 2 (' in text


@pytest.mark.parametrize(
    ('attributes', 'label'),
    [
        ({'species': 'cat'}, 'cat'),  # the only one
        ({'colour': 'red', 'class': 'cat'}, 'cat'),  # a usual name
        ({'name': 'tom', 'Class': 'cat'}, 'cat'),  # the first of the usual names
        ({'kind': 'cat', 'colour': 'red'}, 'cat'),  # the first
        ({'type': {'cat': True, 'dog': False}}, 'cat'),  # boxes to tick
        ({'colour': '', 'kind': 'cat'}, 'cat'),  # without a value
        ({'class': 7}, '7'),
    ],
)
def test_the_class_is_an_attribute(run, tmp_path, attributes, label):
    found, _ = run(via(via_region(CAT, attributes)))
    assert classes(tmp_path) == json.dumps({'background': 0, label: 1})
    assert (found == box_mask((1, 1, 1, 6, 5))).all()


def test_regions_without_the_attribute_are_left_out_and_counted(run):
    regions = via_region(CAT, {'class': 'cat'}), via_region(corners('dog'), {'class': ''})
    found, text = run(via(*regions))
    assert (found == box_mask((1, 1, 1, 6, 5))).all()
    assert 'regions without the attribute class are left out: 1 (' in text


@pytest.mark.parametrize('mark', ['', '#'])  # of version 1
def test_csv_exports(tmp_path, mark):
    picture(tmp_path / 'in/a.png')
    picture(tmp_path / 'in/b.png')
    rows = []
    for k, name in enumerate(('cat', 'dog')):
        region = json.dumps(via_region(corners(name), {})['shape_attributes'])
        rows.append(('a.png', 99, '{}', 2, k, region, json.dumps({'name': name})))
    rows.append(('b.png', 99, '{}', 0, 0, '{}', '{}'))
    source = csv_file(tmp_path / 'in/via.csv', mark + HEADER, *rows)
    for given in (source, tmp_path / 'in'):
        assert convert('via', given, tmp_path / 'out', '--overwrite') == 0
        assert (mask(tmp_path / 'out/a.png') == SCENE).all()
        assert not mask(tmp_path / 'out/b.png').any()
    (tmp_path / 'none').mkdir()
    expected = f'python scripts/masks_from.py via {source} {tmp_path}/in_masks'
    assert annotation_command(tmp_path / 'in', tmp_path / 'none') == expected


def test_csv_exports_of_several_folders(tmp_path):
    for part in ('train', 'val'):
        picture(tmp_path / 'in' / part / 'a.png')
        region = json.dumps({'name': 'rect', 'x': 1, 'y': 1, 'width': 5, 'height': 4})
        csv_file(tmp_path / 'in' / part / 'v.csv', HEADER, ('a.png', 9, '{}', 1, 0, region, '{}'))
    assert convert('via', tmp_path / 'in', tmp_path / 'out') == 0
    for part in ('train', 'val'):
        assert (mask(tmp_path / 'out' / part / 'a.png') == box_mask((1, 1, 1, 6, 5))).all()


def test_of_an_export_in_both_forms_the_json_is_read(tmp_path):
    source = write_scene(tmp_path / 'in', 'via')
    csv_file(source.with_suffix('.csv'), HEADER, ('a.png', 9, '{}', 0, 0, '{}', '{}'))
    assert convert('via', source.parent, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == SCENE).all()


def test_the_file_in_each_part_of_a_data_set_is_read(tmp_path, capsys):
    """As of Matterport's balloons; the pictures of the parts may have the same names."""
    for part, name in (('train', 'cat'), ('val', 'dog')):
        picture(tmp_path / 'balloon' / part / 'a.png')
        regions = via(via_region(corners(name), {}))
        json_file(tmp_path / 'balloon' / part / 'via_region_data.json', regions)
    folder = tmp_path / 'balloon'
    one = (
        f'python scripts/masks_from.py via {folder}/train/via_region_data.json {folder}/train_masks'
    )
    assert annotation_command(folder / 'train', folder / 'train') == one
    both = f'python scripts/masks_from.py via {folder} {folder}_masks'
    assert annotation_command(folder, folder) == both
    assert convert('via', folder, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/train/a.png') == box_mask((1, 1, 1, 6, 5))).all()
    assert (mask(tmp_path / 'out/val/a.png') == box_mask((1, 4, 3, 10, 7))).all()
    assert '--val-images' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('document', 'message'),
    [
        (via(shape({}, name='blob')), "region 0: name is 'blob'; expected polygon, rect, circle"),
        (via(shape({}, name='rect', x=1)), 'region 0: y is None; expected a number of pixels'),
        (via(shape({}, name='polygon', all_points_x=[1, 2], all_points_y=[1])),
         'all_points_y is 1; expected 2 of them, as of x'),
        (via(shape(3, name='rect')), 'region_attributes is 3; expected an object'),
        ({'project': {}, 'metadata': {}, 'view': {}}, 'is a project of VGG Image Annotator 3'),
        ({'a': {}}, 'is something else; expected a JSON or CSV export'),
    ],
)  # fmt: skip
def test_mistakes_name_the_place(run, tmp_path, document, message):
    _, text = run(document, code=2)
    assert message in text
    assert f'{tmp_path}/in/via_region_data.json' in text
    assert not (tmp_path / 'out').exists()


def test_broken_cells_name_the_line(tmp_path, capsys):
    picture(tmp_path / 'in/a.png')
    row = ('a.png', 99, '{}', 1, 0, '{"name": ', '{}')
    assert convert('via', csv_file(tmp_path / 'in/v.csv', HEADER, row), tmp_path / 'out') == 2
    assert 'v.csv: line 2 is \'{"name": \'; expected an object of JSON' in capsys.readouterr().err
