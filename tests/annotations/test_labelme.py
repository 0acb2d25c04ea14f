"""LabelMe: every kind of shape, labels, names of pictures."""

import base64
import io

import numpy as np
import pytest
from annotating import (
    BOXES,
    SCENE,
    box_mask,
    convert,
    corners,
    json_file,
    labelme,
    mask,
    picture,
    shape,
    write_scene,
)
from PIL import Image

CAT = shape('cat', corners('cat'))


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def run(tmp_path, capsys):
    """Convert shapes; return the mask of a.png, and what was printed."""

    def convert_shapes(*shapes, code=0, name='a.png', **more):
        picture(tmp_path / 'in/a.png')
        json_file(tmp_path / 'in/a.json', labelme(*shapes, **more))
        assert convert('labelme', tmp_path / 'in', tmp_path / 'out', '--overwrite') == code
        printed = capsys.readouterr()
        found = mask(tmp_path / 'out' / name) if code == 0 else None
        return found, printed.out + printed.err

    return convert_shapes


def test_labels_are_classes_in_the_order_of_their_names(tmp_path):
    source = write_scene(tmp_path / 'in', 'labelme')
    assert convert('labelme', source, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == SCENE).all()


def test_labels_txt_sets_the_order(tmp_path):
    source = write_scene(tmp_path / 'in', 'labelme')
    (source / 'labels.txt').write_text('__ignore__\n_background_\nhorse\ndog\ncat\n')
    assert convert('labelme', source, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == np.array([0, 3, 2])[SCENE]).all()
    text = (tmp_path / 'out/classes.json').read_text()
    assert text == '{"background": 0, "horse": 1, "dog": 2, "cat": 3}\n'


def test_rectangles_and_circles_have_two_points(run):
    found, _ = run(shape('cat', [[6, 5], [1, 1]], 'rectangle'))
    assert (found == box_mask((1, *BOXES['cat']))).all()
    found, _ = run(shape('cat', [[5, 4], [8, 4]], 'circle'))
    y, x = np.mgrid[:8, :12] + 0.5
    assert (found == ((x - 5) ** 2 + (y - 4) ** 2 < 9)).all()


@pytest.mark.parametrize('kind', [bool, np.uint8], ids=['one bit', '0 and 1'])
def test_bitmaps_lie_at_their_first_corner(run, kind):
    pixels = np.array([[0, 1, 0], [1, 0, 1]]).astype(kind)
    found, _ = run(shape('cat', [[4, 2], [6, 3]], 'mask', mask=png(pixels)))
    expected = np.zeros((8, 12), np.uint8)
    expected[2:4, 4:7] = pixels
    assert (found == expected).all()


def test_background_makes_holes_and_ignored_pixels_do_not_count(run, tmp_path):
    hole = shape('_background_', [[2, 2], [4, 2], [4, 4], [2, 4]])
    void = shape('__ignore__', [[9, 0], [12, 0], [12, 8], [9, 8]])
    found, text = run(CAT, hole, void)
    expected = box_mask((1, *BOXES['cat']), (0, 2, 2, 4, 4), (255, 9, 0, 12, 8))
    assert (found == expected).all()
    assert (tmp_path / 'out/classes.json').read_text() == '{"background": 0, "cat": 1}\n'
    assert 'two classes' not in text
    assert text.splitlines()[-1].endswith(f'--masks {tmp_path}/out --ignore-value 255')


def test_lines_and_points_are_left_out_and_said(run):
    line = shape('cat', [[1, 1], [9, 6]], 'linestrip')
    point = shape('cat', [[1, 1]], 'point')
    found, text = run(line, point, shape('cat', [[1, 1], [5, 5]]), CAT)
    assert (found == box_mask((1, *BOXES['cat']))).all()
    assert 'shapes without area (lines, points) are left out: 2' in text
    assert 'fewer than three points are left out: 1' in text


def test_old_files_have_no_type_and_no_size(run):
    pixels = np.zeros((8, 12, 3), np.uint8)
    old = {'imageHeight': None, 'imageWidth': None, 'imageData': png(pixels)}
    found, _ = run(CAT | {'shape_type': None}, imagePath='gone.png', **old)
    assert (found == box_mask((1, *BOXES['cat']))).all()


def test_pictures_lie_beside_their_file_or_where_it_says(tmp_path, capsys):
    for part in ('p1', 'p2'):
        picture(tmp_path / 'in' / part / 'a.png')
        json_file(tmp_path / 'in' / part / 'a.json', labelme(CAT, imagePath='old name.jpg'))
    assert convert('labelme', tmp_path / 'in', tmp_path / 'out') == 0
    assert mask(tmp_path / 'out/p1/a.png').any()
    assert mask(tmp_path / 'out/p2/a.png').any()
    picture(tmp_path / 'other/images/b.png')
    json_file(tmp_path / 'other/labels/1.json', labelme(CAT, imagePath='..\\images\\b.png'))
    assert convert('labelme', tmp_path / 'other', tmp_path / 'out2') == 0
    assert mask(tmp_path / 'out2/b.png').any()
    last = capsys.readouterr().out.splitlines()[-1].strip()
    assert last == f'python train.py --images {tmp_path}/other/images --masks {tmp_path}/out2'


def test_the_file_says_which_picture_is_its_own(run, tmp_path):
    picture(tmp_path / 'in/b.png')
    run(CAT, imagePath='b.png', name='b.png')
    assert not (tmp_path / 'out/a.png').exists()


def test_pictures_without_a_file_have_no_mask_and_the_command_skips_them(run, tmp_path):
    picture(tmp_path / 'in/b.png')
    _, text = run(CAT)
    assert not (tmp_path / 'out/b.png').exists()
    assert text.splitlines()[-1].endswith('/out --skip-bad')


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (shape('cat', [[1, 1], [2, 2]], 'mask', mask='aGVsbG8='), 'mask is no picture'),
        (shape('cat', [[1, 1], [2, 2]], 'mask', mask=None), 'mask is None; expected a text'),
        (shape('cat', [[1, 1], [2, 2]], 'mask', mask='a'), 'expected a PNG in base64'),
        (shape('cat', [[1, 1]], 'circle'), 'expected two points of a circle'),
        (shape('cat', [[1, 1], [2, 2]], 'blob'), "shape_type is 'blob'"),
        (shape('', corners('cat')), "label is ''; expected a text"),
        (shape('cat', [[1, 1], [2, None], [3, 3]]), 'expected numbers of pixels'),
        (shape('\ud800', corners('cat')), 'half characters'),
    ],
)
def test_broken_shapes_are_named(run, entry, message):
    text = run(CAT, entry, code=2)[1]
    assert 'a.json: shape 2' in text
    assert message in text


def test_all_broken_files_are_listed_at_once(tmp_path, capsys):
    picture(tmp_path / 'a.png')
    for k in range(3):
        (tmp_path / f'{k}.json').write_text('{"shapes": [')
    assert convert('labelme', tmp_path, tmp_path / 'out') == 2
    assert '3 unreadable:' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
