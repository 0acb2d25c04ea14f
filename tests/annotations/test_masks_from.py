"""scripts/masks_from.py as a program: its output, its refusals, broken files of every format."""

import json
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from annotating import (
    FORMATS,
    SCENE,
    box_mask,
    coco,
    convert,
    corners,
    encode_brush,
    figure,
    flat,
    json_file,
    labelme,
    mask,
    picture,
    region,
    shape,
    sly_bitmap,
    supervisely,
    task,
    via,
    via_region,
    write_scene,
)

import train
from utils.annotations.recognize import annotation_command
from utils.data.dataset import SegmentationDataset
from utils.runtime.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts/masks_from.py'
every_format = pytest.mark.parametrize('kind', FORMATS)


@every_format
def test_the_printed_command_trains_on_the_masks(tmp_path, capsys, kind):
    source = write_scene(tmp_path / 'my data', kind)
    assert convert(kind, source, tmp_path / 'the masks') == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:2] == ['python', 'train.py']
    assert train.main(['--check', '-s', '1', *command[2:], '--json', str(tmp_path / 'r.json')]) == 2
    report = json.loads((tmp_path / 'r.json').read_text())  # too small for the network, no more
    assert {problem['kind'] for problem in report['problems']} <= {'too small'}
    assert [entry['name'] for entry in report['classes']] == ['background', 'cat', 'dog']
    assert report['pairs'] == 1


def test_a_folder_that_is_not_empty_is_refused_unless_told(tmp_path, capsys):
    source, out = write_scene(tmp_path / 'in', 'labelme'), tmp_path / 'out'
    out.mkdir()
    (out / 'a.png').write_text('old')
    assert convert('labelme', source, out) == 2
    assert 'is not empty; name another folder, or add --overwrite' in capsys.readouterr().err
    assert (out / 'a.png').read_text() == 'old'
    assert convert('labelme', source, out, '--overwrite') == 0
    assert (mask(out / 'a.png') == SCENE).all()
    assert not list(out.glob('.*'))


def test_masks_of_an_earlier_run_are_not_taken_for_pictures(tmp_path):
    source = write_scene(tmp_path / 'in', 'coco')
    for _ in range(2):
        assert convert('coco', source, source.parent / 'masks', '--overwrite') == 0
    assert (mask(source.parent / 'masks/a.png') == SCENE).all()
    assert convert('coco', source, source.parent / 'other') == 0


def test_pictures_behind_a_link_are_found_once(tmp_path):
    source = write_scene(tmp_path / 'in', 'coco')
    (tmp_path / 'pictures').mkdir()
    (tmp_path / 'in/a.png').rename(tmp_path / 'pictures/a.png')
    for link in ('one', 'two'):
        (tmp_path / 'in' / link).symlink_to(tmp_path / 'pictures', target_is_directory=True)
    (tmp_path / 'pictures/round').symlink_to(tmp_path / 'in', target_is_directory=True)
    assert convert('coco', source, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == SCENE).all()


def test_no_picture_is_replaced_by_its_mask(tmp_path, capsys):
    source = write_scene(tmp_path / 'in', 'labelme')
    before = (source / 'a.png').read_bytes()
    assert convert('labelme', source, source, '--overwrite') == 2
    assert 'would replace a picture' in capsys.readouterr().err
    assert (source / 'a.png').read_bytes() == before


def test_a_missing_source_and_a_file_as_folder_are_refused(tmp_path, capsys):
    assert convert('coco', tmp_path / 'nothing', tmp_path / 'out') == 2
    assert 'nothing does not exist' in capsys.readouterr().err
    source = write_scene(tmp_path / 'in', 'coco')
    assert convert('coco', source, source) == 2
    assert 'is a file; expected the name of a folder' in capsys.readouterr().err
    assert convert('coco', tmp_path / 'in/a.png', tmp_path / 'out') == 2
    assert 'cannot be read as JSON' in capsys.readouterr().err


@every_format
def test_a_folder_without_annotations_is_refused(tmp_path, capsys, kind):
    picture(tmp_path / 'in/a.png')
    assert convert(kind, tmp_path / 'in', tmp_path / 'out') == 2
    assert 'expected' in capsys.readouterr().err


def test_help_and_wrong_arguments_answer_without_numpy_and_torch():
    for words, code in ((['-h'], 0), (['pascal', 'a', 'b'], 2), ([], 2)):
        run = (
            'import sys, runpy; sys.modules["torch"] = sys.modules["numpy"] = None; '
            f'sys.argv = {["x", *words]!r}; runpy.run_path({str(SCRIPT)!r}, run_name="__main__")'
        )
        result = subprocess.run([sys.executable, '-c', run], capture_output=True, text=True)
        assert result.returncode == code, result.stderr
        assert 'Traceback' not in result.stderr


def test_a_label_of_a_picture_in_several_folders_is_asked_about(tmp_path, capsys):
    for part in ('x', 'y'):
        picture(tmp_path / 'in' / part / 'a.png')
    document = coco((1, [flat(corners('cat'))]))
    assert convert('coco', json_file(tmp_path / 'in/c.json', document), tmp_path / 'out') == 2
    text = capsys.readouterr().err
    assert text.count(f'may be {tmp_path}/in/x/a.png or {tmp_path}/in/y/a.png') == 1


@every_format
def test_programs_that_meet_annotations_name_the_command(tmp_path, capsys, kind):
    source = write_scene(tmp_path / 'my data', kind)
    folder = tmp_path / 'my data'
    parts = {'yolo': ('images', 'labels'), 'supervisely': ('ds0/img', 'ds0/ann')}
    images, masks = (folder / part for part in parts.get(kind, ('', '')))
    if kind == 'cvat':
        source = folder / 'annotations.xml'
    expected = shlex.join(['python', 'scripts/masks_from.py', kind, str(source), f'{folder}_masks'])
    for main in (lambda words: train.main(['--check', *words]), train.main):
        assert main(['--images', str(images), '--masks', str(masks)]) == 2
        printed = capsys.readouterr()
        assert (printed.out + printed.err).rstrip().splitlines()[-1].strip() == expected
    words = shlex.split(expected)
    assert convert(*words[2:]) == 0


def test_data_sets_of_other_programs_name_the_command_too(tmp_path):
    write_scene(tmp_path, 'coco')
    with pytest.raises(UserError, match=r'\n  python scripts/masks_from\.py coco '):
        SegmentationDataset(tmp_path, tmp_path / 'masks')


def test_exported_brush_masks_in_place_of_masks_are_recognised(tmp_path):
    picture(tmp_path / 'upload/3/2f1c9a7b-a.png')
    json_file(tmp_path / 'project-3.json', [task(name='2f1c9a7b-a.png')])
    (tmp_path / 'export').mkdir()
    (tmp_path / 'export/task-1-annotation-10-by-1-tag-cat-0.png').touch()
    command = annotation_command(tmp_path / 'upload/3', tmp_path / 'export')
    assert command == shlex.join(
        ['python', 'scripts/masks_from.py', 'label-studio', str(tmp_path), f'{tmp_path}_masks']
    )


def test_masks_are_proposed_beside_the_folder_one_is_in(tmp_path, monkeypatch):
    write_scene(tmp_path / 'here', 'labelme')
    monkeypatch.chdir(tmp_path / 'here')
    expected = 'python scripts/masks_from.py labelme . ../here_masks'
    assert annotation_command(Path(), Path()) == expected


def test_pictures_in_a_folder_and_in_folders_in_it_are_paired_by_patterns(tmp_path, capsys):
    images = [
        {'id': k, 'file_name': name, 'width': 12, 'height': 8}
        for k, name in enumerate(('a.png', 'more/b.png'))
    ]
    for image in images:
        picture(tmp_path / 'in' / image['file_name'])
    source = json_file(tmp_path / 'in/c.json', coco((1, [flat(corners('cat'))]), images=images))
    assert convert('coco', source, tmp_path / 'out') == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert len(SegmentationDataset(Path(words[3]), Path(words[5])).pairs) == 2


def test_other_files_are_not_taken_for_annotations(tmp_path):
    (tmp_path / 'a.json').write_text('{"labels": {"0": "background"}, "images": 3}')
    (tmp_path / 'b.txt').write_text('2007_000032 1 1\n')
    (tmp_path / 'c.txt').write_text('1 0 5 0\n')
    (tmp_path / 'd.xml').write_text('<annotation><object/></annotation>')
    assert annotation_command(tmp_path / 'none', tmp_path) is None


SLY_BITMAP = sly_bitmap(np.array([[0, 1], [1, 1]]))


def rich(folder, kind):
    """The scene with more kinds of shapes."""
    source = write_scene(folder, kind)
    cat = corners('cat')
    if kind == 'coco':
        runs = {'size': [8, 12], 'counts': [10, 20, 66]}
        text = {'size': [8, 12], 'counts': '94400002N02N000000='}
        json_file(source, coco((1, [flat(cat)]), (18, runs), (18, text)))
    elif kind == 'labelme':
        shapes = [shape('cat', cat), shape('e', [[4, 4], [6, 4]], 'circle')]
        json_file(folder / 'a.json', labelme(*shapes, shape('r', [[1, 1], [3, 4]], 'rectangle')))
    elif kind == 'via':
        oval = {'name': 'ellipse', 'cx': 5, 'cy': 4, 'rx': 2, 'ry': 1, 'theta': 0.3}
        entry = {'shape_attributes': oval, 'region_attributes': {'class': 'e', 'more': {'a': True}}}
        json_file(source, via(via_region(cat, {'class': 'cat'}), entry))
    elif kind == 'supervisely':
        bitmap = {'bitmap': {'data': SLY_BITMAP, 'origin': [2, 3]}}
        hole = figure('cat', exterior=cat, interior=[[[2, 2], [4, 2], [4, 4]]])
        box = figure('dog', 'rectangle', [[1, 1], [5, 4]])
        supervisely(folder, hole, box, figure('dog', 'bitmap', **bitmap))
    elif kind == 'label-studio':
        oval = {'x': 50, 'y': 50, 'radiusX': 20, 'radiusY': 10, 'rotation': 3}
        brush = {'format': 'rle', 'rle': encode_brush(SCENE > 0)}
        regions = region('ellipselabels', oval), region('brushlabels', brush)
        json_file(folder / 'project.json', [task(*regions)])
    return source


ODD = [None, True, -1, 0, 10**30, 1e308, '', 'x', '\ud800', 'a\0b', '../x', [], {}, [[]], [None]]


def mutate(path, rng):
    """Change a file: a value of a JSON, a word of a text, or bytes."""
    data = path.read_bytes()
    if path.suffix == '.json' and rng.random() < 0.7:
        at = document = json.loads(data)
        while True:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.2:
                break
            at = at[key]
        at[key] = rng.choice(ODD)
        path.write_text(json.dumps(document))
        return
    if rng.random() < 0.5:
        words = list(re.finditer(rb'[\w.-]+', data))
        word = rng.choice(words)
        odd = rng.choice([b'', b'-9', b'nan', b'1e999', b'9' * 30, b'x', b'\xff', b'&a;', b'0.5'])
        data = data[: word.start()] + odd + data[word.end() :]
    else:
        at = rng.randrange(len(data))
        data = data[:at] + rng.choice([b'', b'\0', data[at + 5 :], data[:at]])
    path.write_bytes(data)


@every_format
def test_broken_files_end_in_one_message(tmp_path, capsys, kind):
    rng = random.Random(kind)
    pristine = tmp_path / 'pristine'
    rich(pristine, kind)
    codes = []
    for k in range(25):
        folder = shutil.copytree(pristine, tmp_path / f'{k}')
        mutate(rng.choice(sorted(p for p in folder.rglob('*.*') if p.suffix != '.png')), rng)
        codes.append(convert(kind, folder, tmp_path / f'out{k}'))
        text = capsys.readouterr().err
        assert (codes[-1] == 0 and not text) or (codes[-1] == 2 and text.startswith('error: '))
    assert 2 in codes


def test_every_picture_of_a_set_gets_its_own_mask(tmp_path):
    images = [{'id': k, 'file_name': f'{k}.png', 'width': 12, 'height': 8} for k in range(40)]
    document = coco(images=images)
    for k in range(40):
        box = [[k % 9, 1], [k % 9 + 3, 1], [k % 9 + 3, 1 + k % 7], [k % 9, 1 + k % 7]]
        entry = {'id': k, 'image_id': k, 'category_id': 1, 'segmentation': [flat(box)]}
        document['annotations'].append(entry)
    # Pictures are looked for in the folder above, too: not among those of other tests.
    assert convert('coco', json_file(tmp_path / 'in/c.json', document), tmp_path / 'out') == 0
    for k in range(40):
        expected = box_mask((1, k % 9, 1, k % 9 + 3, 1 + k % 7))
        assert (mask(tmp_path / f'out/{k}.png') == expected).all()
