"""From rendered cars with four classes to a trained network and masks in their encoding."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import rows

import predict
import train
from utils.inference.checkpoint import load_checkpoint

DEMO = Path(__file__).resolve().parents[2] / 'scripts/make_demo_data.py'


@pytest.mark.slow
def test_body_windows_and_wheels_are_learned_and_predicted_in_the_masks_encoding(folder):
    render = [sys.executable, str(DEMO), '--images', 'imgs', '--masks', 'masks']
    options = ['--count', '48', '--size', '192x128', '--classes', '4', '--workers', '1']
    subprocess.run([*render, *options], check=True, capture_output=True)
    data = ['--images', 'imgs', '--masks', 'masks', '--wandb', 'disabled', '--device', 'cpu']
    assert train.main([*data, '-e', '6', '-s', '1', '--base-channels', '16']) == 0
    assert float(rows()[-1]['dice_dataset']) > 0.8  # the mean of the three foreground classes
    assert load_checkpoint('checkpoints/best.pth').masks.values == [0, 1, 2, 3]

    image = sorted((folder / 'imgs').iterdir())[0]
    assert predict.main(['-m', 'checkpoints/best.pth', '-i', str(image), '-o', 'mask.png']) == 0
    truth = Image.open(folder / 'masks' / f'{image.stem}_mask.gif')
    found = Image.open('mask.png')
    assert found.mode == truth.mode == 'P'
    assert found.getpalette()[:12] == truth.getpalette()[:12]
    same = np.asarray(found) == np.asarray(truth)
    assert same.mean() > 0.95
    assert set(np.unique(found)) == {0, 1, 2, 3}
