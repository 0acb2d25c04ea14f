"""Run lengths of Kaggle's competitions: columns, classes, which way runs go, mistakes in them."""

import csv

import numpy as np
import pytest
from annotating import (
    SCENE,
    box_mask,
    convert,
    csv_file,
    json_file,
    mask,
    picture,
    runs,
    via,
    write_scene,
)

from utils.annotations.fitting import distances
from utils.annotations.formats.run_columns import begins_with_runs
from utils.annotations.formats.runs import parse_runs
from utils.annotations.recognize import annotation_command
from utils.masks.rle import write_submission
from utils.runtime.errors import UserError

WIDE = (40, 20)  # not square: distances of runs tell which way they go
BOX = (1, 3, 2, 24, 15)  # of 21 x 13 pixels
HIGH = box_mask(BOX, size=WIDE)


@pytest.fixture
def run(tmp_path, capsys):
    """Convert a table of pictures a and b; return the mask of a, and what was printed."""

    def convert_table(header, *rows, code=0, size=(12, 8), more=(), names=('a.png',)):
        for name in names:
            picture(tmp_path / 'in/train' / name, size)
        source = csv_file(tmp_path / 'in/train.csv', header, *rows)
        assert convert('runs', source, tmp_path / 'out', '--overwrite', *more) == code
        printed = capsys.readouterr()
        return mask(tmp_path / 'out/a.png') if code == 0 else None, printed.out + printed.err

    return convert_table


def classes(tmp_path):
    return (tmp_path / 'out/classes.json').read_text().strip()


def test_runs_count_from_one_down_the_columns(run):
    # 8 pixels high: numbers 1 to 3 are in the first column, 10 and 11 in the second.
    found, text = run('ImageId,EncodedPixels', ('a.png', '1 3 10 2'))
    assert (found == box_mask((1, 0, 0, 1, 3), (1, 1, 1, 2, 3))).all()
    assert 'taken to go down the columns; with --by-row, along the rows: 1 (' in text


def test_the_option_reads_them_along_the_rows(run):
    found, text = run('ImageId,EncodedPixels', ('a.png', '1 3 14 2'), more=['--by-row'])
    assert (found == box_mask((1, 0, 0, 3, 1), (1, 1, 1, 3, 2))).all()
    assert 'note' not in text


def test_a_part_of_the_pictures_is_enough(tmp_path, run):
    rows = [('a.png', '1 3'), ('gone.png', '1 3'), ('gone.png', '9 2'), ('b.png', '')]
    found, text = run('ImageId,EncodedPixels', *rows)
    assert found.sum() == 3
    assert 'note: pictures that are not there are left out: 2 (gone.png, and others)' in text
    assert [path.name for path in (tmp_path / 'out').glob('*.png')] == ['a.png']
    (tmp_path / 'in/train/a.png').unlink()
    text = run('ImageId,EncodedPixels', *rows, code=2, names=())[1]
    assert 'the picture a.png is not there and its size is not in the file' in text


def test_the_option_is_refused_for_other_formats(tmp_path, capsys):
    source = write_scene(tmp_path / 'in', 'coco')
    with pytest.raises(SystemExit) as stop:
        convert('coco', source, tmp_path / 'out', '--by-row')
    assert stop.value.code == 2
    assert '--by-row is about run lengths' in capsys.readouterr().err


def test_ships_of_a_picture_are_joined_and_an_empty_cell_is_background(run, tmp_path):
    rows = ('a.png', '1 2'), ('b.png', ''), ('a.png', '9 2'), ('c.png', '-1')
    found, _ = run('ImageId,EncodedPixels', *rows, names=('a.png', 'b.png', 'c.png'))
    assert (found == box_mask((1, 0, 0, 2, 2))).all()
    assert not mask(tmp_path / 'out/b.png').any()
    assert not mask(tmp_path / 'out/c.png').any()
    assert classes(tmp_path) == '{"background": 0, "object": 1}'


def test_classes_are_in_the_order_of_their_numbers(run, tmp_path):
    rows = ('a.png', 10, '1 1'), ('a.png', 2, '2 1'), ('a.png', 1, '')
    found, _ = run('ImageId,ClassId,EncodedPixels', *rows)
    assert classes(tmp_path) == '{"background": 0, "1": 1, "2": 2, "10": 3}'
    assert found[:3, 0].tolist() == [3, 2, 0]


@pytest.mark.parametrize('header', ['ImageId_ClassId,EncodedPixels', 'Image_Label,EncodedPixels'])
def test_the_class_follows_the_last_underscore(tmp_path, run, header):
    rows = ('a_b.png_Fish', ''), ('a.png_Sugar', '1 2'), ('a.png_Fish', '3 1')
    found, _ = run(header, *rows, names=('a.png', 'a_b.png'))
    assert classes(tmp_path) == '{"background": 0, "Fish": 1, "Sugar": 2}'
    assert found[:4, 0].tolist() == [2, 2, 1, 0]


def test_what_predict_writes_is_read_back(tmp_path):
    """--rle writes Carvana's form, along the rows, here of a square picture."""
    from utils.masks.rle import encode_rle

    true = box_mask((1, 2, 1, 7, 4), size=(8, 8))
    picture(tmp_path / 'train/a.png', (8, 8))
    write_submission([('a.png', encode_rle(true))], tmp_path / 'train_masks.csv')
    assert convert('runs', tmp_path / 'train_masks.csv', tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == true).all()


@pytest.mark.parametrize(
    ('header', 'cells', 'order'),
    [
        ('id,rle_mask', (), 'F'),  # TGS salt
        ('id,rle', (), 'F'),  # HuBMAP
        ('id,encoding', (), 'F'),
        ('img,rle_mask', (), 'C'),  # Carvana
        ('id,annotation,width,height,cell_type', (8, 8, 'cort'), 'C'),  # Sartorius
    ],
)
def test_columns_of_competitions_tell_which_way_runs_go(run, header, cells, order):
    true = box_mask((1, 2, 1, 7, 4), size=(8, 8))
    found, text = run(header, ('a', runs(true, order), *cells), size=(8, 8))
    assert (found == true).all()
    assert ('--by-row' in text) == (order == 'F')


@pytest.mark.parametrize('header', ['ImageId,EncodedPixels', 'img,rle_mask'])
@pytest.mark.parametrize('order', ['F', 'C'])
def test_distances_of_runs_tell_which_way_they_go(run, header, order):
    found, text = run(header, ('a.png', runs(HIGH, order)), size=WIDE)
    assert (found == HIGH).all()
    expected = (order == 'C') != (header == 'img,rle_mask')
    assert ('as their distances show: 1 (' in text) == expected


def test_the_distances_are_counted():
    # The runs of a box of 21 columns and 13 rows begin 20 pixels apart, or 40.
    lengths = parse_runs(runs(HIGH, 'F'), '')
    assert distances(lengths, WIDE) == (20, 0)
    assert distances(parse_runs(runs(HIGH, 'C'), ''), WIDE) == (0, 12)
    assert distances(lengths, (20, 20)) == (0, 0)
    assert distances(lengths, (26, 20)) == (0, 0)  # a leaning outline could tell as much


def test_the_size_in_the_file_makes_masks_without_pictures(run, tmp_path):
    header = 'id,annotation,width,height,cell_type'
    row = ('z', runs(SCENE > 1, 'C'), 12, 8, 'astro')
    run(header, ('a', '1 2', 12, 8, 'cort'), row)
    assert (mask(tmp_path / 'out/z.png') == (SCENE > 1)).all()


def test_slices_of_uw_madison_are_found_by_case_and_day(tmp_path):
    rows = []
    for case, day in ((2, 1), (2, 2), (12, 1)):
        name = f'case{case}/case{case}_day{day}/scans/slice_0001_8_8_1.50_1.50.png'
        picture(tmp_path / 'in/train' / name, (8, 8))
        rows += [(f'case{case}_day{day}_slice_0001', 'stomach', f'{case} {day}')]
    source = csv_file(tmp_path / 'in/train.csv', 'id,class,segmentation', *rows)
    assert convert('runs', source, tmp_path / 'out') == 0
    for case, day in ((2, 1), (2, 2), (12, 1)):
        name = f'case{case}/case{case}_day{day}/scans/slice_0001_8_8_1.50_1.50.png'
        expected = np.zeros(64)
        expected[case - 1 : case - 1 + day] = 1
        assert (mask(tmp_path / 'out' / name).ravel() == expected).all()


def test_of_pictures_and_masks_of_a_name_the_picture_is_meant(tmp_path):
    for folder, width in (('images', 8), ('masks', 9)):
        picture(tmp_path / 'in/train' / folder / 'a.png', (width, 8))
    source = csv_file(tmp_path / 'in/train.csv', 'id,rle_mask', ('a', '1 2'))
    assert convert('runs', source, tmp_path / 'out') == 0
    assert mask(tmp_path / 'out/a.png').shape == (8, 8)


@pytest.mark.parametrize(
    ('cell', 'message'),
    [
        ('1 3 5', 'count of numbers is 3; expected an even one, a length for each start'),
        ('1 x', "in the runs is 'x'; expected whole numbers"),
        ('1.5 2', "in the runs is '1.5'; expected whole numbers"),
        ('0 3', 'start is 0; expected a whole number from 1'),
        ('4 -3', 'length is -3; expected a whole number from 0'),
        ('1 5 4 2', 'a run starts at 4 and the one before it ends at 5; expected runs in order'),
        ('95 3', 'the last run ends at pixel 97, and a.png has 96 (12 x 8)'),
        ('99999999999999999999 1', 'expected whole numbers'),
    ],
)
def test_mistakes_name_file_and_line(run, tmp_path, cell, message):
    _, text = run('ImageId,EncodedPixels', ('a.png', '1 1'), ('a.png', cell), code=2)
    assert f'{tmp_path}/in/train.csv: line 3: ' in text
    assert message in text
    assert not (tmp_path / 'out').exists()


def test_all_mistakes_are_listed(run):
    rows = ('a.png', '1'), ('a.png', '1 2', 'more'), ('', '1 2')
    _, text = run('ImageId,EncodedPixels', *rows, code=2)
    assert 'error: 3 problems with the data:' in text
    assert 'line 3: number of cells is 3; expected 2, as in line 1' in text
    assert "line 4: picture is ''; expected a text" in text


def test_rows_of_a_picture_agree_on_its_size(run):
    rows = ('a', '1 2', 12, 8), ('a', '1 2', 12, 9)
    _, text = run('id,annotation,width,height', *rows, code=2)
    assert 'line 3: size is (12, 9); expected (12, 8), as in other rows of a' in text


def test_a_table_of_something_else_is_refused(run):
    _, text = run('name,age', ('a', 3), code=2)
    assert "has the columns 'name,age'; expected a CSV file with columns for pictures" in text


def test_cells_may_be_longer_than_pythons_limit_which_is_kept(run):
    limit = csv.field_size_limit()
    cell = ' '.join(f'{2 * k + 1} 1' for k in range(20_000))
    assert len(cell) > limit > 100_000
    found, _ = run('id,rle', ('a', cell), size=(200, 200))
    assert found.sum() == 20_000
    assert csv.field_size_limit() == limit


def test_sample_submissions_of_a_folder_are_left_out(tmp_path, capsys):
    picture(tmp_path / 'in/a.png')
    csv_file(tmp_path / 'in/train.csv', 'id,rle', ('a', '1 2'))
    csv_file(tmp_path / 'in/sample_submission.csv', 'id,rle', ('test', '1 1'))
    assert convert('runs', tmp_path / 'in', tmp_path / 'out') == 0
    assert 'sample submissions are left out: 1 (sample_submission.csv)' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('name', 'header', 'row'),
    [
        ('train_ship_segmentations_v2.csv', 'ImageId,EncodedPixels', ('a.png', '')),
        ('train.csv', 'ImageId,ClassId,EncodedPixels', ('a.png', 3, '1 2')),
        ('train.csv', 'ImageId_ClassId,EncodedPixels', ('a.png_3', '1 2')),
        ('stage1_train_labels.csv', 'ImageId,EncodedPixels', ('a', '1 2')),
    ],
)
def test_tables_beside_the_pictures_are_recognised(tmp_path, name, header, row):
    picture(tmp_path / 'train_images/a.png')
    source = csv_file(tmp_path / name, header, row)
    csv_file(tmp_path / 'stage1_sample_submission.csv', header, row)
    expected = f'python scripts/masks_from.py runs {source} {tmp_path}_masks'
    for masks in (source, tmp_path, tmp_path / 'train_images', tmp_path / 'none'):
        assert annotation_command(tmp_path / 'train_images', masks) == expected


def test_lists_of_pictures_are_not_taken_for_runs(tmp_path):
    csv_file(tmp_path / 'list.csv', 'image,annotation', ('a.png', 'a_mask.png'))
    json_file(tmp_path / 'more/via.json', via())
    assert annotation_command(tmp_path / 'none', tmp_path / 'list.csv') is None
    assert not begins_with_runs(['image,mask', 'a.png,1 2'])
    assert begins_with_runs(['id,rle', 'a,', 'b,3 4'])


def test_runs_that_touch_are_one():
    assert parse_runs('3 2 5 1', '').tolist() == [2, 2, 0, 1]
    with pytest.raises(UserError, match='SIIM-ACR'):
        parse_runs('500 10 54 10', '')
