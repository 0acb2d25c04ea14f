"""Stacks and volumes pair page by page, and are split, cached, checked and scored as pages."""

import gzip
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from drawing import disc, pair_files
from running import checked, run_train

import evaluate
from utils.data.cache.placement import cached
from utils.data.cache.scans import ScanCache
from utils.data.consistency import find_duplicates
from utils.data.dataset import SegmentationDataset
from utils.data.pairing.matching import Pair
from utils.data.pairing.pages import PAGES_DIFFER, PLACES_DIFFER
from utils.data.pairing.proposals import propose
from utils.data.pairing.sets import match_sets
from utils.data.splits import describe_groups, split_pairs
from utils.images import volumes
from utils.images.kept import Kept
from utils.images.pages import Page
from utils.masks.encoding import MaskEncoding
from utils.masks.joined import JoinedMask
from utils.runtime.errors import UserError


def stack(seed=0, pages=4):
    """Return images and masks (pages, 32, 48) uint8."""
    pairs = [disc(10 * seed + k, colours=1) for k in range(pages)]
    return np.stack([a[..., 0] for a, _ in pairs]), np.stack([b for _, b in pairs]).astype(np.uint8)


def write(path, values):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, photometric='minisblack')
    return path


def stacks(folder, count=3, pages=4):
    """Write `count` stacks into imgs and masks, and return both folders."""
    for k in range(count):
        images, masks = stack(k, pages)
        write(folder / f'imgs/cell{k}.tif', images)
        write(folder / f'masks/cell{k}.tif', masks)
    return folder / 'imgs', folder / 'masks'


def volume(path, values, affine=None):
    nibabel = pytest.importorskip('nibabel', reason='requirements-volumes.txt is not installed')
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), path)
    return path


def split_args(**changes):
    plain = {'fold': None, 'split': 'group', 'seed': 0, 'group_regex': None}
    return Namespace(**{**plain, 'val_images': None, 'val_list': None, 'validation': 25, **changes})


def test_the_pages_of_a_stack_pair_by_number(tmp_path):
    images, masks = stacks(tmp_path, 2)
    pairs = pair_files(images, masks)
    assert [pair.id for pair in pairs] == [f'cell{k}:{page}' for k in (0, 1) for page in range(4)]
    assert pairs[5] == Pair('cell1:1', Page(images / 'cell1.tif', 1), Page(masks / 'cell1.tif', 1))
    dataset = SegmentationDataset(images, masks)
    expected_image, expected_mask = stack(1)
    assert np.array_equal(dataset[6]['image'][0], expected_image[2])
    assert np.array_equal(dataset[6]['mask'], expected_mask[2] // 255)
    assert any('2 files of several pages' in note for note in dataset.notes())


def test_two_files_pair_whatever_their_names(tmp_path):
    images, masks = stack()
    image, mask = (
        write(tmp_path / 'train-volume.tif', images),
        write(tmp_path / 'labels.tif', masks),
    )
    assert [pair.id for pair in pair_files(image, mask)] == [f'train-volume:{k}' for k in range(4)]
    with pytest.raises(UserError, match=r'labels\.tif are one file'):
        pair_files(mask, mask)
    validation = write(tmp_path / 'v.tif', images), write(tmp_path / 'w.tif', masks)
    both = match_sets((image, mask), None, validation).pairs
    assert [pair.id for pair in both if pair.validation] == [f'validation/v:{k}' for k in range(4)]


def test_one_stack_finds_its_masks_in_its_own_folder(tmp_path):
    images, masks = stack()
    image = write(tmp_path / 'training.tif', images)
    mask = write(tmp_path / 'training_groundtruth.tif', masks)
    assert [pair.mask for pair in pair_files(image, tmp_path)] == [Page(mask, k) for k in range(4)]


def test_stacks_of_one_folder_are_proposed_by_their_names(tmp_path):
    images, masks = stack()
    for name, values in (
        ('train-volume', images),
        ('train-labels', masks),
        ('test-volume', images),
    ):
        write(tmp_path / f'{name}.tif', values)
    expected = [(tmp_path / 'train-volume.tif', tmp_path / 'train-labels.tif')]
    assert propose(tmp_path, tmp_path) == expected
    with pytest.raises(UserError, match=r'train-volume\.tif --masks \S+train-labels\.tif pairs 1'):
        match_sets((tmp_path, tmp_path), None, None)
    assert len(pair_files(*expected[0])) == 4


def test_compressed_pictures_pair_by_the_name_without_both_extensions(tmp_path):
    image, mask = disc(0)
    for name, values in (('i/im1.ppm', image), ('m/im1.ah.ppm', mask.astype(np.uint8))):
        path = tmp_path / f'{name}.gz'
        path.parent.mkdir()
        head = f'P{6 if values.ndim == 3 else 5} 48 32 255\n'.encode()
        path.write_bytes(gzip.compress(head + values.tobytes()))
    for images, masks in (
        (tmp_path / 'i', tmp_path / 'm'),
        (tmp_path / 'i/*.ppm.gz', tmp_path / 'm/*.ah.ppm.gz'),
    ):
        (pair,) = pair_files(images, masks)
        assert pair.id == 'im1'
        assert np.array_equal(
            SegmentationDataset(images, masks, mask_suffix=None)[0]['image'].permute(1, 2, 0), image
        )


def test_different_numbers_of_pages_are_one_problem_that_names_both(tmp_path):
    images, masks = stacks(tmp_path)
    write(masks / 'cell1.tif', stack(1)[1][:3])
    matching = match_sets((images, masks), None, None)
    (problem,) = matching.problems
    assert (problem.kind, problem.pairs) == (PAGES_DIFFER, ('cell1',))
    assert f'{images}/cell1.tif has 4 pages but its mask {masks}/cell1.tif 3 pages' in problem.text
    assert len(matching.pairs) == 8
    dataset = SegmentationDataset(images, masks, skip_bad=True)
    assert len(dataset) == 8


def test_a_broken_stack_is_one_problem_and_the_others_pair(tmp_path):
    images, masks = stacks(tmp_path)
    (images / 'cell0.tif').write_bytes((images / 'cell0.tif').read_bytes()[:50])
    matching = match_sets((images, masks), None, None)
    assert [problem.pairs for problem in matching.problems] == [('cell0',)]
    assert 'cell0.tif cannot be read as a picture' in matching.problems[0].text
    assert len(matching.pairs) == 8


def test_channels_of_one_picture_pair_with_a_mask_of_one_page(tmp_path):
    image, mask = stack(pages=2)
    (tmp_path / 'i').mkdir()
    tifffile.imwrite(tmp_path / 'i/a.tif', image, imagej=True, metadata={'axes': 'CYX'})
    write(tmp_path / 'm/a.tif', mask[0])
    (pair,) = pair_files(tmp_path / 'i', tmp_path / 'm')
    assert (pair.id, pair.image) == ('a', tmp_path / 'i/a.tif')
    dataset = SegmentationDataset(tmp_path / 'i', tmp_path / 'm')
    assert np.array_equal(dataset[0]['image'], image)


def test_masks_of_several_files_are_joined_page_by_page(tmp_path):
    images, masks = stack()
    write(tmp_path / 'i/a.tif', images)
    for name, part in (
        ('a_1', masks * (np.arange(48) < 24)),
        ('a_2', masks * (np.arange(48) > 23)),
    ):
        write(tmp_path / f'm/{name}.tif', part)
    pairs = pair_files(tmp_path / 'i/*.tif', tmp_path / 'm/*_*.tif')
    files = tmp_path / 'm/a_1.tif', tmp_path / 'm/a_2.tif'
    assert pairs[3].mask == JoinedMask(tuple(Page(path, 3) for path in files), (255, 255))
    assert np.array_equal(pairs[3].mask.open(), masks[3])


def test_volumes_pair_by_axial_slices_and_must_lie_at_one_place(tmp_path):
    ct, labels = stack()
    ct = ct.astype(np.int16) * 5 - 1000
    for k, shift in enumerate((0, 0, 30)):
        affine = np.diag([-0.8, -0.8, 5, 1])
        volume(tmp_path / f'i/c{k}.nii.gz', ct, affine)
        affine[0, 3] = shift
        volume(tmp_path / f'm/c{k}.nii.gz', labels.astype(np.float32) / 255, affine)
    volume(tmp_path / 'i/c3.nii.gz', ct)
    volume(tmp_path / 'm/c3.nii.gz', labels[:, :, 2:])
    (tmp_path / 'i/._c0.nii.gz').write_bytes(b'\0\5\26\7')  # of macOS
    matching = match_sets((tmp_path / 'i', tmp_path / 'm'), None, None)
    assert [pair.id for pair in matching.pairs] == [f'c{k}:{z}' for k in (0, 1) for z in range(4)]
    assert [problem.kind for problem in matching.problems] == [PLACES_DIFFER] * 2
    assert 'affines place them differently' in matching.problems[0].text
    assert '48 x 32 x 4 voxels but its mask' in matching.problems[1].text
    dataset = SegmentationDataset(tmp_path / 'i', tmp_path / 'm', skip_bad=True)
    assert dataset.masks.values == [0, 1]
    assert np.array_equal(dataset.mask(1), labels[1, ::-1, ::-1] // 255)
    assert dataset.scan.metadata[0].image.extremes[0] < 0


def test_the_pages_of_a_file_are_on_one_side_of_the_split(tmp_path):
    pairs = pair_files(*stacks(tmp_path, 4))
    sides = split_pairs(pairs, split_args())
    files = [{pairs[k].image.path for k in side} for side in sides]
    assert (len(files[0]), len(files[1]), files[0] & files[1]) == (3, 1, set())
    folds = [split_pairs(pairs, split_args(fold=f'{k}/4'))[1] for k in range(1, 5)]
    assert sorted(k for fold in folds for k in fold) == list(range(16))
    assert all(len({pairs[k].image for k in fold}) == 4 for fold in folds)
    assert all(len({pairs[k].image.path for k in fold}) == 1 for fold in folds)
    by_page = split_pairs(pairs, split_args(group_regex=r':(\d+)'))[1]
    assert len({pairs[k].image.index for k in by_page}) == 1
    assert len({pairs[k].image.path for k in split_pairs(pairs, split_args(split='random'))[1]}) > 1


def test_the_only_file_is_split_into_blocks_of_pages_and_a_note_says_so(tmp_path):
    images, masks = stacks(tmp_path, 1, pages=12)
    pairs = pair_files(images, masks)
    for seed in range(4):
        training, validation = split_pairs(pairs, args := split_args(seed=seed))
        assert validation == list(range(validation[0], validation[0] + 3))
        (note,) = describe_groups(pairs, training, args)
        assert f'cell0.tif:{validation[0]} to cell0.tif:{validation[2]}' in note
    folds = [split_pairs(pairs, split_args(fold=f'{k}/3'))[1] for k in (1, 2, 3)]
    assert sorted(folds) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert split_pairs(pairs, split_args(validation=0))[1] == []


def test_a_stack_under_two_names_is_a_duplicate_and_pages_of_one_are_not(tmp_path):
    images, _ = stack()
    one, two = (write(tmp_path / name, images) for name in ('a.tif', 'b.tif'))
    pages = [[Page(path, k) for k in range(4)] for path in (one, two)]
    assert find_duplicates(*pages) == [(one, two)]
    assert find_duplicates(pages[0][:2], pages[0][2:]) == []


def test_the_scan_is_remembered_by_page(tmp_path):
    pairs = pair_files(*stacks(tmp_path, 1))
    cache = ScanCache(pairs, MaskEncoding([]), 'decode', 1.0)
    for k, pair in enumerate(pairs):
        assert cache.get(pair) is None
        cache.put(pair, [k])
    cache.write()
    again = ScanCache(pairs, MaskEncoding([]), 'decode', 1.0)
    assert [again.get(pair) for pair in pairs] == [[0], [1], [2], [3]]


@pytest.mark.parametrize('kind', ['ram', 'disk', 'device', 'auto'])
def test_slices_of_compressed_volumes_are_cached_in_order(folder, monkeypatch, kind):
    for k in range(3):
        images, masks = stack(k, 6)
        volume(folder / f'imgs/c{k}.nii.gz', images)
        volume(folder / f'masks/c{k}.nii.gz', masks)
    dataset = SegmentationDataset(folder / 'imgs', folder / 'masks')
    monkeypatch.setattr(volumes, '_volumes', Kept(lambda volume: 1, limit=0))  # keeps two
    reads, real = [], volumes._read
    monkeypatch.setattr(volumes, '_read', lambda path: reads.append(path.name) or real(path))
    items, _ = cached(dataset, kind, 1, 0, torch.device('cpu'))
    for page in range(6):
        for k in range(3):
            items[6 * k + page]
    assert 6 <= len(reads) <= 14  # of 18 items in that order, 36


def test_labels_of_volumes_are_classes_though_they_have_16_bits(folder):
    labels = np.zeros((4, 32, 48), np.int16)
    for k in range(1, 7):
        labels[: 5 - k % 3, 4:14, 8 * k - 8 : 8 * k - 3] = k
    for k in range(3):
        volume(folder / f'imgs/c{k}.nii.gz', stack(k)[0])
        volume(folder / f'masks/c{k}.nii.gz', labels)
    dataset = SegmentationDataset(folder / 'imgs', folder / 'masks')
    assert dataset.masks.values == [*range(7)]
    assert not any('--binarize' in note for note in dataset.notes())


def test_check_names_file_and_page_of_each_item(folder, capsys):
    stacks(folder, 2)
    _, report = checked(capsys)
    assert report['pairs'] == 8
    last = report['items'][-1]
    assert (last['id'], last['image'], last['page']) == ('cell1:3', 'imgs/cell1.tif', 3)
    assert last['masks'] == [{'path': 'masks/cell1.tif', 'page': 3, 'class': None}]


def test_a_stack_trains_and_each_page_is_scored(folder, capsys):
    stacks(folder, 1)
    assert run_train('-e', '1', '-b', '2') == 0
    options = ['--images', 'imgs/cell0.tif', '--masks', 'masks/cell0.tif', '--csv', 'scores.csv']
    assert evaluate.main(['-m', 'checkpoints/best.pth', *options, '--json', 's.json']) == 0
    rows = Path('scores.csv').read_text().splitlines()[1:]
    assert sorted({row.split(',')[0] for row in rows}) == [f'cell0:{k}' for k in range(4)]
    assert len(json.loads(Path('s.json').read_text())['ranking']) == 4
