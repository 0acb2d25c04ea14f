"""Label Studio: regions, brush masks in the JSON and as files, tasks and their pictures."""

import numpy as np
import pytest
from annotating import (
    BOXES,
    SCENE,
    WIDTH,
    box_mask,
    convert,
    corners,
    encode_brush,
    json_file,
    mask,
    percent,
    picture,
    region,
    task,
    write_scene,
)
from PIL import Image

from utils.annotations.formats.brush import decode_brush

CAT = region('polygonlabels', {'points': percent(corners('cat'))})


@pytest.fixture
def run(tmp_path, capsys):
    """Convert tasks; return the mask of a.png, and what was printed."""

    def convert_tasks(*tasks, code=0, name='a.png'):
        picture(tmp_path / 'in/upload/3' / name)
        json_file(tmp_path / 'in/project-3.json', list(tasks))
        assert convert('label-studio', tmp_path / 'in', tmp_path / 'out', '--overwrite') == code
        printed = capsys.readouterr()
        found = mask((tmp_path / 'out' / name).with_suffix('.png')) if code == 0 else None
        return found, printed.out + printed.err

    return convert_tasks


def brush(pixels, label='cat', value=255):
    return region('brushlabels', {'format': 'rle', 'rle': encode_brush(pixels, value)}, label)


def test_polygons_in_percent_are_drawn(tmp_path):
    source = write_scene(tmp_path / 'in', 'label-studio')
    assert convert('label-studio', source, tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/a.png') == SCENE).all()


@pytest.mark.parametrize('value', [255, 100, 1])
def test_brush_masks_are_exact(run, value):
    noise = np.random.default_rng(2).random((8, 12)) < 0.5
    assert (run(task(brush(noise, value=value)))[0] == noise).all()
    assert (run(task(brush(SCENE == 1), brush(SCENE == 2, 'dog')))[0] == SCENE).all()


def test_smoothed_edges_of_a_brush_belong_to_it_from_half_on(run):
    alpha = np.full((8, 12), 90, np.uint8)
    alpha[2:5, 3:7] = 255
    alpha[5, 3:7] = 140
    rle = encode_brush(alpha, 1)
    found, _ = run(task(region('brushlabels', {'format': 'rle', 'rle': rle})))
    assert (found == box_mask((1, 3, 2, 7, 6))).all()


def test_a_brush_mask_written_by_hand_is_read():
    """Two pixels of four values: 0 0 0 255, one by one, and then 0, repeated four times."""
    bits = (
        f'{8:032b}' '00111' '0010' '0011' '0111' '1111'
        '0' '00' '011' '00000000' '00000000' '00000000' '11111111'
        '1' '01' '0011' '00000000'
    )  # fmt: skip
    bits += '0' * (-len(bits) % 8)
    data = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    assert decode_brush(data, (2, 1), 'x').counts.tolist() == [0, 1, 1]


def test_rectangles_and_ellipses_turn_as_the_tool_turns_them(run):
    corner = {'x': 50.0, 'y': 12.5, 'width': 25.0, 'height': 25.0, 'rotation': 90}  # (6, 1), 3 x 2
    found, _ = run(task(region('rectanglelabels', corner)))
    assert (found == box_mask((1, 4, 1, 6, 4))).all()
    oval = {'x': 50.0, 'y': 50.0, 'radiusX': 100 * 5 / 12, 'radiusY': 37.5}
    found, _ = run(task(region('ellipselabels', oval)))
    y, x = np.mgrid[:8, :12] + 0.5
    assert (found == (((x - 6) / 5) ** 2 + ((y - 4) / 3) ** 2 < 1)).all()


def test_the_label_may_be_in_another_entry_of_the_region(run):
    shape = region('polygon', {'points': percent(corners('cat'))})
    del shape['value']['polygon']
    label = region('labels', {'points': percent(corners('cat'))}, 'cat')
    found, text = run(task(shape, label))
    assert (found == box_mask((1, *BOXES['cat']))).all()
    assert 'entries without a label are left out: 1' in text


def test_the_last_annotation_counts_that_is_not_cancelled(run):
    several = task(region('polygonlabels', {'points': percent(corners('dog'))}, 'dog'))
    several['annotations'] += [
        {'id': 2, 'result': [CAT]},
        {'id': 3, 'result': [brush(SCENE > 0)], 'was_cancelled': True},
    ]
    several['predictions'] = [{'result': [brush(SCENE > 0)]}]
    found, text = run(several)
    assert (found == box_mask((1, *BOXES['cat']))).all()
    assert 'tasks with several annotations, of which the last counts: 1' in text


def test_tasks_without_annotations_get_no_mask_and_empty_ones_background(run, tmp_path):
    undone = task(number=2, name='b.png') | {'annotations': []}
    text = run(task(CAT), task(number=3, name='c.png'), undone, code=2)[1]
    assert 'c.png is not there and its size is not in the file' in text
    picture(tmp_path / 'in/upload/3/c.png')
    run(task(CAT), task(number=3, name='c.png'), undone)
    assert not mask(tmp_path / 'out/c.png').any()
    assert not (tmp_path / 'out/b.png').exists()


@pytest.mark.parametrize(
    ('link', 'local'),
    [
        ('/data/upload/3/2f1c9a7b-a.png', '2f1c9a7b-a.png'),
        ('/data/upload/3/2f1c9a7b-a.png', 'a.png'),
        ('/data/local-files/?d=some%5Cfolder/my%20a.png', 'my a.png'),
        ('s3://bucket/folder/a.png', 'a.png'),
        ('https://example.org/pictures/a%20b.png?sign=1', 'a b.png'),
        ('folder/a.png', 'a.png'),
    ],
)
def test_links_lead_to_local_pictures(run, link, local):
    entry = task(CAT) | {'data': {'image': link}}
    del entry['file_upload']
    found, text = run(entry, name=local)
    assert found.any()
    assert 'not there' not in text


def test_exported_files_are_the_masks_of_tasks_without_a_result(run, tmp_path):
    entry = task(number=11, name='2f1c9a7b-img.png') | {'annotations': [{'id': 4}]}
    for number, label in ((1, 'fat-cat'), (2, 'dog')):
        pixels = np.where(number == SCENE, 255, 0).astype(np.uint8)
        pixels[0, 0] = 90  # a smoothed edge
        path = tmp_path / f'in/export/task-11-annotation-4-by-1-tag-{label}-0.png'
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(path)
    Image.fromarray(pixels).save(str(path).replace('task-11', 'task-12'))  # of another task
    found, _ = run(entry, name='2f1c9a7b-img.png')
    assert (found == np.array([0, 2, 1])[SCENE]).all()


def test_a_project_with_neither_results_nor_files_is_refused(run):
    entry = task() | {'annotations': [{'id': 4}]}
    assert 'has neither a result nor exported masks' in run(entry, code=2)[1]


BROKEN_BRUSH = [*encode_brush(SCENE > 0)[:20]]


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (CAT | {'original_width': None}, 'width is None'),
        (CAT | {'original_width': WIDTH + 1}, 'has 12 x 8 pixels and was annotated with 13 x 8'),
        (region('brushlabels', {'rle': BROKEN_BRUSH}), 'rle ends too early'),
        (region('brushlabels', {'rle': [1, 2]}), 'rle ends too early'),
        (region('brushlabels', {'rle': [0] * 40}), 'count of values is 0; expected 384'),
        (region('brushlabels', {'rle': [0, 300]}), 'expected a list of bytes'),
        (region('brushlabels', {'rle': 'abc'}), 'expected a list'),
        (region('polygonlabels', {'points': [[1, 2], [3]]}), 'pairs of numbers'),
        (region('rectanglelabels', {'x': 1, 'y': 2}), 'x y width height'),
        (region('polygonlabels', {'points': percent(corners('cat'))}, 7), 'expected a text'),
    ],
)
def test_broken_regions_are_named(run, entry, message):
    text = run(task(entry), code=2)[1]
    assert message in text
    assert 'a.png' in text or 'task 1' in text


def test_other_lists_are_refused(run, tmp_path, capsys):
    source = json_file(tmp_path / 'x/list.json', [{'image': 'a.png'}])
    assert convert('label-studio', source, tmp_path / 'out') == 2
    assert "expected Label Studio's export as JSON" in capsys.readouterr().err
