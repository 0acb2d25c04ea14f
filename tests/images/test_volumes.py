"""NIfTI volumes are read as axial slices, whatever the order of their axes."""

import gzip
import itertools
import sys

import numpy as np
import pytest

from utils.images import volumes
from utils.images.decoding import open_picture
from utils.images.metadata import page_count, pages_of, read_header, read_metadata
from utils.images.pages import Page
from utils.images.volumes import apart, as_stored, read_volume_header
from utils.masks.encoding import MaskEncoding, load_mask
from utils.runtime import cgroups
from utils.runtime.errors import UserError

nibabel = pytest.importorskip('nibabel', reason='volumes need nibabel (requirements-volumes.txt)')

CT = np.random.default_rng(0).integers(-1000, 2000, (7, 6, 5)).astype(np.int16)  # (X, Y, Z), RAS


def save(path, values, affine=None, **header):
    """Write a volume; affine: None for a file that does not tell its orientation."""
    image = nibabel.Nifti1Image(values, affine)
    if header:
        image.header.set_slope_inter(**header)
    nibabel.save(image, path)
    return path


def slices(path):
    return np.stack([open_picture(page) for page in pages_of(path)])


def test_slices_are_axial_and_upright_whatever_the_files_orientation(tmp_path):
    path = tmp_path / 'a.nii.gz'
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turns = np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)])
            stored = nibabel.orientations.apply_orientation(CT, turns)
            affine = nibabel.orientations.inv_ornt_aff(turns, CT.shape)
            save(path, stored, np.diag([0.8, 0.9, 5, 1]) @ affine)
            assert nibabel.aff2axcodes(nibabel.load(path).affine) != () and page_count(path) == 5
            assert np.array_equal(slices(path), CT.transpose(2, 1, 0))
            assert np.array_equal(as_stored(slices(path), path), stored)


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz'])
def test_a_file_without_orientation_is_taken_as_it_is(tmp_path, name):
    path = save(tmp_path / name, CT)
    assert np.array_equal(slices(path), CT.transpose(2, 1, 0))
    assert read_volume_header(path).affine is None
    metadata = read_metadata(Page(path, 0))
    assert (metadata.size, metadata.mode, metadata.channels) == ((7, 6), 'int16', 1)
    assert metadata.extremes == (CT[..., 0].min(), CT[..., 0].max())
    assert read_header(Page(path, 0)).size == (7, 6)


def test_integers_stay_integers_unless_they_are_scaled(tmp_path):
    scaled = save(tmp_path / 'a.nii', CT, slope=0.5, inter=-10)
    found = slices(scaled)
    assert found.dtype == np.float32
    assert np.allclose(found, (CT * 0.5 - 10).transpose(2, 1, 0))
    assert slices(save(tmp_path / 'b.nii', CT, slope=1, inter=0)).dtype == np.int16
    for stored, expected in ((np.int8, np.int16), (np.uint8, np.uint8), (np.int32, np.int32)):
        path = save(tmp_path / f'{expected.__name__}.nii.gz', (CT % 100).astype(stored))
        assert slices(path).dtype == expected
    wide = nibabel.Nifti1Image((CT % 100).astype(np.int64), None, dtype=np.int64)
    nibabel.save(wide, tmp_path / 'wide.nii')
    assert slices(tmp_path / 'wide.nii').dtype == np.int32


@pytest.mark.parametrize('factor', [1, 1.5e-5])
def test_labels_stored_as_floats_are_integers(tmp_path, factor):
    labels = (CT % 3).astype(np.float64)
    labels[0, 0, 0] = 2
    path = tmp_path / 'a.nii.gz'
    if factor == 1:
        save(path, labels)
    else:  # as writers store floats in 16 bits
        save(path, np.round(labels / factor / 5).astype(np.int16), slope=5 * factor, inter=0)
    mask = load_mask(Page(path, 0), MaskEncoding([0, 1, 2]), 1.0)
    assert np.array_equal(mask, labels[..., 0].T)
    with pytest.raises(UserError, match='expected'):
        load_mask(Page(save(path, labels / 2), 0), MaskEncoding([0, 1, 2]), 1.0)


def test_a_few_volumes_in_one_file_are_channels_and_many_are_refused(tmp_path):
    four = np.stack([CT, CT + 1, CT + 2, CT + 3], axis=3)
    path = save(tmp_path / 'a.nii.gz', four)
    assert page_count(path) == 5
    assert np.array_equal(slices(path), four.transpose(2, 1, 0, 3))
    assert read_metadata(Page(path, 2)).channels == 4
    assert slices(save(tmp_path / 'b.nii', CT[..., None])).shape == (5, 6, 7)
    frames = save(tmp_path / 'c.nii.gz', np.repeat(CT[..., None], 12, axis=3))
    with pytest.raises(UserError, match=r'c\.nii\.gz holds an array of shape \(7, 6, 5, 12\)'):
        pages_of(frames)


def test_a_single_slice_is_a_page_and_a_volume_is_not_one_picture(tmp_path):
    flat = save(tmp_path / 'a.nii', CT[..., 0])
    assert pages_of(flat) == (Page(flat, 0),)
    assert np.array_equal(open_picture(flat), CT[..., 0].T)
    with pytest.raises(UserError, match=r'b\.nii is a volume of 5 slices; expected one picture'):
        open_picture(save(tmp_path / 'b.nii', CT))
    with pytest.raises(UserError, match=r'b\.nii:5: the file has 5 slices, counted from 0'):
        open_picture(Page(tmp_path / 'b.nii', 5))


def test_a_compressed_volume_is_decompressed_once(tmp_path, monkeypatch):
    path, reads = save(tmp_path / 'a.nii.gz', CT), []
    real = volumes._read
    monkeypatch.setattr(volumes, '_read', lambda path: reads.append(path) or real(path))
    slices(path)
    assert reads == [path]


def test_places_are_compared_by_a_tenth_of_a_voxel(tmp_path):
    header = read_volume_header(save(tmp_path / 'a.nii', CT, np.diag([2, 2, 5, 1])))
    for shift, expected in ((0.1, False), (0.3, True), (-5, True)):
        affine = np.diag([2, 2, 5, 1]).astype(float)
        affine[2, 3] = shift
        moved = read_volume_header(save(tmp_path / f'{shift}.nii', CT, affine))
        assert apart(header, moved) == expected
    flipped = save(
        tmp_path / 'b.nii', CT[::-1], [[-2, 0, 0, 12], [0, 2, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]]
    )
    assert not apart(header, read_volume_header(flipped))
    assert not apart(header, read_volume_header(save(tmp_path / 'c.nii', CT)))


def test_a_broken_volume_is_an_error_that_names_it(tmp_path):
    whole = gzip.decompress(save(tmp_path / 'a.nii.gz', CT).read_bytes())
    for broken in (whole[:100], whole[:400], b'text', b''):
        for path, content in (
            (tmp_path / 'b.nii', broken), (tmp_path / 'c.nii.gz', gzip.compress(broken)),
        ):  # fmt: skip
            path.write_bytes(content)
            with pytest.raises(UserError, match=rf'{path.name}.* cannot be read as a picture'):
                slices(path)


def test_a_volume_that_claims_more_than_its_file_can_hold_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.nii.gz', np.zeros((200, 200, 200), np.uint8))
    monkeypatch.setattr(cgroups, 'GIB', 2**20)
    monkeypatch.setattr(cgroups, 'free_memory', lambda: 0)
    with pytest.raises(UserError, match=r'a\.nii\.gz.*over the limit of'):
        open_picture(Page(path, 0))


def test_without_nibabel_the_message_is_one_line_with_the_command(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.nii.gz', CT)
    monkeypatch.setitem(sys.modules, 'nibabel', None)
    with pytest.raises(UserError) as caught:
        pages_of(path)
    assert str(caught.value) == (
        f'{path}: NIfTI volumes are read by the package nibabel, which is not installed: '
        'pip install -r requirements-volumes.txt'
    )
