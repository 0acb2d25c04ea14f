"""A training that is killed at any moment leaves whole files, and ends as if it had not been."""

import random
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT
from drawing import data_set

from utils.checkpoint import load_checkpoint

OPTIONS = [
    '--images', 'imgs', '--masks', 'masks', '--base-channels', '8', '-s', '1', '-e', '30',
    '--wandb', 'disabled', '--device', 'cpu',
]  # fmt: skip


def start(folder, *options):
    command = [sys.executable, str(ROOT / 'train.py'), *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_weights_of_the_unbroken_run(tmp_path):
    data_set(tmp_path, 6)
    assert start(tmp_path, *OPTIONS, '--output', 'whole').wait() == 0
    chance = random.Random(0)
    last = tmp_path / 'broken/last.pth'
    kills = 0
    while not last.exists() or load_checkpoint(last).training['epoch'] < 30:
        how = ['--resume', 'broken/last.pth'] if last.exists() else [*OPTIONS, '--output', 'broken']
        run = start(tmp_path, *how)
        epoch = load_checkpoint(last).training['epoch'] if last.exists() else 0
        while (
            run.poll() is None
            and not (tmp_path / f'broken/checkpoint_epoch{epoch + 3}.pth').exists()
        ):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        run.kill()
        kills += run.wait() != 0
        run.stderr.close()
        for path in (tmp_path / 'broken').glob('*.pth'):
            load_checkpoint(path)
    assert kills >= 3
    whole, broken = load_checkpoint(tmp_path / 'whole/last.pth'), load_checkpoint(last)
    assert all(torch.equal(whole.weights[k], broken.weights[k]) for k in whole.weights)
