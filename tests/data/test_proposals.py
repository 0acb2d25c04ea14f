"""Where folders do not pair, the options that pair them are printed, and pair them."""

import shlex

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
    options, pairs, count = proposals_of(folder / images, folder / masks)[0]
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
