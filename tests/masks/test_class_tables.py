"""Class names and values from tables of other programs beside the masks."""

import json

import numpy as np
import pytest
from drawing import data_set
from PIL import Image
from running import run_train

from utils.data.dataset import SegmentationDataset
from utils.masks.classes import MaskOptions
from utils.masks.encoding import IGNORE
from utils.runtime.errors import UserError

COLOURS = {0: (0, 0, 0), 1: (128, 64, 128), 2: (64, 0, 128)}
LABELMAP = '# label:color_rgb:parts:actions\nsky:0,0,0::\nroad:128,64,128::\nmy car:64,0,128::\n'
CLASS_DICT = 'name,r,g,b\nsky,0,0,0\nroad,128,64,128\nmy car,64,0,128\n'


def write(folder, values=(0, 1, 2), colours=None, count=3):
    """Masks of discs: class numbers, or the colours of COLOURS (or others)."""
    _, masks = data_set(folder, count, values=values)
    for path in masks.iterdir() if colours else []:
        numbers = np.asarray(Image.open(path))
        table = np.zeros((256, 3), np.uint8)
        for number, colour in colours.items():
            table[number] = colour
        Image.fromarray(table[numbers]).save(path)


def put(folder, name, text, where='masks'):
    path = folder / where / name
    path.write_text(text if isinstance(text, str) else json.dumps(text, indent=1), encoding='utf-8')
    return path


def read(**options):
    return SegmentationDataset('imgs', 'masks', wanted=MaskOptions(**options))


def classes(data):
    return dict(zip(data.masks.names or [], data.masks.values, strict=False))


@pytest.mark.parametrize('where', ['masks', ''])
@pytest.mark.parametrize(
    ('name', 'text'),
    [('labelmap.txt', LABELMAP), ('labelmap.txt', LABELMAP.replace('\n', '\r\n')),
     ('labelmap.txt', '\ufeff' + LABELMAP), ('labelmap.txt', LABELMAP.split('\n', 1)[1]),
     ('class_dict.csv', CLASS_DICT), ('class_dict_seg.csv', CLASS_DICT.replace(',', ', ')),
     ('CamVid_classes.csv', 'id;class;red;green;blue\n0;sky;0;0;0\n1;road;128;64;128\n'
      '2;my car;64;0;128\n'),
     ('colors.csv', 'name,color\nsky,#000000\nroad,#804080\nmy car,#400080\n'),
     ('label_colors.txt', '0 0 0\tsky\n128 64 128\troad\n64 0 128\tmy car\n'),
     ('label_colors.txt', 'sky 0 0 0\nroad 128 64 128\nmy car 64 0 128\n'),
     ('classes.json', {'sky': [0, 0, 0], 'road': [128, 64, 128], 'my car': [64, 0, 128]}),
     ('classes.json', {'classes': [{'title': 'sky', 'shape': 'any', 'color': '#000000'},
       {'title': 'road', 'color': '#804080'}, {'title': 'my car', 'color': '#400080'}],
       'tags': []}),
     ('label_colors.json', [{'name': 'sky', 'color': [0, 0, 0]},
       {'name': 'road', 'color': [128, 64, 128]}, {'name': 'my car', 'color': [64, 0, 128]}]),
     ('obj_class_to_machine_color.json',
      {'sky': [0, 0, 0], 'road': [128, 64, 128], 'my car': [64, 0, 128]})],
)  # fmt: skip
def test_colours_have_the_names_of_a_table(folder, name, text, where):
    write(folder, colours=COLOURS)
    path = put(folder, name, text, where)
    data = read()
    assert list(classes(data).items()) == [('sky', (0, 0, 0)), ('road', (128, 64, 128)),
                                           ('my car', (64, 0, 128))]  # fmt: skip
    (line,) = [note for note in data.notes() if 'classes from' in note]
    assert line.endswith(f'{path.name}: 3 names')
    assert not any('--ignore-value' in note for note in data.notes())


@pytest.mark.parametrize('where', ['masks', ''])
@pytest.mark.parametrize(
    ('name', 'text'),
    [('_classes.csv', 'Pixel Value, Class\n0, background\n1, cat\n2, dog\n'),
     ('dataset.json', {'labels': {'0': 'background', '1': 'cat', '2': 'dog'}, 'name': 'x'}),
     ('dataset.json', {'labels': {'background': 0, 'cat': 1, 'dog': 2}, 'channel_names': {}}),
     ('dataset.json', {'labels': ['background', 'cat', 'dog']}),
     ('objectInfo150.txt', 'Idx\tRatio\tTrain\tVal\tStuff\tName\n0\t.1\t1\t1\t1\tbackground\n'
      '1\t.1\t2\t3\t0\tcat\n2\t.1\t2\t3\t0\tdog\n'),
     ('class_names.txt', '_background_\ncat\ndog\n'),
     ('id2label.json', {'0': 'background', '1': 'cat', '2': 'dog'}),
     ('labels.txt', '0 background\n1 cat\n2 dog\n'),
     ('labels.txt', 'background: 0\ncat: 1\ndog: 2\n'),
     ('classes.csv', 'id,name\n0,background\n1,cat\n2,dog\n'),
     ('labelmap.txt', 'background:0,0,0::\ncat:250,50,83::\ndog:51,221,255::\n'),
     ('class_dict.csv', 'name,r,g,b\nbackground,0,0,0\ncat,9,0,0\ndog,0,9,0\n'),
     ('label_colors.txt', '0 0 0 background\n1 1 1 cat\n2 2 2 dog')],
)  # fmt: skip
def test_numbers_have_the_names_of_a_table(folder, name, text, where):
    write(folder)
    put(folder, name, text, where)
    data = read()
    names = [name.strip('_') for name in classes(data)]
    assert (names, data.masks.values) == (['background', 'cat', 'dog'], [0, 1, 2])
    assert data.masks.background == 0


def test_the_table_of_ade20k_is_two_folders_above_its_masks(folder):
    write(folder / 'annotations', values=(0, 1, 4))
    put(
        folder,
        'objectInfo150.txt',
        'Idx\tName\n' + ''.join(f'{k}\tc{k}\n' for k in range(1, 6)),
        '',
    )
    (folder / 'annotations/masks').rename(folder / 'annotations/training')
    data = SegmentationDataset('annotations/imgs', 'annotations/training')
    assert (data.masks.names, data.masks.values) == (
        ['0', 'c1', 'c2', 'c3', 'c4', 'c5'],
        [*range(6)],
    )
    assert any(note.endswith('a class of its own: 0') for note in data.notes())
    assert any(note.endswith(': --ignore-value 0') for note in data.notes())
    left = SegmentationDataset('annotations/imgs', 'annotations/training',
                               wanted=MaskOptions(ignore_value=[0]))  # fmt: skip
    assert left.masks.names == ['c1', 'c2', 'c3', 'c4', 'c5']


def test_colours_of_palette_masks_are_found(folder):
    write(folder)
    for path in (folder / 'masks').iterdir():
        mask = Image.open(path)
        mask.putpalette([0, 0, 0, 64, 0, 128, 128, 64, 128])
        mask.save(path)
    put(folder, 'labelmap.txt', LABELMAP, '')
    assert classes(read()) == {'sky': 0, 'road': 2, 'my car': 1}


def test_equal_names_stay_two_classes(folder):
    write(folder, colours=COLOURS)
    put(folder, 'labelmap.txt', LABELMAP.replace('my car', 'road'))
    assert read().masks.names == ['sky', 'road', 'road (2)']


@pytest.mark.parametrize('name', ['Void', 'unlabelled', 'Unlabeled', '__ignore__', 'ignore'])
def test_void_does_not_count(folder, name):
    write(folder, colours=COLOURS)
    put(folder, 'class_dict.csv', CLASS_DICT.replace('sky', name))
    data = read()
    assert (list(classes(data)), data.masks.ignore) == (['road', 'my car'], [(0, 0, 0)])
    assert data.masks.background is None
    assert any(name in note and 'do not count' in note for note in data.notes())
    assert set(np.unique(data[0]['mask'])) == {0, 1, IGNORE}
    every = read(mask_values=[(0, 0, 0), (128, 64, 128), (64, 0, 128)])
    assert (every.masks.names, every.masks.ignore) == ([name, 'road', 'my car'], [])
    kept = read(background=(0, 0, 0))
    assert (kept.masks.names, kept.masks.background) == ([name, 'road', 'my car'], 0)


@pytest.mark.parametrize(
    ('numbers', 'ignored'),
    [((0, 1, 255), [255]), ((0, 128, 255), []), ((0, 9, 255), []), ((1, 2, 3), [])],
)
def test_255_is_void_beside_class_numbers_only(folder, numbers, ignored):
    write(folder, values=numbers)
    table = {f'{n}': name for n, name in zip(numbers, ('ground', 'cat', 'other'), strict=True)}
    put(folder, 'dataset.json', {'labels': table})
    assert read().masks.ignore == ignored


def test_the_only_other_class_is_no_void(folder):
    write(folder, values=(0, 1))
    put(folder, 'dataset.json', {'labels': {'unlabeled': 0, 'road': 1}})
    assert read().masks.names == ['unlabeled', 'road']


def test_own_tables_have_void_too(folder):
    write(folder)
    put(folder, 'classes.json', {'void': 0, 'cat': 1, 'dog': 2})
    data = read()
    assert (data.masks.names, data.masks.ignore) == (['cat', 'dog'], [0])
    assert any('void (value 0)' in note for note in data.notes())


def test_absent_classes_keep_their_places(folder):
    write(folder, values=(0, 2, 3))
    put(folder, '_classes.csv', 'Pixel Value, Class\n0, bg\n1, no\n2, cat\n3, dog\n4, none\n')
    data = read()
    assert data.masks.names == ['bg', 'no', 'cat', 'dog', 'none']
    assert any(note.endswith('keep their places: no, none') for note in data.notes())
    assert not any('class no ' in note for note in data.notes())
    assert read(classes=3).masks.names == ['bg', 'cat', 'dog']  # an option beats a table


def test_values_that_a_table_lacks_are_classes_and_told(folder):
    write(folder, values=(0, 1, 2, 7))
    put(folder, 'dataset.json', {'labels': {'background': 0, 'cat': 1, 'dog': 2}})
    data = read()
    assert data.masks.names == ['background', 'cat', 'dog', '7']
    assert any(note.endswith('a class of its own: 7') for note in data.notes())
    assert read(ignore_value=[7]).masks.names == ['background', 'cat', 'dog']
    assert read(ignore_value=[7, 2]).masks.names == ['background', 'cat']


def test_named_values_are_not_suspected(folder):
    write(folder, values=(0, 1, 2, 4))
    for seed, path in enumerate((folder / 'masks').iterdir()):  # squares, of which none is a rim
        squares = np.random.default_rng(seed).choice([0, 1, 2, 4], (4, 6))
        Image.fromarray(np.kron(squares, np.ones((8, 8))).astype(np.uint8)).save(path)
    put(folder, 'dataset.json', {'labels': {'background': 0, 'cat': 1, 'dog': 2}})
    data = read()
    assert data.masks.names == ['background', 'cat', 'dog', '4']
    assert not any('--ignore-value 0' in note for note in data.notes())


@pytest.mark.parametrize('table', [{'cat': 1}, {'cat': 1, 'dog': 2}])
def test_a_table_may_lack_the_background(folder, table):
    write(folder, values=(0, 1))
    put(folder, 'dataset.json', {'labels': table})
    data = read()
    assert (data.masks.names, data.masks.values) == (['0', *table], [0, *table.values()])


def test_a_table_of_other_masks_is_not_used(folder):
    write(folder, values=(0, 5, 6))
    put(folder, 'dataset.json', {'labels': {'background': 0, 'cat': 1, 'dog': 2}})
    data = read()
    assert (data.masks.names, data.masks.values) == (None, [0, 5, 6])
    assert any('dataset.json is not used' in note for note in data.notes())


def test_options_beat_a_table(folder):
    write(folder, values=(0, 1, 2))
    put(folder, 'dataset.json', {'labels': {'background': 0, 'cat': 1, 'dog': 2}})
    assert read(mask_values=[2, 0, 1]).masks.names == ['dog', 'background', 'cat']
    assert read(binarize=0).masks.names is None
    assert read(ignore_value=[2]).masks.names == ['background', 'cat']
    put(folder, 'classes.json', {'mine': 0, 'yours': 1, 'theirs': 2})
    assert read().masks.names == ['mine', 'yours', 'theirs']


def test_smoothed_masks_are_snapped_to_a_table(folder):
    write(folder, colours=COLOURS)
    for path in (folder / 'masks').iterdir():
        mask = Image.open(path)
        mask.resize((96, 64), Image.Resampling.BILINEAR).resize(mask.size).save(path)
    put(folder, 'class_dict.csv', CLASS_DICT)
    with pytest.raises(UserError):
        read()
    assert read(snap_masks=True).masks.names == ['sky', 'road', 'my car']


@pytest.mark.parametrize(
    ('name', 'text', 'line'),
    [('labelmap.txt', LABELMAP.replace('128,64,128', '128,64'), 3),
     ('labelmap.txt', LABELMAP.replace('128,64,128', '128,64,300'), 3),
     ('labelmap.txt', LABELMAP.replace('64,0,128', '0,0,0'), 4),
     ('class_dict.csv', CLASS_DICT.replace('road,128,64,128', 'road,128'), 3),
     ('class_dict.csv', CLASS_DICT.replace('128,64', 'x,64'), 3),
     ('class_dict.csv', CLASS_DICT.replace('64,0,128', '128,64,128'), 4),
     ('_classes.csv', 'Pixel Value, Class\n0, background\none, cat\n', 3),
     ('label_colors.txt', '0 0 0\tsky\n128 64 128\troad\n64 128\tcar\n', 3),
     ('dataset.json', '{"name": "x",\n "labels": {"0": "background"\n "1": "cat"}}', 3)],
)  # fmt: skip
def test_a_mistake_in_a_table_is_refused_with_its_line(folder, name, text, line):
    write(folder, colours=COLOURS)
    put(folder, name, text, '')
    with pytest.raises(UserError, match=f'{name}, line {line}: '):
        read()


@pytest.mark.parametrize(
    ('name', 'text'),
    [('dataset.json', '{"images": [1, 2]}'), ('dataset.json', '[1, 2]'), ('dataset.json', '{"a'),
     ('dataset.json', '{"labels": {"whole": [1, 2], "core": [2]}}'),
     ('dataset.json', '{"labels": {"background": 0, "whole": [1, 2, 3]}}'),
     ('dataset.json', r'{"labels": {"bad\ud800": 0, "cat": 1, "dog": 2}}'),
     ('dataset.json', '{"labels": 3}'), ('labelmap.txt', 'cat\ndog\n'), ('labelmap.txt', ''),
     ('_classes.csv', 'filename, cat, dog\na.jpg, 1, 0\nb.jpg, 0, 1\n'),
     ('labels.csv', 'id,label\n1,cat\n2,cat\n3,dog\n'), ('classes.txt', 'cat\ndog\n'),
     ('class_notes.txt', 'We met at 9 30 10 and\nlooked at 3 pictures\nof cats.'),
     ('labels.json', '{"info": {}, "images": []}'),
     ('labels.json', b'\xff\xfe\x00'.decode('latin1')),
     pytest.param('labels.csv', 'name,value\na,' + '1 2 ' * 50_000, id='long'),
     pytest.param('labels.txt', f'a {10 ** 900}\nb 2\n', id='digits'),
     ('label_1.txt', '0 0.5 0.5 0.2 0.1\n1 0.1 0.2 0.3 0.4\n')],
)  # fmt: skip
def test_other_files_are_no_tables(folder, name, text):
    write(folder)
    put(folder, name, text)
    data = read()
    assert (data.masks.names, data.masks.values) == (None, [0, 1, 2])
    assert not any(name in note for note in data.notes())


def test_check_names_the_classes_of_a_table(folder, capsys):
    write(folder, colours=COLOURS)
    put(folder, 'class_dict.csv', CLASS_DICT.replace('sky', 'Void'), '')
    assert run_train('--check', '--json', 'r.json', '-s', '1') == 0
    out = capsys.readouterr().out
    assert 'class 0 road: value [128, 64, 128]' in out
    report = json.loads((folder / 'r.json').read_text())
    assert [row['name'] for row in report['classes']] == ['road', 'my car']
    assert report['ignore'] == [[0, 0, 0]]
