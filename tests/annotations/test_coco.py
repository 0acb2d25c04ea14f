"""COCO: polygons, run lengths, classes, names of pictures."""

import numpy as np
import pytest
from annotating import (
    BOXES,
    SCENE,
    box_mask,
    coco,
    convert,
    corners,
    flat,
    json_file,
    mask,
    picture,
)

from utils.annotations.formats.coco import decode_counts
from utils.annotations.recognize import annotation_command

CAT, DOG = ([flat(corners(name))] for name in BOXES)
# SCENE > 0, written by pycocotools 2.0.11, and its run lengths, down the columns.
COMPRESSED = '94400002N02N000000='
RUNS = [9, 4, 4, 4, 4, 4, 4, 6, 2, 6, 4, 4, 4, 4, 4, 4, 4, 4, 17]


@pytest.fixture
def run(tmp_path, capsys):
    """Convert a document; return the mask of a.png, and what was printed."""

    def convert_document(document, code=0, name='a.png'):
        if not (tmp_path / 'in/a.png').exists():
            picture(tmp_path / 'in/a.png')
        source = json_file(tmp_path / 'in/instances.json', document)
        assert convert('coco', source, tmp_path / 'out', '--overwrite') == code
        printed = capsys.readouterr()
        return mask(tmp_path / 'out' / name) if code == 0 else None, printed.out + printed.err

    return convert_document


def test_classes_are_numbered_in_the_order_of_their_ids(run, tmp_path):
    names = ((90, 'zebra'), (2, 'dog'), (1, 'cat'))
    found, _ = run(coco((1, CAT), (2, DOG), categories=names))
    assert (found == SCENE).all()
    text = (tmp_path / 'out/classes.json').read_text()
    assert text == '{"background": 0, "cat": 1, "dog": 2, "zebra": 3}\n'


def test_annotations_by_their_ids_are_read_as_a_list_of_them(run):
    document = coco((1, CAT), (18, DOG))
    document['annotations'] = {str(entry['id']): entry for entry in document['annotations']}
    found, printed = run(document)
    assert (found == SCENE).all(), printed


def test_several_polygons_are_one_object(run):
    parts = [[1, 1, 3, 1, 3, 3, 1, 3], [6, 4, 9, 4, 9, 6, 6, 6]]
    found, _ = run(coco((1, parts)))
    assert (found == box_mask((1, 1, 1, 3, 3), (1, 6, 4, 9, 6))).all()


@pytest.mark.parametrize('counts', [RUNS, COMPRESSED], ids=['list', 'compressed'])
def test_run_lengths_are_exact(run, counts):
    found, _ = run(coco((18, {'size': [8, 12], 'counts': counts})))
    assert (found == 2 * (SCENE > 0)).all()


def test_holes_of_run_lengths_stay_and_crowds_are_drawn(run):
    hole = box_mask((1, 1, 1, 8, 7), (0, 3, 3, 5, 5))
    flips = np.flatnonzero(np.diff(hole.T.ravel(), prepend=0, append=0)).tolist()
    counts = [flips[0], *np.diff(flips).tolist(), 96 - flips[-1]]
    document = coco((1, {'size': [8, 12], 'counts': counts}))
    document['annotations'][0]['iscrowd'] = 1
    assert (run(document)[0] == hole).all()


def test_long_runs_and_falling_ones_are_decoded():
    assert decode_counts('[1Q2', 'x') == [11 + 1 * 32, 1 + 2 * 32]
    assert decode_counts('5670O', 'x') == [5, 6, 7, 6 + 0, 7 - 1]


def test_overlaps_are_said(run):
    found, text = run(coco((1, CAT), (18, DOG)))
    assert (found == SCENE).all()
    assert 'pixels of two classes, of which the later shape counts: 4 in 1 picture (a.png)' in text


def test_pictures_without_objects_are_background_and_said(run):
    found, text = run(coco(categories=((1, 'cat'),)))
    assert not found.any()
    assert 'pictures without an object, all background: 1' in text
    assert 'classes without a pixel: 1 (cat)' in text


def test_names_keep_their_folders(run, tmp_path):
    images = [
        {'id': k, 'file_name': f'{part}/b.png', 'width': 12, 'height': 8}
        for k, part in enumerate(('train', 'val'), 1)
    ]
    for image in images:
        picture(tmp_path / 'in/images' / image['file_name'])
    found, text = run(coco((1, CAT), images=images), name='train/b.png')
    assert found.any()
    assert not mask(tmp_path / 'out/val/b.png').any()
    images, out = tmp_path / 'in/images', tmp_path / 'out'
    assert text.splitlines()[-1].strip() == (
        f'python train.py --images {images}/train --masks {out}/train '
        f'--val-images {images}/val --val-masks {out}/val'
    )


def test_pictures_are_found_in_the_folder_that_the_file_is_called_after(run, tmp_path):
    for part in ('train2017', 'val2017'):
        picture(tmp_path / 'in' / part / 'c.png')
    json_file(tmp_path / 'in/annotations/instances_val2017.json', coco((1, CAT), file_name='c.png'))
    assert convert('coco', tmp_path / 'in', tmp_path / 'out') == 0
    assert (mask(tmp_path / 'out/c.png') > 0).any()
    assert run(coco((1, CAT)))[1].splitlines()[-1].strip().startswith('python train.py --images')


def test_several_files_are_one_data_set(tmp_path, capsys):
    for part, name in (('train', 'a.png'), ('valid', 'b.png')):
        picture(tmp_path / 'in' / part / name)
        group = [(0, 'animals'), (1, 'cat'), (2, 'dog')]
        document = coco((2, DOG), categories=group, file_name=name)
        for category in document['categories']:
            category['supercategory'] = 'animals' if category['id'] else 'none'
        json_file(tmp_path / 'in' / part / '_annotations.coco.json', document)
    assert convert('coco', tmp_path / 'in', tmp_path / 'out') == 0
    assert mask(tmp_path / 'out/valid/b.png').max() == 2  # 'animals' of Roboflow is no class
    assert '--val-masks' in capsys.readouterr().out


def test_instances_are_read_and_key_points_beside_them_are_not(tmp_path, capsys):
    labels = tmp_path / 'in/annotations'
    for part in ('train2017', 'val2017'):
        picture(tmp_path / 'in' / part / f'{part}.png')
        document = coco((1, CAT), file_name=f'{part}.png')
        json_file(labels / f'instances_{part}.json', document)
        json_file(labels / f'a_keypoints_{part}.json', document)
        json_file(labels / f'captions_{part}.json', document | {'categories': None})
    command = annotation_command(tmp_path / 'in/train2017', labels)
    assert command == f'python scripts/masks_from.py coco {labels} {labels}_masks'
    assert convert('coco', labels, tmp_path / 'out') == 0
    root, out = tmp_path / 'in', tmp_path / 'out'
    assert capsys.readouterr().out.splitlines()[-1].strip() == (
        f'python train.py --images {root}/train2017 --masks {out}/train2017 '
        f'--val-images {root}/val2017 --val-masks {out}/val2017'
    )


def test_missing_pictures_get_masks_by_the_size_in_the_file(run):
    found, text = run(coco((1, CAT), file_name='C:\\pictures\\gone.jpg'), name='gone.png')
    assert (found == box_mask((1, *BOXES['cat']))).all()
    assert 'masks of pictures that are not there: 1' in text


def test_no_name_leads_out_of_the_folder(run, tmp_path):
    run(coco((1, CAT), file_name='../../../up/b.png'), name='up/b.png')
    run(coco((1, CAT), file_name='/etc/b.png'), name='b.png')
    assert not (tmp_path / 'up').exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'width': 13}, 'has 12 x 8 pixels and was annotated with 13 x 8'),
        ({'width': None, 'file_name': 'gone.png'}, 'its size is not in the file'),
        ({'width': 10**9}, 'width is 1000000000; expected a number of pixels'),
        ({'width': 10**6, 'height': 10**6}, 'expected at most'),
        ({'file_name': 3}, 'file_name is 3; expected a text'),
        ({'file_name': 'a' * 300}, 'cannot be the name of a file'),
    ],
)
def test_pictures_that_cannot_be_used_are_named(run, change, message):
    assert message in run(coco((1, CAT), **change), code=2)[1]


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ({'size': [8, 12], 'counts': [90, 7]}, 'sum of run lengths is 97; expected 96'),
        ({'size': [8, 12], 'counts': [-4, 100]}, 'a list of run lengths'),
        ({'size': [12, 8], 'counts': [96]}, 'expected (12, 8), that of the picture'),
        ({'size': [8, 12], 'counts': COMPRESSED[:-1] + 'z'}, 'compressed run lengths'),
        ({'size': [8, 12], 'counts': COMPRESSED + 'o'}, 'compressed run lengths'),
        ([[1, 1, 2]], 'pairs of numbers'),
        ([[1, 1, 2, 2, 1e300, 4]], 'numbers of pixels'),
        ([[1, 1, 2, 2, 'x', 4]], 'pairs of numbers'),
        ('polygon', 'expected a list'),
    ],
)
def test_broken_segmentations_are_named(run, value, message):
    text = run(coco((1, value)), code=2)[1]
    assert 'annotation 1: segmentation' in text
    assert message in text


def test_boxes_without_outlines_are_refused_or_counted(run):
    assert 'has boxes only (1 objects)' in run(coco((1, [])), code=2)[1]
    _, text = run(coco((1, CAT), (1, []), (1, [[1, 1, 2, 2]])))
    assert 'objects with a box but no outline are left out: 1' in text
    assert 'outlines of fewer than three points are left out: 1' in text


def test_unknown_ids_are_named(run):
    document = coco((5, CAT))
    assert 'category_id is 5; expected one of the ids: 1, 18' in run(document, code=2)[1]
    document = coco((1, CAT))
    document['annotations'][0]['image_id'] = None
    assert 'image_id is None; expected one of the ids: 7' in run(document, code=2)[1]


def test_two_pictures_of_one_mask_are_refused(run):
    images = [
        {'id': k, 'file_name': name, 'width': 12, 'height': 8}
        for k, name in enumerate(('b.jpg', 'b.png'))
    ]
    assert 'would both become b.png' in run(coco((1, CAT), images=images), code=2)[1]


def test_more_classes_than_masks_hold_are_refused(run):
    names = [(k, f'class {k}') for k in range(254)]
    assert '254 classes' in run(coco((1, CAT), categories=names), code=2)[1]
