"""BasicDataset and CarvanaDataset have the original's items, attributes and errors."""

import pickle

import numpy as np
import pytest
import torch
from drawing import data_set
from PIL import Image
from reference import FIXTURES
from torch.utils.data import DataLoader, random_split

from utils.data_loading import BasicDataset, CarvanaDataset, load_image, unique_mask_values
from utils.runtime.errors import explain

REFERENCE = np.load(FIXTURES / 'preprocess.npz')
BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST


def write(folder, images, masks, suffix=''):
    """Write pictures (or arrays) by name into folder/imgs and folder/masks; return these."""
    for kind, pictures in (('imgs', images), ('masks', masks)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            if isinstance(picture, np.ndarray) and name.endswith('.npy'):
                np.save(folder / kind / name, picture)
                continue
            if isinstance(picture, np.ndarray):
                picture = Image.fromarray(picture)
            picture.save(folder / kind / name)
    return folder / 'imgs', folder / 'masks'


def grey(*values, size=(8, 6)):
    """Return a grey picture (width, height) in vertical stripes of the values."""
    row = np.repeat(np.array(values, dtype=np.uint8), -(-size[0] // len(values)))[: size[0]]
    return np.tile(row, (size[1], 1))


@pytest.mark.parametrize('scale', [0.3, 0.5, 1.0])
@pytest.mark.parametrize('name', ['rgb', 'grey', 'mask255', 'mask4'])
def test_preprocess_equals_the_reference(name, scale):
    values = {'mask255': [0, 255], 'mask4': [0, 60, 120, 180]}.get(name)
    picture = Image.fromarray(REFERENCE[name])
    found = BasicDataset.preprocess(values, picture, scale, is_mask=values is not None)
    assert found.dtype == (np.int64 if values else np.float64)
    assert found.shape == REFERENCE[f'{name}_{scale}'].shape
    assert np.abs(found - REFERENCE[f'{name}_{scale}']).max() <= (0 if values else 1e-6)


def test_items_equal_the_reference(tmp_path):
    images, masks = {'a.png': REFERENCE['rgb']}, {'a.png': REFERENCE['mask4']}
    item = BasicDataset(*write(tmp_path, images, masks), scale=0.5)[0]
    assert (item['image'].dtype, item['mask'].dtype) == (torch.float32, torch.int64)
    assert item['image'].is_contiguous()
    assert item['mask'].is_contiguous()
    assert np.abs(item['image'].numpy() - REFERENCE['rgb_0.5']).max() <= 1e-6
    assert np.array_equal(item['mask'].numpy(), REFERENCE['mask4_0.5'])


def odd_pictures():
    """Pictures of every mode that the original's data sets accept, by mode."""
    rng = np.random.default_rng(3)
    colour = Image.fromarray(rng.integers(0, 256, (20, 31, 4), dtype=np.uint8))
    deep = rng.integers(0, 65536, (20, 31)).astype(np.uint16)
    return {
        'L': colour.convert('L'),
        'P': colour.convert('RGB').quantize(7),
        'RGBA': colour,
        'LA': colour.convert('LA'),
        '1': colour.convert('1'),
        'I;16': Image.fromarray(deep),
        'RGB': colour.convert('RGB'),
    }


@pytest.mark.parametrize('scale', [0.5, 1.0])
@pytest.mark.parametrize('mode', odd_pictures())
def test_images_of_any_mode_are_resized_by_pillow_and_divided_by_255(tmp_path, mode, scale):
    picture = odd_pictures()[mode]
    folders = write(tmp_path, {'a.png': picture}, {'a.png': grey(0, 9, size=(31, 20))})
    size = (int(31 * scale), int(20 * scale))
    expected = np.asarray(Image.open(folders[0] / 'a.png').resize(size, BICUBIC))
    expected = expected.transpose(2, 0, 1) if expected.ndim == 3 else expected[None]
    expected = expected / 255 if mode != '1' else expected  # no value over 1: taken as it is
    image = BasicDataset(*folders, scale)[0]['image']
    assert image.dtype == torch.float32
    assert image.shape == expected.shape
    assert np.abs(image.numpy() - expected).max() <= 1e-6 * max(1, expected.max())


def test_an_image_whose_values_are_all_at_most_1_is_not_divided(tmp_path):
    folders = write(tmp_path, {'a.png': grey(0, 1)}, {'a.png': grey(0, 1)})
    assert BasicDataset(*folders)[0]['image'].unique().tolist() == [0, 1]


COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)


@pytest.mark.parametrize(
    ('mask', 'values'),
    [
        (grey(0, 255, 60), [0, 60, 255]),
        (grey(0, 1) > 0, [False, True]),
        (grey(44, 7).astype(np.uint16) * 100, [700, 4400]),
        (COLOURS[grey(0, 2, 1)], [[0, 0, 0], [0, 255, 0], [255, 0, 0]]),
        (np.repeat(grey(0, 255)[..., None], 3, axis=2), [[0, 0, 0], [255, 255, 255]]),
        (
            np.dstack([COLOURS[grey(0, 1)], np.full((6, 8), 255, np.uint8)]),
            [[0, 0, 0, 255], [255, 0, 0, 255]],
        ),
    ],
    ids=['grey', 'one bit', '16 bits', 'colour', 'grey as RGB', 'RGBA'],
)
def test_mask_values_are_sorted_and_their_positions_are_the_classes(tmp_path, mask, values):
    images = {'a.png': grey(9)}
    folders = write(tmp_path, images, {'a.png': mask})
    dataset = BasicDataset(*folders)
    assert dataset.mask_values == values
    assert all(type(v) in (int, bool, list) for v in dataset.mask_values)
    assert unique_mask_values('a', folders[1], '').tolist() == values
    classes = dataset[0]['mask'].numpy()
    assert np.array_equal(np.array(values)[classes], mask)


def test_values_of_all_masks_make_the_classes_and_unknown_ones_are_class_0(tmp_path):
    images = {f'{k}.png': grey(9) for k in 'ab'}
    dataset = BasicDataset(*write(tmp_path, images, {'a.png': grey(7, 3), 'b.png': grey(5)}))
    assert dataset.mask_values == [3, 5, 7]
    assert dataset[dataset.ids.index('b')]['mask'].unique().tolist() == [1]
    other = BasicDataset.preprocess([3, 5], Image.fromarray(grey(7, 5)), 1.0, is_mask=True)
    assert np.unique(other).tolist() == [0, 1]


def test_palette_masks_give_their_indices(tmp_path):
    mask = Image.fromarray(grey(0, 2))
    mask.putpalette([9, 9, 9, 0, 0, 0, 200, 0, 0])
    dataset = BasicDataset(*write(tmp_path, {'a.png': grey(9)}, {'a.png': mask}))
    assert dataset.mask_values == [0, 2]


def test_arrays_are_pictures(tmp_path):
    image, mask = np.dstack([grey(0, 50, 100)] * 3), grey(0, 255)
    folders = write(tmp_path, {'a.npy': image}, {})
    torch.save(torch.from_numpy(mask), folders[1] / 'a.pth')
    dataset = BasicDataset(*folders)
    assert np.allclose(dataset[0]['image'] * 255, image.transpose(2, 0, 1))
    assert dataset.mask_values == [0, 255]
    assert load_image(str(folders[0] / 'a.npy')).size == (8, 6)


def test_attributes_are_those_of_the_original(tmp_path):
    images, masks = data_set(tmp_path, 3, suffix='_mask', image_suffix='.jpg')
    (images / '.hidden').touch()
    dataset = CarvanaDataset(str(images), str(masks), scale=0.5)
    assert (dataset.images_dir, dataset.mask_dir) == (images, masks)
    assert (dataset.scale, dataset.mask_suffix, dataset.mask_values) == (0.5, '_mask', [0, 255])
    assert sorted(dataset.ids) == ['disc00', 'disc01', 'disc02']
    assert len(dataset) == 3
    assert dataset[0]['image'].shape == (3, 16, 24)
    assert dataset[0]['mask'].unique().tolist() == [0, 1]
    assert CarvanaDataset(images, masks).scale == 1


def test_ids_are_in_the_order_of_the_file_system_so_that_splits_are_the_originals(tmp_path):
    images, masks = data_set(tmp_path, 9)
    assert BasicDataset(images, masks).ids == [p.stem for p in images.iterdir()]


def test_names_with_stars_brackets_and_dots_have_their_own_masks(tmp_path):
    names = ['a', 'a.b', 'c[1]', 'd (2)']
    images = {f'{name}.png': grey(9) for name in names}
    masks = {f'{name}.png': grey(k, 10 * k + 11) for k, name in enumerate(names)}
    dataset = BasicDataset(*write(tmp_path, images, masks))
    for k, name in enumerate(names):
        item = dataset[dataset.ids.index(name)]
        found = {dataset.mask_values[c] for c in item['mask'].unique().tolist()}
        assert found == {k, 10 * k + 11}


@pytest.mark.parametrize('start', [None, pytest.param('spawn', marks=pytest.mark.slow)])
def test_dataloaders_with_workers_give_the_items(tmp_path, start):
    dataset = BasicDataset(*data_set(tmp_path, 3), scale=0.5)
    loader = DataLoader(dataset, 2, num_workers=2, multiprocessing_context=start)
    batches = list(loader)
    assert [len(batch['image']) for batch in batches] == [2, 1]
    assert torch.equal(batches[1]['image'][0], dataset[2]['image'])
    assert torch.equal(batches[1]['mask'][0], dataset[2]['mask'])


def test_data_sets_can_be_pickled_split_and_iterated(tmp_path):
    dataset = pickle.loads(pickle.dumps(BasicDataset(*data_set(tmp_path, 5))))
    train, val = random_split(dataset, [4, 1], generator=torch.Generator().manual_seed(0))
    assert {*train.indices, *val.indices} == set(range(5))
    assert len(list(dataset)) == 5


def test_a_subclass_may_preprocess_in_its_own_way(tmp_path):
    class Bright(BasicDataset):
        @staticmethod
        def preprocess(mask_values, pil_img, scale, is_mask):
            array = BasicDataset.preprocess(mask_values, pil_img, scale, is_mask)
            return array if is_mask else array * 0 + 1

    assert Bright(*data_set(tmp_path, 1))[0]['image'].unique().tolist() == [1]


@pytest.mark.parametrize('scale', [0, -1, 1.5])
def test_a_scale_outside_0_to_1_is_an_assertion_error(tmp_path, scale):
    with pytest.raises(AssertionError, match=f'scale {scale}: expected over 0, at most 1'):
        BasicDataset(*data_set(tmp_path, 1), scale=scale)


def test_a_scale_that_leaves_no_pixel_is_an_assertion_error():
    with pytest.raises(AssertionError, match=r'8 x 6 at scale 0\.1 has no pixel left'):
        BasicDataset.preprocess(None, Image.fromarray(grey(9)), 0.1, is_mask=False)


def test_an_empty_folder_is_a_runtime_error_and_a_missing_one_not_found(tmp_path):
    images, masks = data_set(tmp_path, 1)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(RuntimeError, match='empty holds no files'):
        BasicDataset(tmp_path / 'empty', masks)
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        BasicDataset(tmp_path / 'nowhere', masks)
    for mask_dir in ('empty', 'nowhere'):
        with pytest.raises(IndexError, match=rf'{mask_dir}: disc00\. .* no files'):
            BasicDataset(images, tmp_path / mask_dir)


def test_an_image_without_mask_is_an_index_error_that_names_it(tmp_path):
    images, masks = data_set(tmp_path, 2)
    (masks / 'disc01.png').unlink()
    with pytest.raises(IndexError, match=r'1 of 2 images .*: disc01\. .* it has disc00\.png'):
        BasicDataset(images, masks)
    with pytest.raises(IndexError, match=r'no mask disc01\.\*'):
        unique_mask_values('disc01', masks, '')


def test_files_that_do_not_fit_are_assertion_errors_on_access(tmp_path):
    images, masks = data_set(tmp_path, 4, size=(8, 6))
    Image.fromarray(grey(0, 255, size=(6, 8))).save(masks / 'disc00.png')
    Image.open(masks / 'disc01.png').save(masks / 'disc01.bmp')
    Image.open(images / 'disc02.png').save(images / 'disc02.bmp')
    dataset = BasicDataset(images, masks)
    (images / 'disc03.png').unlink()
    for name, text in {
        'disc00': r'imgs.disc00\.png is 8 x 6 but its mask .*disc00\.png is 6 x 8',
        'disc01': r'masks.disc01\.\w+ and .*masks.disc01\.',
        'disc02': r'imgs.disc02\.\w+ and .*imgs.disc02\.',
        'disc03': r'disc03\.\*, found none',
    }.items():
        with pytest.raises(AssertionError, match=text):
            dataset[dataset.ids.index(name)]


@pytest.mark.slow
def test_an_error_in_a_worker_keeps_its_type(tmp_path):
    images, masks = data_set(tmp_path, 1)
    Image.fromarray(grey(0, 255)).save(masks / 'disc00.png')
    with pytest.raises(AssertionError, match='expected equal sizes') as error:
        list(DataLoader(BasicDataset(images, masks), num_workers=1))
    assert explain(error.value).startswith(f'{images}')  # the traceback of the worker is left out


def test_masks_of_grey_and_of_colour_together_are_a_value_error(tmp_path):
    images = {f'{k}.png': grey(9) for k in 'ab'}
    masks = {'a.png': grey(0, 1), 'b.png': COLOURS[grey(0, 1)]}
    with pytest.raises(ValueError, match='different numbers of channels'):
        BasicDataset(*write(tmp_path, images, masks))


def test_the_published_fallback_from_carvana_names_works(tmp_path):
    images, masks = data_set(tmp_path, 2)
    try:
        dataset = CarvanaDataset(images, masks, 0.5)
        pytest.fail('there are no Carvana names')
    except (AssertionError, RuntimeError, IndexError):
        dataset = BasicDataset(images, masks, 0.5)
    assert len(dataset) == 2


def test_ids_name_the_files_as_they_are_stored_and_masks_pair_in_either_form(tmp_path):
    split, joined = 'u\u0308ber', '\u00fcber'  # the accent apart, as macOS stores it, or not
    images, masks = write(tmp_path, {f'{split}.png': grey(9)}, {f'{joined}.png': grey(0, 1)})
    dataset = BasicDataset(images, masks)
    assert dataset.ids == [split]
    assert (images / f'{dataset.ids[0]}.png').exists()
    assert dataset[0]['mask'].max() == 1
    assert unique_mask_values(split, masks, '').tolist() == [0, 1]
