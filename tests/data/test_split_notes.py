"""Notes on a split that was hardly meant: validation without foreground, 0.2 for 20 percent."""

import numpy as np
import pytest
from drawing import data_set
from PIL import Image
from running import checked, run_train


@pytest.mark.parametrize('value', [0, 255])
def test_a_validation_set_without_foreground_says_so(folder, capsys, value):
    data_set(folder, 6)
    (folder / 'val/imgs').mkdir(parents=True)
    (folder / 'val/masks').mkdir()
    for k in range(2):
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(folder / f'val/imgs/v{k}.png')
        Image.fromarray(np.full((32, 48), value, np.uint8)).save(folder / f'val/masks/v{k}.png')
    options = ['--val-images', 'val/imgs', '--val-masks', 'val/masks']
    said = 'the validation set has no foreground: its 2 masks hold only 0.'
    assert (said in checked(capsys, *options)[0]) == (value == 0)
    # Where both classes count, one of them alone is as little.
    alone = f'its 2 masks hold only {value}.'
    assert alone in checked(capsys, *options, '--background', 'none')[0]
    assert 'has no foreground' not in checked(capsys)[0]
    if value == 0:
        assert run_train('-e', '1', '-b', '3', '--base-channels', '2', *options) == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(('percent', 'words'), [('0.2', '--validation 20'), ('20', None)])
def test_a_share_taken_for_a_percentage_gets_a_note(folder, capsys, percent, words):
    data_set(folder, 6)
    out = checked(capsys, '-v', percent)[0]
    assert (words or 'nothing is wrong') in out
    assert ('is 0.2 percent, 1 of 6 images' in out) == bool(words)
    assert checked(capsys, '-v', '0')[0].count('percent') == 0


@pytest.mark.parametrize(
    ('name', 'pattern'),
    [
        ('sub-{group:02}_z{k}', r'(.*\D)\d+$'),  # slices of brains
        ('TCGA_{group}/TCGA_{group}_{k}', '(.*)/'),  # a folder for each patient, as in LGG
        ('video{group}/frame{k:05}', '(.*)/'),
        ('austin{k}', None),  # of one town
        ('{kind} ({k})', None),  # kinds, as in BUSI
        ('{year}_{k:06}', None),  # years, as in VOC
        ('{k:06}', None),
        ('{group:012x}_{k:02}', None),  # Carvana's cars, which are kept together
    ],
)
def test_groups_in_both_sets_are_told_of_with_the_option_that_parts_them(
    folder, capsys, name, pattern
):
    said = [
        {'group': k // 3, 'kind': 'ab'[k % 2], 'year': 2007 + k // 3, 'k': k} for k in range(18)
    ]
    names = [name.format(**parts) for parts in said]
    for file in names:
        for part in ('imgs', 'masks'):
            (folder / part / file).parent.mkdir(parents=True, exist_ok=True)
    data_set(folder, 18, names=names)
    out = checked(capsys)[0]
    assert ('the images look like 6 groups' in out) == (pattern is not None)
    if pattern:
        assert f"--group-regex '{pattern}'" in out
        assert 'look like' not in checked(capsys, '--group-regex', pattern)[0]
        assert 'look like' not in checked(capsys, '--split', 'random')[0]
