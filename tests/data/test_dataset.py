"""Files to batches: equal to the original's, for files of any mode and size."""

from itertools import chain, zip_longest

import numpy as np
import pytest
import torch
from drawing import data_set
from PIL import Image
from reference import FIXTURES

from utils.data.augmentation import Augmented
from utils.data.dataloader import (
    ShuffledBatchSampler,
    make_dataloader,
    pad_batch,
    same_size_batches,
    to_device,
)
from utils.data.dataset import SegmentationDataset
from utils.images.decoding import open_picture, to_channels
from utils.images.resizing import load_image, to_unit_range
from utils.masks.encoding import IGNORE, MaskEncoding, load_mask
from utils.runtime.errors import UserError

REFERENCE = np.load(FIXTURES / 'preprocess.npz')
CPU = torch.device('cpu')


@pytest.mark.parametrize('scale', [0.5, 1.0, 0.3])
@pytest.mark.parametrize(('name', 'channels'), [('rgb', 3), ('grey', 1)])
def test_images_equal_the_reference_within_a_grey_level(tmp_path, name, channels, scale):
    Image.fromarray(REFERENCE[name]).save(tmp_path / 'i.png')
    image = load_image(tmp_path / 'i.png', channels, scale)
    assert image.dtype == torch.uint8
    error = np.abs(to_unit_range(image).numpy() - REFERENCE[f'{name}_{scale}']).max()
    assert error <= (1e-7 if scale == 1 else 1 / 255 + 1e-6)


@pytest.mark.parametrize('scale', [0.5, 1.0, 0.3])
@pytest.mark.parametrize(('name', 'values'), [('mask255', [0, 255]), ('mask4', [0, 60, 120, 180])])
def test_masks_equal_the_reference(tmp_path, name, values, scale):
    Image.fromarray(REFERENCE[name]).save(tmp_path / 'm.png')
    mask = load_mask(tmp_path / 'm.png', MaskEncoding(values), scale)
    assert np.array_equal(mask.numpy(), REFERENCE[f'{name}_{scale}'])


def test_items_are_uint8_at_training_scale(tmp_path):
    item = SegmentationDataset(*data_set(tmp_path), scale=0.5)[3]
    assert item['image'].shape == (3, 16, 24)
    assert item['mask'].shape == (16, 24)
    assert item['image'].dtype == item['mask'].dtype == torch.uint8
    assert item['mask'].unique().tolist() == [0, 1]


def test_scale_must_be_over_zero_and_at_most_one(tmp_path):
    folders = data_set(tmp_path)
    for scale in (0, 1.5):
        with pytest.raises(UserError, match=rf'scale {scale}: '):
            SegmentationDataset(*folders, scale=scale)


def test_channels_are_those_of_the_images_or_those_asked_for(tmp_path):
    grey = data_set(tmp_path / 'grey', 2, colours=1)
    colour = data_set(tmp_path / 'colour', 2)
    assert SegmentationDataset(*grey)[0]['image'].shape[0] == 1
    assert SegmentationDataset(*colour)[0]['image'].shape[0] == 3
    assert SegmentationDataset(*grey, channels=3)[0]['image'].shape[0] == 3
    assert SegmentationDataset(*colour, channels=1)[0]['image'].shape[0] == 1


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK'])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_white_picture_of_any_mode_is_white(tmp_path, mode, channels):
    picture = Image.new('RGB', (3, 2), 'white').convert(mode)
    array = to_channels(picture, channels, tmp_path)
    assert array.shape == (2, 3, channels)
    assert (array == 255).all()


def test_16_bit_images_are_scaled_by_their_type_and_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / 'deep.png')
    image = load_image(tmp_path / 'deep.png', 3, 1.0)
    assert image.shape == (3, 4, 4)
    assert image.unique().tolist() == pytest.approx([3000 / 65535])


@pytest.mark.parametrize('shape', [(8, 9), (8, 9, 1), (8, 9, 3)])
def test_array_files_are_read_unchanged(tmp_path, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    np.save(tmp_path / 'a.npy', array)
    torch.save(torch.from_numpy(array), tmp_path / 'a.pt')
    for name in ('a.npy', 'a.pt'):
        assert np.array_equal(open_picture(tmp_path / name), array)


def test_errors_of_files_that_are_no_pictures_name_them(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'hello')
    (tmp_path / 'a.pt').write_bytes(b'hello')
    np.save(tmp_path / 'b.npy', np.array([{}]), allow_pickle=True)
    for name in ('a.png', 'a.pt', 'b.npy', 'missing.png'):
        with pytest.raises(UserError, match=rf'{name} cannot be read as a picture'):
            open_picture(tmp_path / name)
    np.save(tmp_path / 'a.npy', np.zeros((4, 4), np.int64))
    with pytest.raises(UserError, match=r'type int64; expected uint8, uint16'):
        load_image(tmp_path / 'a.npy', 1, 1.0)


def test_items_of_three_sizes_make_one_batch_whose_padding_is_ignored(tmp_path):
    items = [
        {
            'image': torch.full((3, h, w), 9, dtype=torch.uint8),
            'mask': torch.ones(h, w, dtype=torch.uint8),
        }
        for h, w in [(4, 7), (6, 5), (5, 6)]
    ]
    batch = pad_batch(items)
    assert batch['image'].shape == (3, 3, 6, 7)
    assert batch['mask'].shape == (3, 6, 7)
    for k, (h, w) in enumerate([(4, 7), (6, 5), (5, 6)]):
        assert (batch['mask'][k, :h, :w] == 1).all()
        assert (batch['mask'][k] == IGNORE).sum() == 42 - h * w
        assert (batch['image'][k] == 0).sum() == 3 * (42 - h * w)
    assert batch['image'].is_contiguous(memory_format=torch.channels_last)


def test_batches_for_scoring_hold_one_size_and_every_image_once():
    sizes = [(4, 4), (5, 5), (4, 4), (4, 4), (5, 5)]
    batches = same_size_batches([0, 1, 2, 3, 4], sizes, 2)
    assert batches == [[0, 2], [3], [1, 4]]


def test_an_epoch_draws_every_image_once_in_an_order_of_its_own():
    batches = ShuffledBatchSampler(list(range(10, 20)), 3, seed=0)
    epochs = []
    for epoch in (1, 2, 1):
        batches.epoch = epoch
        drawn = [pair for batch in batches for pair in batch]
        assert {e for e, _ in drawn} == {epoch}
        assert sorted(i for _, i in drawn) == list(range(10, 20))
        epochs.append([i for _, i in drawn])
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(batches) == 4
    other = ShuffledBatchSampler(list(range(10, 20)), 3, seed=1)
    assert [i for batch in other for _, i in batch] != epochs[0]


@pytest.mark.parametrize('count', [1, 2, 5, 7, 12, 13, 23])
@pytest.mark.parametrize(('batch_size', 'world_size', 'accumulate'), [
    (2, 1, 1), (2, 2, 1), (1, 3, 1), (4, 3, 1), (2, 1, 3), (2, 2, 2), (1, 4, 3),
])  # fmt: skip
def test_ranks_take_the_micro_batches_of_one_process_in_turn_and_equally_many(
    count, batch_size, world_size, accumulate
):
    positions = list(range(count))
    ranks = [
        ShuffledBatchSampler(positions, batch_size, 7, accumulate, rank, world_size)
        for rank in range(world_size)
    ]
    steps = list(zip(*ranks, strict=True))
    assert len(steps) == len(ranks[0])
    (one,) = ShuffledBatchSampler(positions, count, 7)
    # One process that accumulates as many takes the same micro-batches, each of the next rank.
    alone = list(ShuffledBatchSampler(positions, batch_size, 7, accumulate * world_size))
    for number, step in enumerate(steps):
        parts = [
            [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
            for share in step
        ]
        assert len({len(part) for part in parts}) == 1  # equally many micro-batches
        fillers = [
            part.pop()
            for part, rank in zip(parts, ranks, strict=True)
            if rank.ends_with_filler(number)
        ]
        assert all(filler == parts[0][-1] for filler in fillers)
        drawn = [batch for turn in zip_longest(*parts, fillvalue=[]) for batch in turn]
        assert list(chain(*drawn)) == alone[number]
        assert all(len(batch) == batch_size for batch in drawn[: len(alone[number]) // batch_size])
        assert len(alone[number]) == ranks[0].images_in_step(number)
    assert sorted(chain(*alone)) == sorted(one)
    assert ranks[0].smallest_batch() == (count % batch_size or batch_size)
    for rank in ranks:
        whole, rank.start = list(rank), 1
        assert list(rank) == whole[1:]


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_change_no_batch(tmp_path, workers):
    dataset = Augmented(SegmentationDataset(*data_set(tmp_path, 5)), seed=0, kind='full')
    expected = [
        [dataset[pair] for pair in batch] for batch in ShuffledBatchSampler([0, 1, 2, 3, 4], 2, 0)
    ]
    loader = make_dataloader(dataset, ShuffledBatchSampler([0, 1, 2, 3, 4], 2, 0), workers, CPU)
    for batch, items in zip(loader, expected, strict=True):
        assert torch.equal(batch['image'], torch.stack([item['image'] for item in items]))


def test_images_are_scaled_to_floats_by_type_alone():
    dim = torch.ones(1, 3, 16, 16, dtype=torch.uint8)  # all ones: still 1/255, not 1
    images, _ = to_device({'image': dim, 'mask': dim[:, 0]}, CPU)
    assert images.unique().tolist() == pytest.approx([1 / 255])
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_images_too_small_for_the_network_are_named(tmp_path):
    dataset = SegmentationDataset(*data_set(tmp_path, 2, size=(60, 40)), scale=0.3)
    with pytest.raises(UserError, match=r'2 images .* 0\.3: disc00\.png \(18 x 12\)'):
        dataset.check_sizes()
    dataset = SegmentationDataset(*data_set(tmp_path, 2, size=(60, 40)), scale=0.5)
    dataset.check_sizes()
    dataset.check_sizes(smallest_batch=2)
    with pytest.raises(UserError, match=r'disc00\.png \(30 x 20\).* 32 '):
        dataset.check_sizes(smallest_batch=1)
