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
