"""A warning comes after three validations that predict one class everywhere, and only then."""

import torch
from drawing import data_set
from running import run_train

from utils.evaluation.metrics import count_pixels
from utils.training import validation
from utils.training.optimization.guard import CollapseWatch

TRUTH = torch.tensor([[[0, 1], [1, 1]]])
ONE_CLASS = torch.zeros(1, 2, 2, dtype=torch.int64)


def counts(predicted, truth=TRUTH):
    return count_pixels(predicted, truth, 2)


def test_three_validations_of_one_class_are_warned_of_once_naming_the_value():
    watch = CollapseWatch(['10', '255'])
    said = [watch.warning(counts(ONE_CLASS)) for _ in range(5)]
    assert [text is not None for text in said] == [False, False, True, False, False]
    assert 'every pixel of 3 validations was predicted as 10' in said[2]
    assert 'Look at samples.png' in said[2]


def test_one_good_validation_starts_the_count_anew():
    watch = CollapseWatch(['0', '255'])
    for predicted in (ONE_CLASS, ONE_CLASS, TRUTH, ONE_CLASS, ONE_CLASS):
        assert watch.warning(counts(predicted)) is None


def test_a_truth_of_one_class_everywhere_is_no_collapse():
    watch = CollapseWatch(['0', '255'])
    for _ in range(4):
        assert watch.warning(counts(ONE_CLASS, truth=ONE_CLASS)) is None


def test_training_says_so_and_goes_on(folder, capsys, monkeypatch):
    data_set(folder, 4)
    background = count_pixels(torch.zeros(1, 4, 4, dtype=int), torch.ones(1, 4, 4), 2)
    monkeypatch.setattr(validation, 'count_at_scale', lambda *_: background)
    assert run_train('-e', '4') == 0
    assert capsys.readouterr().out.count('every pixel of 3 validations was predicted as 0') == 1
