"""Scanning a data set: metadata, problems and the cache."""

import numpy as np
import pytest
from drawing import data_set, pair_files, scan_all
from PIL import Image

from utils.data import scan as scanning
from utils.data.class_values import check_classes, match_values
from utils.data.scan import read_pairs
from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import UserError


def scan(folder, **options):
    return scan_all(pair_files(*data_set(folder, **options)))


def test_values_and_shares_over_all_masks(tmp_path):
    result = scan(tmp_path, values=(0, 128, 255))
    assert result.values() == [0, 128, 255]
    assert sum(result.counts.values()) == 8 * 48 * 32
    assert sum(result.shares().values()) == pytest.approx(1)
    assert '0: ' in result.describe_values()
    assert 'first in disc00.png' in result.describe_values()
    assert result.metadata[0].image.size == (48, 32)


def test_the_second_scan_reads_no_picture_and_a_changed_one_again(tmp_path, monkeypatch):
    images, masks = data_set(tmp_path, 3)
    pairs = pair_files(images, masks)
    first = scan_all(pairs)
    read = []
    real = scanning.read_metadata
    monkeypatch.setattr(scanning, 'read_metadata', lambda p, *a: read.append(p.stem) or real(p, *a))
    assert scan_all(pairs) == first
    assert read == []
    Image.new('L', (48, 32), 9).save(masks / 'disc01.png')
    assert 9 in scan_all(pairs).values()
    assert read == ['disc01']


def test_colour_values_survive_the_cache(tmp_path):
    images, masks = data_set(tmp_path, 1)
    Image.fromarray(np.full((32, 48, 3), (1, 2, 3), np.uint8)).save(masks / 'disc00.png')
    pairs = pair_files(images, masks)
    assert scan_all(pairs).values() == scan_all(pairs).values() == [(1, 2, 3)]


def test_a_broken_cache_and_a_home_that_cannot_be_written_cost_only_time(
    tmp_path, monkeypatch, capsys
):
    images, masks = data_set(tmp_path, 2)
    pairs = pair_files(images, masks)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    scan_all(pairs)
    (file,) = tmp_path.glob('cache/**/*.scan')
    for broken in ('{', '[]', '{"version": 0, "pairs": {}}'):
        file.write_text(broken)
        assert scan_all(pairs).values() == [0, 255]
    blocked = tmp_path / 'file'
    blocked.write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(blocked))
    assert scan_all(pairs).values() == [0, 255]
    assert 'note: ' in capsys.readouterr().out


def test_nothing_is_written_into_the_data_set(tmp_path):
    images, masks = data_set(tmp_path, 2)
    before = sorted(p.name for folder in (images, masks) for p in folder.iterdir())
    scan_all(pair_files(images, masks))
    assert sorted(p.name for folder in (images, masks) for p in folder.iterdir()) == before


def test_every_file_that_would_stop_training_is_reported_at_once(tmp_path):
    images, masks = data_set(tmp_path, 7, image_suffix='.jpg')
    (images / 'disc00.jpg').write_bytes(b'')
    whole = (masks / 'disc01.png').read_bytes()
    (masks / 'disc01.png').write_bytes(whole[: len(whole) // 2])
    Image.new('L', (20, 10)).save(masks / 'disc02.png')
    (images / 'disc03.jpg').write_bytes((images / 'disc03.jpg').read_bytes()[:-60])
    (images / 'disc04.jpg').unlink()
    Image.new('LAB', (48, 32)).save(images / 'disc04.tif')
    (masks / 'disc05.png').unlink()
    (masks / 'disc05.png').symlink_to('nowhere.png')
    _, problems = read_pairs(pair_files(images, masks), MaskEncoding([]))
    expected = {
        'disc00': ['disc00.jpg'],
        'disc01': ['disc01.png'],
        'disc02': ['disc02.jpg', '48 x 32', 'disc02.png', '20 x 10'],
        'disc03': ['disc03.jpg', 'truncated'],
        'disc04': ['disc04.tif', 'LAB'],
        'disc05': ['disc05.png', 'No such file'],
    }
    found = {problem.pairs[0]: problem.text for problem in problems}
    assert found.keys() == expected.keys()
    for name, texts in expected.items():
        assert all(text in found[name] for text in texts), found[name]
    with pytest.raises(UserError, match=r'^6 problems with the data:'):
        scan_all(pair_files(images, masks))


def test_palette_and_grey_masks_in_one_set_are_told_apart(tmp_path):
    images, masks = data_set(tmp_path, 2)
    picture = Image.fromarray(np.ones((32, 48), np.uint8))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(masks / 'disc01.png')
    with pytest.raises(UserError, match=r'1 with a palette .*disc01\.png'):
        scan_all(pair_files(images, masks))


def test_classes_that_disagree_with_the_masks_are_explained(tmp_path):
    three = scan(tmp_path, values=(0, 128, 255))
    assert check_classes(three, None) == check_classes(three, 3) == [0, 128, 255]
    with pytest.raises(UserError) as caught:
        check_classes(three, 2)
    for text in ('3 distinct', '128: ', 'first in disc00.png', '--classes is 2', '--classes 3'):
        assert text in str(caught.value)


def test_one_class_means_two_values(tmp_path):
    assert check_classes(scan(tmp_path / 'two'), 1) == [0, 255]
    with pytest.raises(UserError, match=r'--classes is 1, .*\b2\b'):
        check_classes(scan(tmp_path / 'three', values=(0, 1, 2)), 1)


def test_masks_of_one_value_are_refused(tmp_path):
    with pytest.raises(UserError, match=r'only one value \(0: 100 %'):
        check_classes(scan(tmp_path, values=(0, 0)), None)


def test_lossy_masks_are_recognised(tmp_path):
    images, masks = data_set(tmp_path, 2)
    for path in list(masks.iterdir()):
        Image.open(path).save(path.with_suffix('.jpg'), quality=60)
        path.unlink()
    with pytest.raises(UserError, match=r'JPEG .*--binarize 127'):
        check_classes(scan_all(pair_files(images, masks)), None)


def test_a_trained_models_values_are_kept_matched_or_refused(tmp_path, capsys):
    result = scan(tmp_path, values=(0, 255))
    assert match_values(result, MaskEncoding([0, 128, 255])).values == [0, 128, 255]
    assert match_values(result, MaskEncoding([0, 1])).values == [0, 255]
    out = capsys.readouterr().out
    assert '[0, 255]' in out
    assert '[0, 1]' in out
    with pytest.raises(UserError, match=r'\[0, 1, 2\]'):
        match_values(result, MaskEncoding([0, 1, 2]))
