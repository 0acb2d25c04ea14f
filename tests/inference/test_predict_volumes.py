"""predict.py on NIfTI volumes: a volume of the same shape, affine, units and orientation."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from networks import brightness_network, save
from PIL import Image

import predict
from utils.images.pages import Page
from utils.inference.predictor import Predictor

nibabel = pytest.importorskip('nibabel')

SHAPE = 22, 18, 20  # each of another length, and over 16, the least that a network takes
TURNED = np.array([[0, 0, -0.7, 40], [0, 2.5, 0, -3], [-1.25, 0, 0, 17], [0, 0, 0, 1]])  # I, A, L


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model for grey images of values from -1000 to 1000."""
    monkeypatch.chdir(tmp_path)
    save('MODEL.pth', brightness_network(2, 1), mask_values=[0, 2], image_range=[(-1000, 1000)])
    return tmp_path


def write_volume(name='ct.nii.gz', affine=TURNED, shape=SHAPE, dtype=np.int16):
    """Write a volume of dark noise with a bright box off its centre; return the stored values."""
    values = np.random.default_rng(1).integers(-900, -300, shape).astype(dtype)
    values[3:9, 1:8, 5:18] = 800
    values[14:20, :5, 16:] = 700
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units('mm', 'sec')
    image.header['cal_max'] = 800
    image.header['descrip'] = b'a scan'
    image.set_qform(affine, 1)
    image.set_sform(affine, 4)
    nibabel.save(image, name)
    return values


def axial(array, affine):
    """Return stored values as slices (D, H, W), by nibabel alone."""
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    return np.asarray(canonical.dataobj).transpose(2, 1, 0)


@pytest.mark.parametrize('shape', [SHAPE, (*SHAPE, 1)])
@pytest.mark.parametrize('name', ['ct.nii.gz', 'ct.nii'])
def test_a_volume_keeps_shape_affine_units_and_place_of_each_voxel(folder, name, shape):
    values = write_volume(name, shape=shape)
    assert predict.main(['-i', name]) == 0
    source, mask = nibabel.load(name), nibabel.load(name.replace('ct', 'ct_OUT'))
    assert mask.shape == source.shape
    np.testing.assert_array_equal(mask.affine, source.affine)
    for field in ('xyzt_units', 'qform_code', 'sform_code', 'pixdim', 'descrip'):
        np.testing.assert_array_equal(mask.header[field], source.header[field])
    assert nibabel.aff2axcodes(mask.affine) == ('I', 'A', 'L')
    assert mask.get_data_dtype() == np.uint8
    assert mask.header['cal_max'] == 0
    found = np.asarray(mask.dataobj)
    assert set(np.unique(found)) == {0, 2}
    assert ((found == 2) == (values > 0)).mean() > 0.9  # edges are where the image is resized


@pytest.mark.parametrize(
    'affine',
    [TURNED, np.eye(4), np.diag([-1, -1, 3, 1.0]), np.array(TURNED)[[1, 2, 0, 3]]],
    ids=['IAL', 'RAS', 'LPS', 'permuted'],
)
def test_each_voxel_is_that_of_its_axial_slice_as_a_picture(folder, affine):
    values = write_volume(affine=affine)
    assert predict.main(['-i', 'ct.nii.gz', '--format', 'index']) == 0
    found = axial(np.asarray(nibabel.load('ct_OUT.nii.gz').dataobj), affine)
    predictor = Predictor.load('MODEL.pth')
    slices = axial(values, affine)
    expected = np.stack([predictor.predict_image(np.ascontiguousarray(one)) for one in slices])
    assert expected.any()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(predictor.predict_file('ct.nii.gz'), expected)
    page = predictor.predict_file(Page(Path('ct.nii.gz'), 5))
    np.testing.assert_array_equal(page, expected[5])


def other_headers():
    """Volumes whose headers are unusual, by name: image and the shape of its mask."""
    values = np.random.default_rng(1).integers(-900, 900, SHAPE).astype(np.int16)
    big_endian = nibabel.Nifti1Header(endianness='>')
    big_endian.set_data_dtype('>i2')
    scaled = nibabel.Nifti1Image(values * 0.37, TURNED)
    scaled.header.set_data_dtype(np.int16)
    scaled.header.extensions.append(nibabel.nifti1.Nifti1Extension('comment', b'of the values'))
    return {
        'channels': (nibabel.Nifti1Image(np.stack([values] * 3, axis=3), TURNED), SHAPE),
        'picture': (nibabel.Nifti1Image(values[..., 0], np.eye(4)), SHAPE[:2]),
        'no affine': (nibabel.Nifti1Image(values, None), SHAPE),
        'NIfTI-2': (nibabel.Nifti2Image(values, TURNED), SHAPE),
        'big endian': (nibabel.Nifti1Image(values, TURNED, big_endian), SHAPE),
        'scaled': (scaled, SHAPE),
    }


@pytest.mark.parametrize('kind', list(other_headers()))
def test_masks_of_unusual_volumes_are_in_their_place(folder, kind):
    image, shape = other_headers()[kind]
    nibabel.save(image, 'x.nii')
    channels = 3 if kind == 'channels' else 1
    network, known = brightness_network(2, channels), [(-1000, 1000)] * channels
    save('MODEL.pth', network, mask_values=[0, 1], image_range=known)
    assert predict.main(['-i', 'x.nii']) == 0
    source, mask = nibabel.load('x.nii'), nibabel.load('x_OUT.nii')
    assert mask.shape == shape
    assert type(mask) is type(source)
    np.testing.assert_array_equal(mask.affine, source.affine)
    assert mask.header['qform_code'] == source.header['qform_code']
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1}
    assert not mask.header.extensions


def test_probabilities_are_a_volume_of_floats_with_an_axis_of_classes(folder):
    write_volume()
    command = ['-i', 'ct.nii.gz', '--format', 'probabilities']
    assert predict.main(command) == 0
    found = nibabel.load('ct_OUT.nii.gz')
    assert found.shape == SHAPE
    assert found.get_data_dtype() == np.float32
    assert predict.main(['-i', 'ct.nii.gz', '-o', 'mask.nii.gz']) == 0
    mask = np.asarray(nibabel.load('mask.nii.gz').dataobj)
    np.testing.assert_array_equal(np.asarray(found.dataobj) > 0.5, mask == 2)
    save('three.pth', brightness_network(3, 1), mask_values=[0, 1, 2], image_range=[(-1e3, 1e3)])
    assert predict.main([*command, '-m', 'three.pth', '-o', 'three.nii']) == 0
    three = nibabel.load('three.nii')
    assert three.shape == (*SHAPE, 3)
    np.testing.assert_allclose(np.asarray(three.dataobj).sum(axis=3), 1, atol=1e-5)
    assert predict.main([*command, '-m', 'three.pth', '-o', 'three.npy']) == 0
    array = np.load('three.npy')
    for k in range(3):
        slices = axial(np.asarray(three.dataobj)[..., k], three.affine)
        np.testing.assert_array_equal(slices, array[..., k])


@pytest.mark.parametrize(
    ('values', 'dtype'), [([0, 700], 'uint16'), ([-1, 4], 'int8'), ([0, 70000], 'uint32')]
)
def test_values_are_of_the_smallest_type(folder, values, dtype):
    save('MODEL.pth', brightness_network(2, 1), mask_values=values, image_range=[(-1e3, 1e3)])
    write_volume()
    assert predict.main(['-i', 'ct.nii.gz']) == 0
    mask = nibabel.load('ct_OUT.nii.gz')
    assert mask.get_data_dtype() == dtype
    assert set(np.unique(np.asarray(mask.dataobj))) == set(values)


def test_a_volume_can_be_written_as_a_stack_or_array_of_axial_slices(folder):
    write_volume()
    assert predict.main(['-i', 'ct.nii.gz', '-o', 'ct.nii']) == 0
    expected = axial(np.asarray(nibabel.load('ct.nii').dataobj), TURNED)
    assert predict.main(['-i', 'ct.nii.gz', '-o', 'ct.npy']) == 0
    np.testing.assert_array_equal(np.load('ct.npy'), expected)
    assert predict.main(['-i', 'ct.nii.gz', '-o', 'ct.tif']) == 0
    np.testing.assert_array_equal(tifffile.imread('ct.tif'), expected)
    assert predict.main(['-i', 'ct.nii.gz', '-o', 'o.tif', '--format', 'overlay']) == 0
    assert tifffile.imread('o.tif').shape == (*expected.shape, 3)


@pytest.mark.parametrize('output_format', ['color', 'overlay'])
def test_a_volume_of_colours_is_refused_before_the_model_is_loaded(
    folder, capsys, monkeypatch, output_format
):
    write_volume()
    monkeypatch.setattr(Predictor, 'load', None)
    assert predict.main(['-i', 'ct.nii.gz', '--format', output_format]) == 2
    assert 'cannot write colours into the volume ct_OUT.nii.gz' in capsys.readouterr().err


def test_a_volume_cannot_hold_masks_of_colours_and_index_is_offered(folder, capsys):
    colours = [[0, 0, 0], [9, 8, 200]]
    save('MODEL.pth', brightness_network(2, 1), mask_values=colours, image_range=[(-1e3, 1e3)])
    write_volume()
    assert predict.main(['-i', 'ct.nii.gz']) == 2
    assert 'ct_OUT.nii.gz: a volume cannot hold the colours' in capsys.readouterr().err
    assert predict.main(['-i', 'ct.nii.gz', '--format', 'index']) == 0


def test_a_broken_volume_fails_alone_and_masks_beside_volumes_are_no_inputs(folder, capsys):
    Path('in').mkdir()
    write_volume('in/a.nii.gz')
    whole = gzip.decompress(Path('in/a.nii.gz').read_bytes())
    Path('in/b.nii').write_bytes(whole[:-2000])
    assert predict.main(['-i', 'in']) == 1
    assert 'in/b.nii:' in capsys.readouterr().err
    assert sorted(path.name for path in Path('in').iterdir()) == [
        'a.nii.gz', 'a_OUT.nii.gz', 'b.nii',
    ]  # fmt: skip
    Path('in/b.nii').unlink()
    assert predict.main(['-i', 'in', '--overwrite']) == 0
    assert 'ignored: a_OUT.nii.gz' in capsys.readouterr().out
    Path('in/b.nii').write_bytes(b'no volume')
    assert predict.main(['-i', 'in', '--overwrite']) == 1
    assert 'in/b.nii' in capsys.readouterr().err


def test_without_the_package_the_command_that_installs_it_is_named(folder, capsys, monkeypatch):
    write_volume()
    Image.new('L', (30, 30)).save('a.png')
    monkeypatch.setitem(sys.modules, 'nibabel', None)  # importing it is an ImportError
    monkeypatch.setattr(Predictor, 'load', None)
    assert predict.main(['-i', 'a.png', 'ct.nii.gz']) == 2
    line = capsys.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert 'ct.nii.gz' in line
    assert 'pip install -r requirements-volumes.txt' in line
    assert not Path('a_OUT.png').exists()
