"""The fast recipe's first steps are at half size, where images are large enough for that."""

import torch
from drawing import data_set
from running import run_train

from utils.training.optimization.recipes import RECIPES
from utils.training.step import StepRunner, halve_resolution


def test_a_batch_is_halved_and_image_and_mask_stay_together():
    masks = torch.zeros(1, 66, 65, dtype=torch.uint8)
    masks[:, 20:40, 30:50] = 1
    images, small = halve_resolution(masks[:, None].float(), masks)
    assert images.shape == (1, 1, 33, 33)
    assert small.shape == (1, 33, 33)
    assert ((images[:, 0] > 0.5) == (small == 1)).float().mean() > 0.97
    assert abs(images.mean() - masks.float().mean()) < 0.01


def test_images_with_a_side_under_64_pixels_stay_as_they_are():
    images, masks = torch.rand(1, 1, 63, 200), torch.zeros(1, 63, 200)
    assert halve_resolution(images, masks) == (images, masks)


def test_an_eighth_of_the_steps_is_at_half_size(folder, monkeypatch):
    data_set(folder, 9, size=(70, 64))  # 8 to train on: 4 steps in each of 2 epochs
    shapes = []
    on_device = StepRunner.on_device

    def noting(runner, batch):
        loaded = on_device(runner, batch)
        shapes.append(tuple(loaded[0].shape[2:]))
        return loaded

    monkeypatch.setattr(StepRunner, 'on_device', noting)
    assert run_train('-e', '2') == 0
    assert shapes == [(32, 35)] + [(64, 70)] * 7
    assert RECIPES['classic'].coarse == 0
