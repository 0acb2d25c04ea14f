"""Where folders do not pair, the options that pair them are printed, and pair them."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from drawing import disc
from PIL import Image

import train
from utils.data.pairing.proposals import propose
from utils.data.pairing.sets import match_sets
from utils.masks.likeness import label_likeness
from utils.runtime.errors import UserError, data_error

# Layouts of public data sets: (image, mask) of each index, and the folders that a user names.
LAYOUTS = {
    'DRIVE': (('images/2{}_training.png', '1st_manual/2{}_manual1.gif'), 'images', '1st_manual'),
    'Cell Tracking': (('01/t00{}.tif', '01_ST/SEG/man_seg00{}.tif'), '01', '01_ST/SEG'),
    'Cityscapes': (
        ('left/ab/ab_0{}_leftImg8bit.png', 'fine/ab/ab_0{}_gtFine_ids.png'),
        'left', 'fine',
    ),
    'science bowl': (('all/a{0}/images/a{0}.png', 'all/a{0}/masks/f3{0}.png'), 'all', 'all'),
    'extension': (('all/a{}.jpg', 'all/a{}.png'), 'all', 'all'),
    'prefix': (('i/img_0{}.png', 'm/gt_0{}.png'), 'i', 'm'),
    'one level apart': (('i/a{}.png', 'm/deep/a{}.png'), 'i', 'm'),
    'nnU-Net': (('imagesTr/hip_00{}_0000.png', 'labelsTr/hip_00{}.png'), 'imagesTr', 'labelsTr'),
    'mixed folders': (('d/a{}/scan.png', 'd/a{}/label.png'), 'd', 'd'),
    'TNBC': (('d/Slide_0{0}/0{0}_1.png', 'd/GT_0{0}/0{0}_1.png'), 'd', 'd'),
    'PH2': (('d/I{0}/I{0}_Dermo/I{0}.png', 'd/I{0}/I{0}_lesion/I{0}_lesion.png'), 'd', 'd'),
    'forest': (('i/1{0}_sat_0{0}.png', 'm/1{0}_mask_0{0}.png'), 'i', 'm'),
    'SegTHOR': (('d/Patient_{0}/Patient_{0}.png', 'd/Patient_{0}/GT.png'), 'd', 'd'),
}  # fmt: skip


def draw(folder, image_name, mask_name, index):
    image, mask = disc(index, (48, 32))
    noise = np.random.default_rng(index).integers(0, 60, image.shape)
    for name, array in ((image_name, image // 2 + noise), (mask_name, mask)):
        path = folder / name.format(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(path)


def proposals_of(images, masks, suffix=None):
    """Return what the message proposes: words of options, pairs, images."""
    try:
        text = str(data_error([], match_sets((images, masks), suffix, None).proposals))
    except UserError as error:
        text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.startswith('  --')]
    return [(shlex.split(line)[:-4], line.split()[-3], line.split()[-1]) for line in lines]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_first_proposal_pairs_all(folder, layout):
    names, images, masks = LAYOUTS[layout]
    for index in range(4):
        draw(folder, *names, index)
    proposed = proposals_of(folder / images, folder / masks)
    assert proposed
    options, pairs, count = proposed[0]
    assert (pairs, count) == ('4', '4')
    args = train.get_args(options)
    found = match_sets((args.images, args.masks), None, None)
    assert not found.problems
    assert [pair.image for pair in found.pairs] == [
        folder / names[0].format(index) for index in range(4)
    ]
    for index, pair in enumerate(found.pairs):
        mask = pair.mask if layout != 'science bowl' else pair.mask.paths[0]
        assert mask == folder / names[1].format(index)


def test_a_subset_of_masks_is_paired_by_leaving_the_others_out(folder):
    for index in range(5):
        draw(folder, 'i/t{}.png', 'm/seg{}.png', index)
    for index in (0, 3, 4):
        (folder / f'm/seg{index}.png').unlink()
    options, pairs, count = proposals_of(folder / 'i', folder / 'm')[0]
    assert (options[-1], pairs, count) == ('--skip-bad', '2', '5')
    draw(folder, 'i/t{}.png', 'm/t{}.png', 4)  # a mask of the image's own name
    (folder / 'm/seg1.png').unlink()
    (folder / 'm/seg2.png').unlink()
    proposed = proposals_of(folder / 'i', folder / 'm')
    assert [(words[-1], pairs) for words, pairs, _ in proposed] == [('--skip-bad', '1')]


def test_annotators_and_kinds_of_masks_are_each_proposed(folder):
    for index in range(3):
        for ending in ('_1stHO', '_2ndHO'):
            draw(folder, 'd/Image_0{}L.jpg', f'd/Image_0{{}}L{ending}.png', index)
    proposed = proposals_of(folder / 'd', folder / 'd')
    assert {words[3].rpartition('/')[2] for words, _, _ in proposed} == {
        '*_1stHO.png',
        '*_2ndHO.png',
    }


def test_folders_named_after_classes_are_proposed_as_classes(folder):
    for index in range(4):
        draw(folder, 'i/a{}.png', 'm/cat/a{}.png' if index % 2 else 'm/dog/a{}.png', index)
    options, pairs, _ = proposals_of(folder / 'i', folder / 'm')[0]
    assert pairs == '4'
    assert options[3].endswith('m/{class}/*.png')


def test_folders_of_one_mask_each_are_no_classes(folder):
    for index in range(4):
        draw(folder, 'd/p{0}/p{0}_t1.png', 'd/p{0}/p{0}_seg.png', index)
        draw(folder, 'd/p{0}/p{0}_t2.png', 'd/p{0}/p{0}_seg.png', index)
    options = [words for words, _, _ in proposals_of(folder / 'd', folder / 'd')]
    assert len(options) == 2
    assert not any('{class}' in word for words in options for word in words)


def draw_parts(folder, image, masks, indices=range(4)):
    """Write images and binary masks of a left and a right part, of names with {} for the index."""
    for index in indices:
        draw(folder, image, masks[0], index)
        for side, name in zip((slice(0, 16), slice(16, 32)), masks, strict=True):
            part = np.zeros((32, 48), np.uint8)
            part[8:24, side] = 255
            path = folder / name.format(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part).save(path)


SEVERAL = {  # names of images and of two masks of each, the pattern of the masks, and its classes
    'numbers': ('i/a{}.png', ('m/a{}_1.png', 'm/a{}_2.png'), 'm/*_*.png', []),
    'classes': ('i/a{}.png', ('m/a{}_cat.png', 'm/a{}_dog.png'), 'm/*_{class}.png', ['cat', 'dog']),
    'classes and numbers': (
        'i/a_{}.jpg', ('m/a_{0}_cat_7{0}.png', 'm/a_{0}_dog_8{0}.png'), 'm/*_{class}_*.png',
        ['cat', 'dog'],
    ),
    'one folder': (
        'i/a ({}).png', ('i/a ({})_mask.png', 'i/a ({})_mask_1.png'), 'i/*_mask*.png', []
    ),
    'folders': ('i/a{}.png', ('m/cat/a{}.png', 'm/dog/a{}.png'), 'm/{class}/*.png', ['cat', 'dog']),
    'a folder of each image': (
        'i/a{}.png', ('m/a{}/cat.png', 'm/a{}/dog.png'), 'm/*/{class}.png', ['cat', 'dog']
    ),
    'folders and endings': (
        'i/a{}.jpg', ('m/cat/a{}_C.png', 'm/dog/a{}_D.png'), 'm/{class}/*_*.png', ['cat', 'dog']
    ),
}  # fmt: skip


@pytest.mark.parametrize('layout', SEVERAL)
def test_the_first_proposal_joins_all_masks_of_an_image(folder, layout):
    image, masks, pattern, classes = SEVERAL[layout]
    (folder / 'm').mkdir(exist_ok=True)
    draw_parts(folder, image, masks)
    proposed = proposals_of(folder / 'i', folder / masks[0][0])
    assert proposed
    options, pairs, count = proposed[0]
    assert options[3] == str(folder / pattern)
    assert (pairs, count) == ('4', '4')
    args = train.get_args(options)
    found = match_sets((args.images, args.masks), None, None)
    assert found.class_names == classes
    for index, pair in enumerate(found.pairs):
        assert list(pair.mask.paths) == [folder / name.format(index) for name in masks]


def test_masks_left_out_of_images_that_have_another_are_proposed_to_be_joined(folder):
    draw_parts(folder, 'i/a{}.png', ('m/a{}_mask.png', 'm/a{}_mask_1.png'))
    for index in (0, 2):
        (folder / f'm/a{index}_mask_1.png').unlink()
    notes = match_sets((folder / 'i', folder / 'm'), None, None).notes
    assert 'to join all masks' in notes[-1]
    options = shlex.split(notes[-1].partition('an image: ')[2])
    args = train.get_args(options)
    found = match_sets((args.images, args.masks), None, None)
    assert [len(pair.mask.paths) for pair in found.pairs] == [1, 2, 1, 2]


def test_masks_of_other_kinds_are_not_proposed_to_be_joined(folder):
    for index in range(4):
        draw(folder, 'i/a{}.png', 'm/a{}_mask.png', index)
        image = Image.open(folder / f'i/a{index}.png')
        image.save(folder / f'm/a{index}_mask_overlay.png')
    matching = match_sets((folder / 'i', folder / 'm'), None, None)
    assert not any('join' in note for note in matching.notes)


@pytest.mark.parametrize('kind', ['a class within another', 'inverse'])
def test_masks_that_would_hide_each_other_are_not_proposed_to_be_joined(folder, kind):
    draw_parts(folder, 'i/a{}.png', ('m/a{}_cup.png', 'm/a{}_disc.png'))
    for index in range(4):
        disc = np.asarray(Image.open(folder / f'm/a{index}_disc.png'))
        other = 255 - disc if kind == 'inverse' else disc * (np.arange(48) < 20)
        Image.fromarray(other.astype(np.uint8)).save(folder / f'm/a{index}_cup.png')
    patterns = [options[3] for options, _, _ in proposals_of(folder / 'i', folder / 'm')]
    expected = ['*_{class}.png'] if kind == 'inverse' else []
    assert [Path(p).name for p in patterns] == [*expected, '*_cup.png', '*_disc.png']


def test_proposals_say_how_many_images_they_leave_out(folder):
    for index in range(3):
        draw(folder, 'i/case_org_{}.png', 'm/case_{}.png', index)
        draw(folder, 'i/other-{}-x.png', 'm/y_{}.png', index)
    assert [(pairs, count) for _, pairs, count in proposals_of(folder / 'i', folder / 'm')][:1] == [
        ('3', '6')
    ]


def test_a_mask_drawn_onto_the_picture_is_the_last_to_be_proposed_as_an_image(folder):
    for index in range(3):
        draw(folder, 'd/mask overlay/a{}.png', 'd/mask/a{}.png', index)
        draw(folder, 'd/tissue/a{}.png', 'd/mask/a{}.png', index)
    proposed = proposals_of(folder / 'd', folder / 'd')
    assert ['overlay' in options[1] for options, _, _ in proposed] == [False, True]


def test_a_number_of_a_folder_that_is_an_image_by_chance_pairs_nothing(folder):
    draw_parts(folder, 'i/{}.png', ('m/0/0000{}_l.png', 'm/0/0000{}_r.png'), range(9))
    assert proposals_of(folder / 'i', folder / 'm') == []
    assert proposals_of(folder / 'i', folder / 'm/0') == []


@pytest.mark.parametrize('step', [1, 4])
def test_pictures_of_few_deep_values_look_like_labels_only_in_areas(folder, step):
    noise = np.random.default_rng(0).integers(0, 200, (32, 48)).astype(np.uint16) * step
    areas = (np.arange(32)[:, None] // 8 * 6 + np.arange(48) // 8).astype(np.uint16) * step
    for name, values in (('noise', noise), ('areas', areas)):
        Image.fromarray(values).save(folder / f'{name}.tif')
    assert label_likeness(folder / 'noise.tif') == 0
    assert label_likeness(folder / 'areas.tif') == 0.8


def test_pictures_are_never_proposed_as_masks(folder):
    noise = np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)
    for index in range(4):
        for name in (f'i/a{index}.png', f'm/b{index}.png'):
            (folder / name).parent.mkdir(exist_ok=True)
            Image.fromarray(noise).save(folder / name)
    assert propose(folder / 'i', folder / 'm') == []
