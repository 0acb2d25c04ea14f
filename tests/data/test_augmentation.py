"""Augmentation changes image and mask alike, by (seed, epoch, position) and nothing else."""

import pickle

import numpy as np
import pytest
import torch
from drawing import data_set

from utils.data.augmentation import Augmented, bent, moved, recoloured, toned
from utils.data.dataset import SegmentationDataset


class White(torch.utils.data.Dataset):
    """White squares on black, with masks that mark them: image and mask can be compared."""

    def __getitem__(self, position):
        mask = torch.zeros(64, 64, dtype=torch.uint8)
        mask[20:44, 10 + position : 34 + position] = 1
        return {'image': 255 * mask.repeat(3, 1, 1), 'mask': mask}


def test_mirroring_is_joint_and_alternates_from_epoch_to_epoch(tmp_path):
    dataset = SegmentationDataset(*data_set(tmp_path, 6))
    augmented = Augmented(dataset, seed=0, kind='flip')
    mirrored = []
    for position in range(6):
        plain = dataset[position]
        for epoch in (1, 2):
            item = augmented[epoch, position]
            flips = [torch.equal(item[name], plain[name].flip(-1)) for name in ('image', 'mask')]
            same = [torch.equal(item[name], plain[name]) for name in ('image', 'mask')]
            assert flips == [True, True] or same == [True, True]
            mirrored.append(flips[0])
    assert mirrored[::2] == [not m for m in mirrored[1::2]]
    assert 0 < sum(mirrored[::2]) < 6


def test_none_changes_nothing():
    for position in range(4):
        item, plain = Augmented(White(), 0, 'none')[1, position], White()[position]
        assert all(torch.equal(item[name], plain[name]) for name in plain)


def test_full_moves_image_and_mask_together():
    class TwoChannels(White):  # whose values 'full' leaves alone
        def __getitem__(self, position):
            item = super().__getitem__(position)
            return {'image': item['image'][:2], 'mask': item['mask']}

    augmented = Augmented(TwoChannels(), seed=0, kind='full')
    centres = []
    for epoch in range(1, 13):
        item = augmented[epoch, 0]
        image, mask = item['image'], item['mask']
        assert image.dtype == mask.dtype == torch.uint8
        assert type(image) is type(mask) is torch.Tensor
        assert set(mask.unique().tolist()) == {0, 1}
        bright = image.float().mean(dim=0) > 127
        assert (bright == (mask == 1)).float().mean() > 0.97  # all but pixels of the outline
        centres.append(torch.nonzero(mask).float().mean(dim=0))
    assert torch.stack(centres).std(dim=0).min() > 1


def test_full_changes_colours_and_tones_of_every_image():
    class OneColour(White):  # which no move changes
        def __getitem__(self, position):
            item = super().__getitem__(position)
            colour = torch.tensor([130, 90, 100], dtype=torch.uint8)
            return {'image': colour.view(3, 1, 1).expand(3, 64, 64), 'mask': item['mask']}

    images = [Augmented(OneColour(), 0, 'full')[epoch, 0]['image'] for epoch in range(1, 9)]
    colours = [tuple(image[:, 32, 32].tolist()) for image in images]
    assert len({*colours, (130, 90, 100)}) == 9


class Drawn:
    """Stands in for a generator: what its calls draw, one after the other."""

    def __init__(self, *given):
        self.given = iter(given)

    def uniform(self, *_, **__):
        return next(self.given)


def test_colours_go_and_grow_about_their_grey():
    image = torch.tensor([100, 50, 200], dtype=torch.uint8).view(3, 1, 1)
    for strength, expected in ((0.0, [82, 82, 82]), (1.0, [100, 50, 200]), (1.5, [109, 34, 255])):
        found = recoloured(image, Drawn(strength))
        assert (found.dtype, found.flatten().tolist()) == (torch.uint8, expected)
        as_float = recoloured(image.float() / 255, Drawn(strength))
        assert (255 * as_float).flatten().tolist() == pytest.approx(expected, abs=0.5)


def test_grey_images_have_no_colours_to_change():
    image = torch.arange(4, dtype=torch.uint8).view(1, 2, 2)
    assert recoloured(image, Drawn()) is image


def test_brightness_and_contrast_change_about_the_mean():
    image = torch.tensor([[[0, 100, 200]]], dtype=torch.uint8)
    found = toned(image, Drawn(np.array([0.5, 1.5])))
    assert found.tolist() == [[[75, 150, 225]]]  # 1.5 (100 + 0.5 (x - 100))


def test_tones_of_floats_change_as_those_of_bytes():
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    for seed in range(8):
        bytes_, floats = (
            toned(tensor, np.random.default_rng(seed)) for tensor in (image, image / 255)
        )
        assert (bytes_ - 255 * floats).abs().max() <= 0.51
        assert torch.equal(bytes_[0], bytes_[2])


class Fixed:
    """Stands in for a generator: angles, zoom and shifts as given."""

    def __init__(self, turn=0.0, shear=0.0, zoom=1.0, shift=(0.0, 0.0)):
        self.given = iter([turn, shear, np.log(zoom), np.array(shift)])

    def uniform(self, *_, **__):
        return next(self.given)


def numbered(height, width):
    mask = torch.arange(height * width, dtype=torch.uint8).view(height, width)
    return {'image': mask[None].clone(), 'mask': mask}


def test_no_move_leaves_every_pixel_and_half_a_turn_reverses_them():
    item = numbered(6, 10)
    for tensor, name in ((item['image'], 'image'), (item['mask'], 'mask')):
        assert torch.equal(moved(item, Fixed())[name], tensor)
        assert torch.equal(moved(item, Fixed(turn=180.0))[name], tensor.flip([-1, -2]))


def test_a_quarter_turn_keeps_angles_and_lengths_in_pictures_that_are_not_square():
    item = numbered(6, 10)
    turned = moved(item, Fixed(turn=90.0))['mask']
    # The middle 6 x 6 pixels turn among themselves.
    expected = {0: item['mask'][:, 2:8].rot90(1), 1: item['mask'][:, 2:8].rot90(-1)}
    assert any(torch.equal(turned[:, 2:8], way) for way in expected.values())


def test_what_a_shift_uncovers_mirrors_the_border():
    item = numbered(4, 8)
    shifted = moved(item, Fixed(shift=(0.5, 0.0)))  # half of half the width: 2 pixels
    assert shifted['mask'][0].tolist() == [2, 3, 4, 5, 6, 7, 7, 6]
    assert torch.equal(shifted['image'][0], shifted['mask'])


def test_a_zoom_of_two_shows_the_middle_at_twice_the_size():
    mask = torch.zeros(8, 8, dtype=torch.uint8)
    mask[3:5, 3:5] = 1
    zoomed = moved({'image': mask[None], 'mask': mask}, Fixed(zoom=2.0))['mask']
    expected = torch.zeros(8, 8, dtype=torch.uint8)
    expected[2:6, 2:6] = 1
    assert torch.equal(zoomed, expected)


@pytest.mark.parametrize('kind', ['flip', 'full'])
def test_chance_comes_from_seed_epoch_and_position_alone(kind):
    first, again = (Augmented(White(), seed=0, kind=kind) for _ in range(2))
    torch.manual_seed(1)
    expected = [first[epoch, 0]['image'] for epoch in (1, 2, 3)]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    found = [again[epoch, 0]['image'] for epoch in (3, 2, 1)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(expected[0], expected[1])
    others = [Augmented(White(), seed=5, kind=kind)[1, p]['image'] for p in range(8)]
    assert any(not torch.equal(first[1, p]['image'], others[p]) for p in range(8))


def test_a_worker_process_that_gets_it_pickled_makes_the_same_items(tmp_path):
    augmented = Augmented(SegmentationDataset(*data_set(tmp_path, 2)), seed=0, kind='full')
    expected = augmented[1, 1]['image']
    assert torch.equal(pickle.loads(pickle.dumps(augmented))[1, 1]['image'], expected)


def test_full_takes_grey_images_too():
    class Grey(White):
        def __getitem__(self, position):
            item = super().__getitem__(position)
            return {'image': item['image'][:1], 'mask': item['mask']}

    assert Augmented(Grey(), 0, 'full')[1, 0]['image'].shape == (1, 64, 64)


def test_full_moves_other_numbers_of_channels_and_leaves_their_values():
    class Deep(White):
        def __getitem__(self, position):
            item = super().__getitem__(position)
            return {'image': item['image'][:1].expand(5, -1, -1), 'mask': item['mask']}

    image = Augmented(Deep(), 0, 'full')[1, 0]['image']
    assert image.shape == (5, 64, 64)
    assert image.amax(dim=(1, 2)).tolist() == [255] * 5  # white is white, whatever the light
    assert torch.equal(image[0], image[4])


def test_elastic_bends_all_parts_of_an_item_alike_and_mirrors_what_lies_outside():
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing='ij')
    ramp = (x + y).to(torch.uint8)
    item = {'image': ramp[None], 'mask': ramp, 'border': ramp}
    first, again, other = (bent(item, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in item)
    assert not torch.equal(first['mask'], other['mask'])
    assert torch.equal(first['image'][0], first['border'])
    assert (first['border'].int() - first['mask'].int()).abs().max() <= 2  # the nearest pixel's
    moved_by = (first['border'].int() - ramp.int()).abs()
    assert 3 < moved_by.float().mean() < 30
    assert first['mask'].dtype == torch.uint8


def test_elastic_displacements_are_of_ten_pixels_at_a_grid_of_three_by_three():
    """At the middle of the image, a point of that grid, the shift is the number drawn for it."""
    columns = torch.arange(201.0).expand(101, 201)
    item = {'image': columns[None].clone(), 'mask': columns.to(torch.uint8)}
    shifts = []
    for seed in range(200):
        drawn = np.random.default_rng(seed).normal(0, 10, (1, 2, 3, 3))[0, 0, 1, 1]
        found = bent(item, np.random.default_rng(seed))['image'][0, 50, 100].item() - 100
        assert found == pytest.approx(drawn, abs=1e-2)
        shifts.append(found)
    assert np.std(shifts) == pytest.approx(10, rel=0.15)
