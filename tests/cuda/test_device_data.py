"""Counting, halving and augmentation give on a device what they give on the CPU."""

import pytest
import torch
from device_steps import CPU, HEIGHT, HERE, WIDTH, batch

from utils.data.augmentation import Augmented
from utils.evaluation.boundary import count_boundary
from utils.evaluation.metrics import confusion_matrix, count_thresholds
from utils.evaluation.scoring import rescaled_truth
from utils.training.step import halve_resolution


def test_halved_images_are_those_of_the_cpu(record_property):
    images, masks = batch(device=CPU)
    expected, expected_masks = halve_resolution(images, masks)
    found, found_masks = halve_resolution(images.to(HERE), masks.to(HERE))
    off = (expected - found.cpu()).abs().max().item()
    record_property('found', f'images within {off:.1e}')
    assert torch.equal(expected_masks, found_masks.cpu())
    assert off < 1e-5
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('classes', [2, 5])
def test_counts_are_those_of_the_cpu(record_property, classes):
    generator = torch.Generator().manual_seed(1)
    shape = (2, HEIGHT, WIDTH)
    predicted = torch.randint(0, classes, shape, generator=generator)
    truth = torch.randint(0, classes, shape, generator=generator, dtype=torch.uint8)
    truth[:, :5] = 255
    binary = torch.where(truth[0] == 255, 255, truth[0] % 2)
    full = truth.new_zeros(2 * HEIGHT, 2 * WIDTH)
    works = {
        'confusion': lambda p, t, b: confusion_matrix(p, t, classes),
        'boundary': lambda p, t, b: count_boundary(p[0], t[0], classes, 2),
        'thresholds': lambda p, t, b: count_thresholds(p[0] / (classes - 1), b),
        'rescaled': lambda p, t, b: rescaled_truth(t[0], full.to(t.device), classes),
    }
    tensors = predicted, truth, binary
    different = {}
    for name, work in works.items():
        one, other = work(*tensors), work(*(tensor.to(HERE) for tensor in tensors)).cpu()
        different[name] = (one != other).sum().item() / one.numel()
    told = ', '.join(f'{name} {100 * part:.2g} %' for name, part in different.items())
    record_property('found', f'integers that differ: {told}')
    # Borders of rescaled masks are decided at exactly 0.5: another order of adding may flip some.
    assert different.pop('rescaled') <= 1e-3
    assert set(different.values()) == {0}


class OneItem(torch.utils.data.Dataset):
    """A data set of one image with a mask of squares, on a device."""

    def __init__(self, device):
        generator = torch.Generator().manual_seed(2)
        pixels = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)
        y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing='ij')
        mask = ((y // 8 + x // 8) % 2).to(torch.uint8)
        self.item = {'image': pixels.permute(2, 0, 1).to(device), 'mask': mask.to(device)}

    def __getitem__(self, position):
        return dict(self.item)


@pytest.mark.parametrize('kind', ['flip', 'elastic', pytest.param('full', marks=pytest.mark.slow)])
def test_a_device_augments_as_a_cpu_does(record_property, kind):
    """As with --cache device; an H100 differed by 0.0004 grey levels on average."""
    grey, labels = [], []
    for k in range(4):
        one, other = (Augmented(OneItem(device), k, kind)[(1, k)] for device in (CPU, HERE))
        grey.append((one['image'].int() - other['image'].int().cpu()).abs().float().mean().item())
        labels.append((one['mask'] != other['mask'].cpu()).float().mean().item())
    record_property('found', f'{max(grey):.1g} grey levels, {max(labels):.1g} of the mask differ')
    assert max(grey) < (1 if kind != 'flip' else 1e-12)
    assert max(labels) < (1e-3 if kind != 'flip' else 1e-12)
