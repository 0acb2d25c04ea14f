"""Supervisely: every geometry, holes, names of pictures, datasets of a project."""

import base64
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from annotating import (
    SCENE,
    box_mask,
    convert,
    corners,
    figure,
    json_file,
    mask,
    picture,
    sly_bitmap,
    supervisely,
    write_scene,
)
from PIL import Image

from utils.annotations.recognize import annotation_command

CAT = figure('cat', exterior=corners('cat'))


@pytest.fixture
def run(tmp_path, capsys):
    """Convert figures; return the mask of a.png, and what was printed."""

    def convert_figures(*figures, code=0, **more):
        picture(tmp_path / 'in/ds0/img/a.png')
        source = supervisely(tmp_path / 'in', *figures, **more)
        assert convert('supervisely', source, tmp_path / 'out', '--overwrite') == code
        printed = capsys.readouterr()
        return mask(tmp_path / 'out/a.png') if code == 0 else None, printed.out + printed.err

    return convert_figures


def bitmap(data, origin=(0, 0)):
    return figure('cat', 'bitmap', bitmap={'data': data, 'origin': list(origin)})


def test_classes_are_in_the_order_of_meta_json(run, tmp_path):
    dog = figure('dog', exterior=corners('dog'))
    kinds = [('dog', 'polygon'), ('road', 'line'), ('cow', 'bitmap'), ('cat', 'any')]
    found, _ = run(CAT, dog, classes=kinds)
    text = (tmp_path / 'out/classes.json').read_text()
    assert text == '{"background": 0, "dog": 1, "cow": 2, "cat": 3}\n'  # lines are no class
    assert (found == np.array([0, 3, 1])[SCENE]).all()


def test_interiors_are_holes(run):
    holes = [[2, 2], [4, 2], [4, 4], [2, 4]], [[8, 3], [10, 3], [10, 6], [8, 6]]
    outer = [[1, 1], [11, 1], [11, 7], [1, 7]]
    found, _ = run(figure('cat', exterior=outer, interior=holes))
    assert (found == box_mask((1, 1, 1, 11, 7), (0, 2, 2, 4, 4), (0, 8, 3, 10, 6))).all()


def test_a_rectangle_is_two_corners(run):
    found, _ = run(figure('cat', 'rectangle', [[2, 1], [5, 6]]))
    assert (found == box_mask((1, 2, 1, 5, 6))).all()


def test_a_bitmap_lies_at_its_origin_and_may_leave_the_picture(run):
    pixels = np.array([[0, 1, 1], [1, 1, 0]])
    found, _ = run(bitmap(sly_bitmap(pixels), (4, 2)))
    expected = box_mask(size=(12, 8))
    expected[2:4, 4:7] = pixels
    assert (found == expected).all()
    found, _ = run(bitmap(sly_bitmap(pixels), (10, 7)))
    assert np.argwhere(found).tolist() == [[7, 11]]


@pytest.mark.parametrize('mode', ['P', 'RGBA', 'L', '1'])
def test_bitmaps_that_are_full_in_every_form(run, mode):
    """A full RGBA bitmap may be black: its alpha counts."""
    file = io.BytesIO()
    picture = {
        'RGBA': Image.new('RGBA', (3, 2), (0, 0, 0, 255)),
        'L': Image.new('L', (3, 2), 255), '1': Image.new('1', (3, 2), 1),
    }.get(mode)  # fmt: skip
    if picture:
        picture.save(file, 'PNG')
        data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    else:
        data = sly_bitmap(np.ones((2, 3)))
    found, _ = run(bitmap(data, (1, 1)))
    assert (found == box_mask((1, 1, 1, 4, 3))).all()


def test_lines_and_points_have_no_area(run):
    line, point = figure('cat', 'line', [[1, 1], [5, 5]]), figure('cat', 'point', [[3, 3]])
    found, text = run(CAT, line, point)
    assert (found == box_mask((1, 1, 1, 6, 5))).all()
    assert 'shapes without area (lines, points) are left out: 2 (' in text


def test_old_files_are_called_like_the_picture_without_extension(tmp_path):
    picture(tmp_path / 'in/ds0/img/a.jpg')
    old = CAT | {'bitmap': None}
    del old['geometryType']  # the class tells it
    supervisely(tmp_path / 'in', old, name='a')
    assert convert('supervisely', tmp_path / 'in', tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == box_mask((1, 1, 1, 6, 5))).all()


def test_datasets_may_have_pictures_of_the_same_names(tmp_path, capsys):
    for part, name in (('train', 'cat'), ('val', 'dog')):
        picture(tmp_path / 'in' / part / 'img/a.png')
        source = supervisely(tmp_path / 'in', figure(name, exterior=corners(name)))
        (source / 'ds0').rename(source / 'new')
        (source / 'new/ann').rename(source / part / 'ann')
        (source / 'new').rmdir()
    (tmp_path / 'in/train/masks_machine').mkdir()
    (tmp_path / 'in/train/masks_machine/a.png').touch()
    assert convert('supervisely', tmp_path / 'in', tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/train/img/a.png') == box_mask((1, 1, 1, 6, 5))).all()
    assert (mask(tmp_path / 'out/val/img/a.png') == box_mask((2, 4, 3, 10, 7))).all()
    assert '--val-images' in capsys.readouterr().out
    assert convert('supervisely', tmp_path / 'in/val/ann', tmp_path / 'one') == 0
    assert (mask(tmp_path / 'one/a.png') == box_mask((2, 4, 3, 10, 7))).all()


def test_a_project_without_datasets(tmp_path):
    source = write_scene(tmp_path / 'in', 'supervisely')
    for name in ('img', 'ann'):
        (source / 'ds0' / name).rename(source / name)
    assert convert('supervisely', source / 'meta.json', tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == SCENE).all()


def test_a_mask_is_written_without_the_picture(tmp_path):
    source = supervisely(tmp_path / 'in', CAT)
    assert convert('supervisely', source, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/ds0/img/a.png') == box_mask((1, 1, 1, 6, 5))).all()


def test_the_project_is_recognised_from_any_of_its_folders(tmp_path, monkeypatch):
    source = write_scene(tmp_path / 'in', 'supervisely')
    expected = f'python scripts/masks_from.py supervisely {source} {source}_masks'
    for part in ('', 'ds0', 'ds0/ann'):
        assert annotation_command(source / 'ds0/img', source / part) == expected
    monkeypatch.chdir(source)
    expected = 'python scripts/masks_from.py supervisely . ../in_masks'
    assert annotation_command(Path('ds0/img'), Path('ds0/ann')) == expected


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (figure('cow'), "classTitle is 'cow'; expected a class of meta.json"),
        (figure('cat', 'alpha'), "geometryType is 'alpha'; expected polygon, rectangle or bitmap"),
        (figure('cat', 'rectangle', [[1, 1]]), 'exterior is 1; expected two corners'),
        (bitmap('AAAA'), 'expected a deflated PNG in base64'),
        (bitmap(sly_bitmap(np.ones((2, 2))), (1,)), 'origin is [1]; expected [x, y]'),
        (bitmap(base64.b64encode(zlib.compress(b'x')).decode()), 'bitmap is no picture'),
    ],
)
def test_mistakes_name_the_object(run, tmp_path, wrong, message):
    _, text = run(CAT, wrong, code=2)
    assert f'{tmp_path}/in/ds0/ann/a.png.json: object 2' in text
    assert message in text
    assert not (tmp_path / 'out').exists()


def test_a_folder_without_meta_json_is_refused(tmp_path, capsys):
    json_file(tmp_path / 'in/ann/a.png.json', {'objects': []})
    assert convert('supervisely', tmp_path / 'in', tmp_path / 'out') == 2
    assert 'holds no meta.json; expected a Supervisely project' in capsys.readouterr().err
