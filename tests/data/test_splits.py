"""Splits never divide a car between training and validation, and are the same everywhere."""

import os
import random

import pytest
import torch
from drawing import data_set
from running import run_train

import train
from utils.data.pairing.matching import Pair
from utils.data.splits import describe_groups, split_ids, split_pairs

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


def test_names_that_are_no_utf_8_are_split():
    ids = [os.fsdecode(b'\xff%d' % k) for k in range(10)]
    training, validation = split_ids(ids, 20, 'group', seed=0)
    assert len(validation) == 2 and sorted(training + validation) == list(range(10))


def test_a_single_image_is_trained_on():
    assert split_ids(['a'], 10, 'group', 0) == ([0], [])


def test_one_car_alone_is_split_by_view():
    assert [len(part) for part in split_ids(CARS[:16], 10, 'group', 0)] == [15, 1]


def test_numbered_names_other_than_carvanas_are_no_groups():
    names = [f'frame_{i:02}' for i in range(40)] + [f'shot_{i:02}' for i in range(40)]
    assert [len(part) for part in split_ids(names, 10, 'group', 0)] == [72, 8]


def views(*counts):
    """Carvana's names: of each car so many views."""
    return [f'{car:012x}_{k:02}' for car, count in enumerate(counts) for k in range(1, count + 1)]


def described(names, options):
    """The lines on the split of such files by such options."""
    args = train.get_args(options.split())
    pairs = [Pair(name, None, None) for name in names]
    return describe_groups(pairs, split_pairs(pairs, args)[0], args)


@pytest.mark.parametrize(
    ('names', 'options', 'asked', 'found'),
    [
        (views(16, 16), '-v 10', '--validation 10 asks for 10 %', '50 % (16 of 32)'),
        (views(4, 4, 4), '', '--validation 10 asks for 10 %', '33.3 % (4 of 12)'),
        (views(1, 1, 18), '-v 40', '--validation 40 asks for 40 %', '10 % (2 of 20)'),
        (views(16, 2, 2), '--fold 1/3', '--fold 1/3 asks for 33.3 %', '80 % (16 of 20)'),
    ],
)
def test_a_share_far_from_what_was_asked_is_said_with_the_way_to_divide(
    names, options, asked, found
):
    (note,) = described(names, options)
    assert asked in note
    assert f'but it is {found}, because whole cars are kept together' in note
    assert 'Use --split random to divide them' in note


def test_the_note_on_groups_of_an_expression_replaces_it():
    *_, note = described(['a1', 'a2', 'a3', 'b1', 'b2', 'b3'], '-v 10 --group-regex [a-z]')
    assert '50 % (3 of 6), because whole groups are kept together, 2 in all' in note
    assert 'Use --split random instead of --group-regex to divide them' in note


@pytest.mark.parametrize(
    ('names', 'options'),
    [
        (CARS, '-v 10'),
        (views(16, 16), '-v 10 --split random'),
        (views(16, 16), '-v 40'),  # 50 % is near enough
        (views(16), '-v 10'),  # one car is split by view
        (views(16, 16), '-v 0'),
        (views(16, 16), '--fold 2/2'),
        (['a', 'b', 'c'], '-v 1'),  # one of three is the least, groups or not
    ],
)
def test_a_share_near_enough_or_none_of_groups_is_not_worth_a_line(names, options):
    assert described(names, options) == []


def test_training_and_check_say_it(folder, capsys):
    data_set(folder, 8, names=views(4, 4))
    for options in (['--check'], ['-e', '1']):
        assert run_train(*options) == 0
        assert capsys.readouterr().out.count('but it is 50 % (4 of 8)') == 1
