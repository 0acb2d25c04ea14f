"""CVAT for images 1.1: every kind of shape, order, and files that are refused."""

import numpy as np
import pytest
from annotating import (
    BOXES,
    SCENE,
    box_mask,
    convert,
    corners,
    cvat,
    cvat_polygon,
    mask,
    picture,
    write_scene,
)

CAT = cvat_polygon('cat', corners('cat'))
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cat"><!ENTITY c "&b;&b;&b;&b;">]>'
    '<annotations><image name="&c;"/></annotations>'
)


@pytest.fixture
def run(tmp_path, capsys):
    """Convert elements of one picture; return the mask of a.png, and what was printed."""

    def convert_elements(*elements, code=0, document=None, **more):
        picture(tmp_path / 'in/a.png')
        path = tmp_path / 'in/annotations.xml'
        path.write_bytes((document or cvat(*elements, **more)).encode())
        assert convert('cvat', path, tmp_path / 'out', '--overwrite') == code
        printed = capsys.readouterr()
        found = mask(tmp_path / 'out/a.png') if code == 0 else None
        return found, printed.out + printed.err

    return convert_elements


def test_polygons_are_drawn_and_labels_keep_their_order(tmp_path):
    source = write_scene(tmp_path / 'in', 'cvat')
    assert convert('cvat', source, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == SCENE).all()
    (source / 'annotations.xml').write_text(cvat(CAT, labels=('zebra', 'cat')))
    assert convert('cvat', source, tmp_path / 'out2') == 0
    assert mask(tmp_path / 'out2/a.png').max() == 2


def test_a_higher_z_order_covers_a_lower_one(run):
    dog = cvat_polygon('dog', corners('dog'))
    found, _ = run(cvat_polygon('cat', corners('cat'), z=1), dog)
    assert (found == box_mask((2, *BOXES['dog']), (1, *BOXES['cat']))).all()


def test_masks_are_runs_along_the_rows_of_a_box(run):
    # 0 0 1
    # 1 1 0
    found, _ = run('<mask label="cat" rle="2, 3, 1" left="5" top="4" width="3" height="2"/>')
    expected = np.zeros((8, 12), np.uint8)
    expected[4, 7] = expected[5, 5] = expected[5, 6] = 1
    assert (found == expected).all()


def test_boxes_and_ellipses_are_drawn_and_turned(run):
    found, _ = run('<box label="cat" xtl="1" ytl="1" xbr="6" ybr="5"/>')
    assert (found == box_mask((1, *BOXES['cat']))).all()
    found, _ = run('<box label="cat" xtl="2" ytl="3" xbr="8" ybr="5" rotation="90.0"/>')
    assert (found == box_mask((1, 4, 1, 6, 7))).all()
    found, _ = run('<ellipse label="cat" cx="6" cy="4" rx="5" ry="3"/>')
    y, x = np.mgrid[:8, :12] + 0.5
    assert (found == (((x - 6) / 5) ** 2 + ((y - 4) / 3) ** 2 < 1)).all()


def test_shapes_without_area_and_tags_are_left_out(run):
    line = '<polyline label="cat" points="1,1;5,5"/>'
    found, text = run(line, '<points label="cat" points="1,1"/>', '<tag label="dog"/>', CAT)
    assert (found == box_mask((1, *BOXES['cat']))).all()
    assert 'shapes without area (lines, points) are left out: 2' in text


def test_pictures_lie_in_folders_beside_the_file(tmp_path, capsys):
    picture(tmp_path / 'in/images/night/a.png')
    (tmp_path / 'in/annotations.xml').write_text(cvat(CAT, name='night/a.png'))
    assert convert('cvat', tmp_path / 'in', tmp_path / 'out') == 0
    assert mask(tmp_path / 'out/night/a.png').any()
    assert f'--images {tmp_path}/in/images --masks {tmp_path}/out' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('document', 'message'),
    [
        (BOMB, 'has a DOCTYPE, which CVAT does not write'),
        (BOMB.replace('<?xml version="1.0"?>', ''), 'has a DOCTYPE'),
        ('<annotations><track id="0" label="cat"/></annotations>', "'CVAT for images 1.1'"),
        ('<annotation><object/></annotation>', 'begins with <annotation>; expected CVAT'),
        ('<annotations><image name="a.png"', 'cannot be read as XML'),
        ('', 'cannot be read as XML'),
        ('<annotations/>', 'holds no CVAT annotations'),
    ],
)
def test_other_documents_are_refused(run, document, message):
    assert message in run(code=2, document=document or ' ')[1]


@pytest.mark.parametrize(
    ('element', 'message'),
    [
        ('<polygon label="cat" points="1,1;2"/>', 'points is [1.0, 1.0, 2.0]; expected pairs'),
        ('<polygon label="cat" points="1,1;x,2"/>', "points is 'x'; expected a number"),
        ('<polygon points="1,1;3,3;1,3"/>', 'label is None; expected a text'),
        ('<box label="cat" xtl="1" ytl="1" xbr="6"/>', 'without ybr'),
        (
            '<mask label="cat" rle="2, 3" left="5" top="4" width="3" height="2"/>',
            'is 5; expected 6',
        ),
        ('<mask label="cat" rle="9" top="4" width="3" height="3"/>', 'left is None'),
        ('<blob label="cat"/>', 'expected polygon, mask, box or ellipse'),
    ],
)
def test_broken_elements_are_named(run, element, message):
    text = run(CAT, element, code=2)[1]
    assert 'annotations.xml: image 1: ' in text
    assert message in text
