"""Augmentation changes image and mask alike, depending on seed, epoch and position only."""

import pickle

import numpy as np
import pytest
import torch
from drawing import data_set
from torch.utils._python_dispatch import TorchDispatchMode

from utils.data.augmentation import (
    Augmented,
    color_jitter,
    elastic_deformation,
    random_affine,
)
from utils.data.dataset import SegmentationDataset


class Squares(torch.utils.data.Dataset):
    """White squares on black, and masks of them. color: of the whole image instead."""

    def __init__(self, channels=3, color=None):
        self.channels, self.color = channels, color

    def __getitem__(self, position):
        mask = torch.zeros(64, 64, dtype=torch.uint8)
        mask[20:44, 10 + position : 34 + position] = 1
        image = 255 * mask.repeat(self.channels, 1, 1)
        if self.color:
            image = torch.tensor(self.color, dtype=torch.uint8).view(-1, 1, 1).expand(-1, 64, 64)
        return {'image': image, 'mask': mask}


class Drawn:
    """Stands in for a generator: `uniform` returns the given numbers one after the other."""

    def __init__(self, *given):
        self.given = iter(given)

    def uniform(self, *_, **__):
        return next(self.given)


def affine(turn=0.0, shear=0.0, zoom=1.0, shift=(0.0, 0.0)):
    return Drawn(turn, shear, np.log(zoom), np.array(shift))


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
        item, plain = Augmented(Squares(), 0, 'none')[1, position], Squares()[position]
        assert all(torch.equal(item[name], plain[name]) for name in plain)


@pytest.mark.parametrize('channels', [2, 5])
def test_full_moves_image_and_mask_together_and_leaves_values_that_are_no_colours(channels):
    augmented = Augmented(Squares(channels), seed=0, kind='full')
    centres = []
    for epoch in range(1, 13):
        item = augmented[epoch, 0]
        image, mask = item['image'], item['mask']
        assert image.dtype == mask.dtype == torch.uint8
        assert image.shape == (channels, 64, 64)
        assert image.amax(dim=(1, 2)).tolist() == [255] * channels
        assert all(torch.equal(image[0], plane) for plane in image)
        assert set(mask.unique().tolist()) == {0, 1}
        bright = image.float().mean(dim=0) > 127
        assert (bright == (mask == 1)).float().mean() > 0.97  # all but pixels of the outline
        centres.append(torch.nonzero(mask).float().mean(dim=0))
    assert torch.stack(centres).std(dim=0).min() > 1


@pytest.mark.slow
@pytest.mark.parametrize('color', [(130, 90, 100), (130,)])
def test_full_jitters_the_colours_of_every_rgb_and_grey_image(color):
    augmented = Augmented(Squares(color=color), 0, 'full')
    images = [augmented[epoch, 0]['image'] for epoch in range(1, 9)]
    assert {image.shape for image in images} == {(len(color), 64, 64)}
    colors = [tuple(image[:, 32, 32].tolist()) for image in images]
    assert len({*colors, color}) == 9


def jitter(saturation, contrast=1.0, brightness=1.0):
    return Drawn(saturation, np.array([contrast, brightness]))


@pytest.mark.parametrize(
    ('saturation', 'expected'), [(0.0, [82, 82, 82]), (1.0, [100, 50, 200]), (1.5, [109, 34, 255])]
)
def test_saturation_scales_the_difference_from_grey(saturation, expected):
    image = torch.tensor([100, 50, 200], dtype=torch.uint8).view(3, 1, 1)
    found = color_jitter(image, jitter(saturation))
    assert (found.dtype, found.flatten().tolist()) == (torch.uint8, expected)
    as_float = color_jitter(image.float() / 255, jitter(saturation))
    assert (255 * as_float).flatten().tolist() == pytest.approx(expected, abs=0.5)


def test_grey_images_have_no_saturation_but_contrast_and_brightness_about_the_mean():
    image = torch.tensor([[[0, 100, 200]]], dtype=torch.uint8)
    found = color_jitter(image, Drawn(np.array([0.5, 1.5])))
    assert found.tolist() == [[[75, 150, 225]]]  # 1.5 (100 + 0.5 (x - 100))


def test_float_images_change_as_uint8_images():
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    for seed in range(8):
        integers, floats = (
            color_jitter(pixels, np.random.default_rng(seed)) for pixels in (image, image / 255)
        )
        # torchvision's saturation truncates uint8 by up to a level, which contrast and brightness
        # stretch by up to 1.5 each.
        assert (integers - 255 * floats).abs().max() <= 1.5**2 + 0.5
        assert torch.equal(integers[0], integers[2])


def numbered(height, width):
    mask = torch.arange(height * width, dtype=torch.uint8).view(height, width)
    return {'image': mask[None].clone(), 'mask': mask}


@pytest.mark.parametrize('name', ['image', 'mask'])
def test_no_rotation_leaves_every_pixel_and_half_a_turn_reverses_them(name):
    item = numbered(6, 10)
    assert torch.equal(random_affine(item, affine())[name], item[name])
    assert torch.equal(random_affine(item, affine(turn=180.0))[name], item[name].flip([-1, -2]))


def test_a_quarter_turn_keeps_angles_and_lengths_in_images_that_are_not_square():
    item = numbered(6, 10)
    turned = random_affine(item, affine(turn=90.0))['mask'][:, 2:8]
    middle = item['mask'][:, 2:8]  # its 6 x 6 pixels turn among themselves
    assert any(torch.equal(turned, middle.rot90(way)) for way in (1, -1))


def test_what_a_shift_uncovers_mirrors_the_border():
    shifted = random_affine(numbered(4, 8), affine(shift=(0.5, 0.0)))  # a quarter of the width
    assert shifted['mask'][0].tolist() == [2, 3, 4, 5, 6, 7, 7, 6]
    assert torch.equal(shifted['image'][0], shifted['mask'])


def test_a_zoom_of_two_shows_the_middle_at_twice_the_size():
    mask, expected = torch.zeros(2, 8, 8, dtype=torch.uint8)
    mask[3:5, 3:5] = 1
    expected[2:6, 2:6] = 1
    zoomed = random_affine({'image': mask[None], 'mask': mask}, affine(zoom=2.0))['mask']
    assert torch.equal(zoomed, expected)


@pytest.mark.parametrize('kind', ['flip', 'elastic', 'full'])
def test_randomness_comes_from_seed_epoch_and_position_alone(kind):
    first, again = (Augmented(Squares(), seed=0, kind=kind) for _ in range(2))
    torch.manual_seed(1)
    expected = [first[epoch, 0]['image'] for epoch in (1, 2, 3)]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    found = [again[epoch, 0]['image'] for epoch in (3, 2, 1)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(expected[0], expected[1])
    others = [Augmented(Squares(), seed=5, kind=kind)[1, p]['image'] for p in range(8)]
    assert any(not torch.equal(first[1, p]['image'], others[p]) for p in range(8))


def test_a_worker_that_gets_it_pickled_makes_the_same_items(tmp_path):
    augmented = Augmented(SegmentationDataset(*data_set(tmp_path, 2)), seed=0, kind='full')
    expected = augmented[1, 1]['image']
    assert torch.equal(pickle.loads(pickle.dumps(augmented))[1, 1]['image'], expected)


def test_elastic_deforms_all_parts_of_an_item_alike():
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing='ij')
    ramp = (x + y).to(torch.uint8)
    item = {'image': ramp[None], 'mask': ramp, 'border': ramp}
    first, again, other = (
        elastic_deformation(item, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
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
        deformed = elastic_deformation(item, np.random.default_rng(seed))['image']
        shifts.append(deformed[0, 50, 100].item() - 100)
        assert shifts[-1] == pytest.approx(drawn, abs=1e-2)
    assert np.std(shifts) == pytest.approx(10, rel=0.15)


class Uploads(TorchDispatchMode):
    """Records of each copy to another device whether it waits for it."""

    def __init__(self):
        super().__init__()
        self.blocking = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        if function is torch.ops.aten._to_copy.default and given.get('device', args[0].device) != (
            args[0].device
        ):
            self.blocking.append(not given.get('non_blocking', False))
        return function(*args, **given)


@pytest.mark.parametrize('kind', ['full', 'elastic'])
def test_augmentation_on_a_device_does_not_wait_for_it(kind):
    item = {name: tensor.to('meta') for name, tensor in Squares()[0].items()}
    with Uploads() as uploads:
        moved = Augmented([item], 1, kind)[0, 0]
    assert moved['image'].device.type == 'meta'
    assert uploads.blocking
    assert not any(uploads.blocking)
