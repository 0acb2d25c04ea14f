"""Odd names, links, pipes and permissions: read literally, or one message that names the file."""

import os

import pytest
from drawing import data_set, pair_files, scan_all
from PIL import Image

from utils.data.dataset import SegmentationDataset
from utils.runtime.errors import UserError


@pytest.mark.parametrize(
    'name',
    ['x[1]', 'a b', 'v1.2.3', 'größe', '汽车', '*', '-v', "o'clock", 'a%d', 'e\u0301te', ' x', '?'],
)
def test_odd_names_are_read_literally(folder, name):
    images, masks = data_set(folder, 2, names=[name, 'other'])
    dataset = SegmentationDataset(images, masks)
    assert len(dataset) == 2
    assert dataset[0]['image'].shape == (3, 32, 48)
    assert name in {path.stem for path in images.iterdir()}


def test_names_that_look_alike_pair_whatever_their_unicode_form(tmp_path):
    images, masks = data_set(tmp_path, 1, names=['e\u0301te'])  # e and an accent
    (masks / 'e\u0301te.png').rename(masks / '\xe9te_mask.png')  # one letter
    assert len(pair_files(images, masks)) == 1


@pytest.mark.parametrize('target', ['nowhere.png', 'disc00.png'])
def test_links_to_nothing_and_to_themselves_are_reported(tmp_path, target):
    images, masks = data_set(tmp_path, 2)
    (images / 'disc00.png').unlink()
    (images / 'disc00.png').symlink_to(target)
    with pytest.raises(UserError, match=r'disc00\.png cannot be read: .*Replace it'):
        scan_all(pair_files(images, masks))


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes on this system')
def test_a_pipe_is_an_error_and_not_waited_for(tmp_path):
    images, masks = data_set(tmp_path, 2)
    (images / 'disc00.png').unlink()
    os.mkfifo(images / 'disc00.png')
    with pytest.raises(UserError, match=r'disc00\.png '):
        scan_all(pair_files(images, masks))


def test_a_file_that_may_not_be_read_is_reported(tmp_path, monkeypatch):
    images, masks = data_set(tmp_path, 2)
    real = Image.open

    def refusing(path):
        if path == images / 'disc01.png':
            raise PermissionError(13, 'Permission denied', str(path))
        return real(path)

    monkeypatch.setattr(Image, 'open', refusing)
    with pytest.raises(UserError, match=r'disc01\.png cannot be read as a picture.*Permission'):
        scan_all(pair_files(images, masks))
