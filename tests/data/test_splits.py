"""Splits never divide a car between training and validation, and are the same everywhere."""

import random

import pytest
import torch

from utils.data.splits import split_ids

CARS = [f'{car:012x}_{view:02}' for car in range(20) for view in range(1, 17)]


def test_no_car_is_on_both_sides():
    training, validation = split_ids(CARS, 10, 'group', seed=0)
    assert sorted(training + validation) == list(range(320))
    assert not {CARS[i][:12] for i in training} & {CARS[i][:12] for i in validation}
    assert len(validation) == 32


def test_the_split_does_not_depend_on_the_order_of_the_files():
    shuffled = random.Random(1).sample(CARS, len(CARS))
    first = {CARS[i] for i in split_ids(CARS, 10, 'group', seed=0)[1]}
    assert first == {shuffled[i] for i in split_ids(shuffled, 10, 'group', seed=0)[1]}
    assert first != {CARS[i] for i in split_ids(CARS, 10, 'group', seed=1)[1]}


def test_the_random_split_is_torchs_random_split():
    data = torch.utils.data.TensorDataset(torch.arange(320))
    generator = torch.Generator().manual_seed(0)
    expected_training, expected = torch.utils.data.random_split(data, [288, 32], generator)
    training, validation = split_ids(CARS, 10, 'random', seed=0)
    assert validation == sorted(expected.indices)
    assert training == sorted(expected_training.indices)


@pytest.mark.parametrize('method', ['group', 'random'])
def test_other_names_are_split_to_the_percentage_and_at_least_one(method):
    names = [f'cell_{i}' for i in range(50)]
    assert [len(part) for part in split_ids(names, 10, method, 0)] == [45, 5]
    assert [len(part) for part in split_ids(names[:4], 10, method, 0)] == [3, 1]
    assert [len(part) for part in split_ids(names, 0, method, 0)] == [50, 0]
    assert [len(part) for part in split_ids(names, 100, method, 0)] == [0, 50]


def test_a_single_image_is_trained_on():
    assert split_ids(['a'], 10, 'group', 0) == ([0], [])


def test_one_car_alone_is_split_by_view():
    assert [len(part) for part in split_ids(CARS[:16], 10, 'group', 0)] == [15, 1]


def test_numbered_names_other_than_carvanas_are_no_groups():
    names = [f'frame_{i:02}' for i in range(40)] + [f'shot_{i:02}' for i in range(40)]
    assert [len(part) for part in split_ids(names, 10, 'group', 0)] == [72, 8]
