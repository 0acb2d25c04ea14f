"""Training says when it predicts one class everywhere, and which classes are not learned."""

import pytest
import torch
from drawing import data_set
from running import run_train

from utils.evaluation.metrics import count_pixels, summarize
from utils.training import validation
from utils.training.duration import steps
from utils.training.optimization.guard import CollapseWatch, describe_unlearned

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


@pytest.mark.slow
def test_training_says_so_and_goes_on(folder, capsys, monkeypatch):
    data_set(folder, 4)
    background = count_pixels(torch.zeros(1, 4, 4, dtype=int), torch.ones(1, 4, 4), 2)
    monkeypatch.setattr(validation, 'count_at_scale', lambda *_: background)
    assert run_train('-e', '4') == 0
    assert capsys.readouterr().out.count('every pixel of 3 validations was predicted as 0') == 1


def test_classes_that_the_truth_holds_and_that_are_hardly_found_are_unlearned():
    truth = torch.zeros(1, 20, 20, dtype=torch.int64)
    truth[0, 0], truth[0, 1, :2] = 1, 2  # 5 % and 0.5 % of the pixels; nothing of class 3
    predicted = truth.clone()
    predicted[0, 1] = 0
    scores = summarize(count_pixels(predicted, truth, 4), [0, 1, 2, 3])
    titles = ['road', 'kerb', 'pole', 'tree']
    text = describe_unlearned(scores, titles)
    assert text == '1 of 4 classes are not learned: pole (0.5 % of the pixels, Dice 0.000)'
    predicted[0, 0, 2:], predicted[0, 1, :2] = 3, 2  # Dice 4 / 22 of the kerb, 1 of the pole
    assert (
        describe_unlearned(summarize(count_pixels(predicted, truth, 4), [0, 1, 2, 3]), titles) == ''
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('options', 'remedy'),
    [
        ('-s 0.8', '; or, in a new run, --loss-weights auto, which raises rare classes and -s 1'),
        ('-s 1 --loss-weights auto', '.'),
    ],
)
def test_a_run_ends_by_saying_which_classes_are_not_learned_and_what_to_try(
    folder, capsys, monkeypatch, options, remedy
):
    data_set(folder, 4)
    background = count_pixels(torch.zeros(1, 4, 4, dtype=int), torch.tensor([[[0, 0, 0, 1]]]), 2)
    monkeypatch.setattr(validation, 'count_at_scale', lambda *_: background)
    monkeypatch.setitem(steps.ENOUGH_STEPS, 'fast', 10)
    assert run_train('-e', '2', *options.split()) == 0
    said = capsys.readouterr().out
    assert 'note: 1 of 2 classes are not learned: 255 (25 % of the pixels, Dice 0.000)' in said
    assert f'Try more epochs: python train.py --resume checkpoints/last.pth -e 5{remedy}' in said
    assert run_train('--resume', '-e', '5', *options.split()) == 0  # as it says
    assert said.splitlines()[-1].startswith('Predict with: ')


def test_a_common_class_is_not_said_to_need_a_weight(folder, capsys, monkeypatch):
    data_set(folder, 4)
    foreground = count_pixels(torch.ones(1, 4, 4, dtype=int), torch.tensor([[[0, 0, 0, 1]]]), 2)
    monkeypatch.setattr(validation, 'count_at_scale', lambda *_: foreground)
    assert run_train('-e', '1', '-s', '1') == 0
    said = capsys.readouterr().out
    assert '1 of 2 classes are not learned: 0 (75 % of the pixels' in said
    assert '--loss-weights' not in said
