"""YOLO segmentation: outlines in fractions, class names, layouts."""

import pytest
from annotating import (
    BOXES,
    SCENE,
    box_mask,
    convert,
    corners,
    mask,
    picture,
    write_scene,
    yolo_line,
)

from utils.annotations.formats.yolo import read_yolo

FORMS = {
    'list': 'names: ["cat", \'dog\']  # two\nnc: 2\n',
    'lines': 'train: ../train/images\nnames:\n- cat\n- dog\n',
    'several lines': 'names: [cat,\n  dog]\n',
    'numbers': 'path: data\nnames:\n  0: cat\n  1: dog\n',
    'numbers in any order': 'names: {1: dog, 0: cat}\n',
}


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'in', 'yolo')


def test_outlines_in_fractions_are_drawn(scene, tmp_path, capsys):
    assert convert('yolo', scene, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == SCENE).all()
    last = capsys.readouterr().out.splitlines()[-1].strip()
    assert last == f'python train.py --images {scene}/images --masks {tmp_path}/out'


@pytest.mark.parametrize('text', FORMS.values(), ids=FORMS)
def test_names_of_every_form_are_read(scene, text):
    (scene / 'data.yaml').write_text(text)
    assert read_yolo(scene).labels == ['cat', 'dog']


def test_names_stay_texts(scene):
    (scene / 'data.yaml').write_text('names: [yes, no, 1.0, null]\n')
    assert read_yolo(scene).labels == ['yes', 'no', '1.0', 'null']


def test_classes_txt_names_classes_too_and_without_names_they_are_numbered(scene):
    (scene / 'data.yaml').rename(scene / 'classes.txt')
    (scene / 'classes.txt').write_text('cat\ndog\nhorse\n')
    assert read_yolo(scene).labels == ['cat', 'dog', 'horse']
    (scene / 'classes.txt').unlink()
    assert read_yolo(scene).labels == ['class 0', 'class 1']


def test_the_folder_of_labels_or_the_table_may_be_named_instead(scene, tmp_path):
    for k, source in enumerate((scene / 'labels', scene / 'data.yaml')):
        assert convert('yolo', source, tmp_path / str(k)) == 0
        assert (mask(tmp_path / str(k) / 'a.png') == SCENE).all()


@pytest.mark.parametrize('layout', ['{part}/{kind}', '{kind}/{part}'])
def test_parts_of_a_data_set_keep_their_folders(tmp_path, capsys, layout):
    root, out = tmp_path / 'in', tmp_path / 'out'
    for part in ('train', 'val'):
        picture(root / layout.format(part=part, kind='images') / f'{part}.png')
        labels = root / layout.format(part=part, kind='labels') / f'{part}.txt'
        labels.parent.mkdir(parents=True)
        labels.write_text(yolo_line(0, corners('cat')))
    assert convert('yolo', root, out) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert f'--masks {out}/train ' in command
    assert f'--val-masks {out}/val' in command
    assert len(list(out.rglob('*.png'))) == 2


def test_texts_beside_pictures_are_labels(tmp_path):
    picture(tmp_path / 'in/obj_train_data/a.png')
    (tmp_path / 'in/obj_train_data/a.txt').write_text(yolo_line(0, corners('cat')))
    (tmp_path / 'in/obj.names').write_text('cat\n')
    (tmp_path / 'in/train.txt').write_text('data/obj_train_data/a.png\n')
    assert convert('yolo', tmp_path / 'in', tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == box_mask((1, *BOXES['cat']))).all()


def test_pictures_without_labels_are_background_and_counted(scene, tmp_path, capsys):
    picture(scene / 'images/b.png')
    picture(scene / 'images/c.png')
    (scene / 'labels/c.txt').write_text('')
    assert convert('yolo', scene, tmp_path / 'out') == 0
    assert not mask(tmp_path / 'out/b.png').any()
    text = capsys.readouterr().out
    assert 'pictures without a label file are background: 1 (b.png)' in text
    assert 'pictures without an object, all background: 2' in text


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('0 0.5 0.5 0.2 0.2', 'is a box (a class and four numbers); expected outlines'),
        ('0 0.1 0.1 0.5 0.1 0.5', 'number of values is 6; expected 1 + 2 for each point'),
        ('0 0.1 0.1 0.5 0.1 0.5 0.5 0.9', 'number of values is 8'),
        ('2 0.1 0.1 0.5 0.1 0.5 0.5', 'class is 2; expected 0 to 1'),
        ('cat 0.1 0.1 0.5 0.1 0.5 0.5', "class is 'cat'"),
        ('0 10 10 50 10 50 50', 'expected fractions of width and height'),
        ('0 0.1 0.1 nan 0.1 0.5 0.5', "'nan'; expected a number"),
    ],
)
def test_broken_lines_are_named(scene, tmp_path, capsys, line, message):
    (scene / 'labels/a.txt').write_text(f'\n{line}\n')
    assert convert('yolo', scene, tmp_path / 'out') == 2
    text = capsys.readouterr().err
    assert 'a.txt: line 2' in text
    assert message in text


def test_a_label_without_its_picture_has_no_size(scene, tmp_path, capsys):
    (scene / 'labels/gone.txt').write_text(yolo_line(0, corners('cat')))
    assert convert('yolo', scene, tmp_path / 'out') == 2
    assert 'images/gone is not there and its size is not in the file' in capsys.readouterr().err


@pytest.mark.parametrize(
    'text', ['names: [cat', 'names: 5', '- cat', 'names: {0: cat, 2: dog}', '&a [*a]']
)
def test_broken_tables_are_named(scene, tmp_path, capsys, text):
    (scene / 'data.yaml').write_text(text)
    assert convert('yolo', scene, tmp_path / 'out') == 2
    assert f'{scene}/data.yaml' in capsys.readouterr().err


def test_without_pyyaml_the_message_names_its_command(scene, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'yaml', None)
    assert convert('yolo', scene, tmp_path / 'out') == 2
    assert 'needs the package PyYAML: pip install pyyaml' in capsys.readouterr().err
