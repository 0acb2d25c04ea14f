"""Masks of different kinds in one set: normalised where that is safe, else told apart by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import data_set
from PIL import Image
from running import run_train
from test_mask_options import QUICK, refused

from utils.data.dataset import SegmentationDataset
from utils.inference.checkpoint import load_checkpoint
from utils.masks.encoding import IGNORE, MaskEncoding, to_image, to_indices
from utils.masks.metadata import snap_counts
from utils.runtime.errors import UserError


def test_palettes_and_one_bit_files_have_no_nearest_value(folder, capsys):
    _, masks = data_set(folder, 2)
    for path in masks.iterdir():
        Image.open(path).convert('1').save(path)
    for options in (['--binarize', '127'], ['--mask-values', '0,255', '--snap-masks']):
        refused(capsys, *options, naming=['one bit', 'masks/disc00.png', 'masks/disc01.png'])


def test_masks_of_two_kinds_are_told_apart_by_name(folder, capsys):
    _, masks = data_set(folder, 5)
    Image.open(masks / 'disc01.png').convert('1').save(masks / 'disc01.png')
    red = np.zeros((32, 48, 3), np.uint8)
    red[5:, :, 0] = 255
    Image.fromarray(red).save(masks / 'disc03.png')
    naming = ['1 of one bit (masks/disc01.png)', '1 in colour (masks/disc03.png)', '3 grey (']
    refused(capsys, naming=naming)


def test_grey_in_rgb_and_16_bit_among_grey_masks_are_normalised(folder):
    _, masks = data_set(folder, 3)
    expected = [item['mask'] for item in SegmentationDataset('imgs', 'masks')]
    Image.open(masks / 'disc00.png').convert('RGB').save(masks / 'disc00.png')
    wide = np.asarray(Image.open(masks / 'disc01.png')).astype(np.uint16)
    Image.fromarray(wide).save(masks / 'disc01.png')
    dataset = SegmentationDataset('imgs', 'masks')
    assert dataset.mask_values == [0, 255]
    assert all(torch.equal(dataset[k]['mask'], expected[k]) for k in range(3))


def test_palettes_that_disagree_are_an_error_unless_indices_are_meant(folder, capsys):
    _, masks = data_set(folder, 2)
    colours = [[0, 0, 0, 250, 0, 0], [250, 0, 0, 0, 0, 0]]
    for path, palette in zip(sorted(masks.iterdir()), colours, strict=True):
        picture = Image.fromarray(np.asarray(Image.open(path)) // 255)
        picture.putpalette(palette)
        picture.save(path)
    naming = ['(250, 0, 0)', '1 in masks/disc00.png', '0 in masks/disc01.png', '--mask-values']
    refused(capsys, naming=naming)
    assert run_train(*QUICK, '--mask-values', '0,1') == 0


def test_nearest_values_of_every_kind():
    grey = to_indices(np.array([[0, 60, 70, 250]], np.uint8), MaskEncoding([128, 0], snap=True), '')
    assert grey.tolist() == [[1, 1, 0, 0]]
    wide = to_indices(np.array([[-9, 40000]]), MaskEncoding([0, 30000], snap=True), '')
    assert wide.tolist() == [[0, 1]]
    colours = MaskEncoding([(0, 0, 0), (255, 0, 0)], ignore=[(0, 9, 0)], snap=True)
    pixels = np.array([[[90, 0, 0], [200, 9, 9], [0, 9, 0]]], np.uint8)
    assert to_indices(pixels, colours, '').tolist() == [[0, 1, IGNORE]]
    counts, moved = snap_counts({(90, 0, 0): 5, (255, 0, 0): 2, (0, 9, 0): 1}, colours, '')
    assert (counts, moved) == ({(0, 0, 0): 5, (255, 0, 0): 2, (0, 9, 0): 1}, 5)


def test_values_at_another_place_are_not_taken_in_order(tmp_path):
    folders = data_set(tmp_path, 2, values=(0, 2, 3))
    with pytest.raises(UserError, match=r'\[0, 1, 2\]'):
        SegmentationDataset(*folders, mask_values=[0, 1, 2])


def test_what_is_ignored_is_taken_as_grey_or_colour_as_the_masks_are(folder, capsys):
    _, masks = data_set(folder, 3)
    expected = [np.asarray(Image.open(path)) for path in sorted(masks.iterdir())]
    for path, grey in zip(sorted(masks.iterdir()), expected, strict=True):
        colours = np.array([[0, 0, 0], [255, 255, 255], [0, 0, 255]], np.uint8)
        classes = grey // 255
        classes = np.where(np.arange(48) < 24, classes, classes * 2)  # blue on the right
        Image.fromarray(colours[classes]).save(path)
    assert run_train(*QUICK, '--ignore-value', '255') == 0  # white, and not blue
    masks_read = load_checkpoint('checkpoints/last.pth').masks
    assert masks_read.values == [(0, 0, 0), (0, 0, 255)]
    assert masks_read.ignore == [(255, 255, 255)]
    dataset = SegmentationDataset('imgs', 'masks', mask_values=masks_read)
    assert ((dataset[0]['mask'] == IGNORE).numpy() == (expected[0] // 255 > 0) & (
        np.arange(48) < 24)).all()  # fmt: skip
    refused(capsys, '--ignore-value', '300', naming=['--ignore-value 300:300:300'])


def test_a_colour_cannot_be_ignored_among_greys(folder, capsys):
    data_set(folder, 2)
    for options in ((), ('--binarize', '9')):
        naming = ['--ignore-value 0:1:0 ', '[0, 255]']
        refused(capsys, *options, '--ignore-value', '0:1:0', naming=naming)
    assert run_train(*QUICK, '--ignore-value', '7:7:7') == 0
    assert load_checkpoint('checkpoints/last.pth').masks.ignore == [7]


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192]  # index 255: unlabelled


def voc_set():
    """Three discs of index 1 with an edge of index 255, as PASCAL VOC draws them."""
    _, masks = data_set(Path(), 3, values=(0, 255, 1))
    for path in masks.iterdir():
        picture = Image.fromarray(np.asarray(Image.open(path)))
        picture.putpalette(VOC)
        picture.save(path)
    return masks


@pytest.mark.parametrize('ignored', ['255', '224:224:192'])
def test_classes_of_palette_masks_are_named_by_colour(folder, ignored):
    masks = voc_set()
    (folder / 'classes.json').write_text(
        '{"cat": [0, 128, 0], "none": [0, 0, 0], "dog": [128, 0, 0]}'
    )
    assert run_train(*QUICK, '--ignore-value', ignored) == 0
    found = load_checkpoint('checkpoints/last.pth').masks
    assert (found.values, found.names, found.ignore) == ([2, 0, 1], ['cat', 'none', 'dog'], [255])
    item = SegmentationDataset('imgs', 'masks', mask_values=found)[0]['mask'].numpy()
    true = np.asarray(Image.open(masks / 'disc00.png'))
    assert np.array_equal(item, np.choose(np.minimum(true, 2), [1, 2, IGNORE]))
    written = to_image(np.array([[0, 1, 2]], np.uint8), found)
    assert np.asarray(written).tolist() == [[2, 0, 1]]
    assert np.asarray(written.convert('RGB')).tolist() == [[[0, 128, 0], [0, 0, 0], [128, 0, 0]]]


def test_a_colour_that_no_palette_has_is_named(folder, capsys):
    voc_set()
    naming = ['(128, 0, 1)', '(0, 0, 0)', '(224, 224, 192)', '--mask-values', 'indices']
    refused(capsys, '--mask-values', '0:0:0,128:0:1', naming=naming)


def test_palettes_that_disagree_are_an_error_where_colours_are_meant(folder, capsys):
    masks = voc_set()
    swapped = Image.open(masks / 'disc01.png')
    swapped.putpalette(VOC[3:6] + VOC[:3] + VOC[6:])
    swapped.save(masks / 'disc01.png')
    options = ['--mask-values', '0:0:0,128:0:0', '--ignore-value', '255']
    refused(capsys, *options, naming=['(128, 0, 0)', '1 in masks/disc00.png'])


@pytest.mark.parametrize('what', ['one colour', 'a photograph'])
def test_labels_in_alpha_are_recognised(folder, capsys, what):
    """As programs write them that cut objects out: the photograph, transparent around."""
    images, masks = data_set(folder, 3, size=(96, 64))
    for path in masks.iterdir():
        picture = Image.open(images / path.name)
        picture = picture if what == 'a photograph' else Image.new('RGB', picture.size)
        picture.putalpha(Image.open(path))
        picture.save(path)
    naming = ['3 labels in alpha:\n  masks/disc00.png: ', '0 to 255', "getchannel('A').save("]
    refused(capsys, naming=naming)
