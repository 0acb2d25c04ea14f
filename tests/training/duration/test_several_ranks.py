"""--epochs auto and --dry-run in two processes."""

from pathlib import Path

import pytest
from drawing import data_set
from launching import run_together
from running import SMALL

import train
from utils.inference.checkpoint import load_checkpoint
from utils.training.duration import steps


def together(folder, *options):
    data = ['--images', 'imgs', '--masks', 'masks', *SMALL]
    return run_together(lambda rank: train.main([*data, *options]), folder)


@pytest.mark.slow
def test_both_agree_on_the_plateau_and_go_on_together(folder, monkeypatch):
    data_set(folder, 6)  # 4 to train on: 2 steps of two processes
    monkeypatch.setitem(steps.ENOUGH_STEPS, 'fast', 9)
    assert together(folder, '-e', 'auto', '-v', '34', '-b', '1') == [0, 0]
    saved = load_checkpoint('checkpoints/last.pth').training
    assert saved['plan']['steps'] == saved['step'] == 2 * saved['epoch'] >= 9
    assert (folder / 'out0').read_text().count('Validation has stalled') == 1


@pytest.mark.slow
def test_a_dry_run_of_two_processes_is_told_by_one_and_leaves_nothing(folder):
    data_set(folder, 8, size=(70, 64))
    assert together(folder, '--dry-run', '-b', '1') == [0, 0]
    assert (folder / 'out0').read_text().count('dry run: 20 steps') == 1
    assert (folder / 'out1').read_text() + (folder / 'err1').read_text() == ''
    assert not Path('checkpoints').exists()
