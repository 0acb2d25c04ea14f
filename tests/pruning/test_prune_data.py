"""prune.py reads masks as the network's file says, wherever its pictures are."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawing import data_set
from networks import brightness_network, save
from PIL import Image

import prune
from utils.inference.checkpoint import load_checkpoint

DATA = ['--images', 'imgs', '--masks', 'masks']
OPTIONS = ['-m', 'moved.pth', '--device', 'cpu', '-e', '1', *DATA]


def figures(*options):
    """The table of prune.py, as in --json."""
    assert prune.main([*OPTIONS, *options, '--json', 's.json']) == 0
    return json.loads(Path('s.json').read_text())


@pytest.fixture
def discs(folder):
    """Four discs, brighter than 0.5, and a network that sees them; no args.json is beside it."""
    data_set(folder, 4)
    save('moved.pth', brightness_network(), 1.0, mask_values=[0, 255])
    return folder


@pytest.mark.slow
def test_the_values_of_the_classes_are_the_networks(discs):
    assert figures('--cost', '1')['before']['dice'] > 0.95
    # The same network for masks of which 255 is class 0: all that it says is wrong.
    save('moved.pth', brightness_network(), 1.0, mask_values=[255, 0])
    assert figures('--cost', '1')['before']['dice'] < 0.05
    assert load_checkpoint('slim.pth').masks.values == [255, 0]


@pytest.mark.slow
def test_rounds_and_the_result_keep_ignored_values(discs):
    for path in Path('masks').iterdir():
        mask = np.array(Image.open(path))
        mask[:2] = 77
        Image.fromarray(mask).save(path)
    encoding = {'ignore': [77], 'names': ['ground', 'disc']}
    save('moved.pth', brightness_network(), 1.0, mask_values=[0, 255], mask_encoding=encoding)
    assert figures('--cost', '0.7')['after']['dice'] is not None
    masks = load_checkpoint('slim.pth').masks
    assert (masks.values, masks.ignore, masks.names) == ([0, 255], [77], ['ground', 'disc'])
    assert prune.main(['-m', 'slim.pth', '-o', 'again.pth', *OPTIONS[2:], '--cost', '1']) == 0


def test_numbered_objects_stay_one_class(discs):
    for k, path in enumerate(Path('masks').iterdir()):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask, 3 + k, 0).astype(np.uint8)).save(path)
    encoding = {'threshold': 0}
    save('moved.pth', brightness_network(), 1.0, mask_values=[0, 255], mask_encoding=encoding)
    assert figures('--cost', '1')['before']['dice'] > 0.95


@pytest.mark.slow
def test_a_pruned_network_is_trained_more_gently_than_a_new_one(discs, monkeypatch, capsys):
    rates, told = [], []
    for name, part in [('a', prune.GENTLE), ('b', 1)]:
        monkeypatch.setattr(prune, 'GENTLE', part)
        command = [*OPTIONS, '--cost', '0.7', '-e', '2', '-o', f'{name}.pth']
        assert prune.main(command) == 0
        told.append(re.search('learning rate ([0-9.]+)', capsys.readouterr().out)[1])
        table = Path(f'{name}-rounds/round1/metrics.csv').read_text().splitlines()
        rates.append(float(next(csv.DictReader(table))['learning_rate']))
    assert rates[0] == pytest.approx(0.4 * rates[1])
    assert rates[0] > 0
    assert told == ['0.0008', '0.002']


def test_without_the_settings_of_the_training_a_note_tells_of_the_validation_set(discs, capsys):
    assert prune.main([*OPTIONS, '--cost', '1']) == 0
    assert (
        'note: the settings of the training of moved.pth are not known' in capsys.readouterr().out
    )


@pytest.mark.slow
@pytest.mark.parametrize('files', [{'val_images': 'v', 'val_masks': 'v'}, {'val_list': 'v.txt'}])
def test_named_pictures_are_validated_on_where_the_training_had_others_for_that(discs, files):
    Path('run').mkdir()
    shutil.move('moved.pth', 'run/moved.pth')
    settings = {'images': 'gone', 'masks': 'gone', 'scale': 1.0, 'validation': 0.0} | files
    Path('run/args.json').write_text(json.dumps(settings))
    assert figures('-m', 'run/moved.pth', '--cost', '1')['before']['dice'] > 0.95


@pytest.mark.slow
def test_a_network_that_lost_much_is_told_of_with_what_to_try(discs, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(prune, 'MUCH', -1)  # this one loses nothing
        assert prune.main([*OPTIONS, '--cost', '0.3']) == 0
    assert 'note: much is lost. Try more epochs (-e 2), or a higher --cost.' in (
        capsys.readouterr().out
    )
    assert prune.main([*OPTIONS, '--cost', '1', '-o', 'whole.pth']) == 0
    assert 'much is lost' not in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_that_has_nothing_to_try_says_so(discs, capsys):
    save('moved.pth', brightness_network(widths=[1] * 22), 1.0, mask_values=[0, 255])
    assert prune.main([*OPTIONS, '--cost', 'auto']) == 0
    assert 'note: no network of narrower layers is cheaper: nothing' in capsys.readouterr().out
