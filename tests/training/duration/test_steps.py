"""How many steps a run wants: one rule, and the note where it has fewer."""

import pytest
from drawing import data_set
from running import run_train

from utils.training.duration.steps import ENOUGH_STEPS, enough_epochs, note_of_few_steps
from utils.training.optimization.recipes import RECIPES


def test_each_recipe_has_a_number():
    assert ENOUGH_STEPS.keys() == RECIPES.keys()


@pytest.mark.parametrize(
    ('recipe', 'steps_per_epoch', 'epochs'),
    [
        ('fast', 12, 34), ('fast', 1, 400), ('fast', 399, 2), ('fast', 400, 1), ('fast', 2544, 1),
        ('classic', 24, 42), ('classic', 5088, 1), ('paper', 27, 38),
    ],
)  # fmt: skip
def test_a_run_wants_so_many_epochs(recipe, steps_per_epoch, epochs):
    assert enough_epochs(recipe, steps_per_epoch) == epochs
    assert note_of_few_steps(recipe, epochs, steps_per_epoch) == []
    if epochs > 1:
        (note,) = note_of_few_steps(recipe, epochs - 1, steps_per_epoch)
        assert f'note: {(epochs - 1) * steps_per_epoch} steps are few' in note
        assert f'Try -e {epochs}' in note
        assert ('-e auto' in note) == (recipe == 'fast')


@pytest.mark.slow
def test_train_says_how_many_steps_it_has_and_what_to_try(folder, capsys):
    data_set(folder, 6)  # 5 to train on: 3 steps
    assert run_train('-e', '1', '--output', 'a') == 0
    output = capsys.readouterr().out
    assert 'recipe fast, epochs 1 (3 steps), batch size 2' in output
    assert 'note: 3 steps are few: recipe fast wants about 400' in output
    assert 'Try -e 134, or -e auto.' in output
    # Trained weights want fewer.
    assert run_train('-e', '1', '--load', 'a/best.pth') == 0
    assert 'steps are few' not in capsys.readouterr().out
