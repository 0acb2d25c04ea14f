"""Scripts in the original's call forms run from start to end."""

import os
import runpy
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from drawing import data_set
from PIL import Image

import unet
from utils.inference.checkpoint import load_checkpoint

SCRIPTS = Path(__file__).parent / 'scripts'


def run_here(name, *arguments):
    """Run a script within this process, which has imported torch already."""
    before = sys.argv
    sys.argv = [name, *arguments]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'FigureCanvasAgg is non-interactive')
            return runpy.run_path(str(SCRIPTS / name), run_name='__main__')
    finally:
        sys.argv = before


@pytest.fixture
def narrow(monkeypatch):
    """Networks of a sixteenth of the width, for speed; the slow test has them whole."""
    monkeypatch.setattr(unet, 'UNet', partial(unet.UNet, base_channels=4))


@pytest.fixture
def data(folder, monkeypatch):
    """A folder with data/imgs and data/masks, and matplotlib without a window."""
    monkeypatch.setenv('MPLBACKEND', 'agg')
    data_set(folder / 'data', 3, size=(64, 32))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures('narrow')
def test_scripts_train_and_predict_a_folder(data, capsys):
    pytest.importorskip('matplotlib')
    found = run_here('train_loop.py')
    assert 0 <= float(found['val_score']) <= 1
    checkpoint = load_checkpoint('checkpoints/checkpoint_epoch1.pth')
    assert (checkpoint.mask_values, checkpoint.model['bilinear']) == ([0, 255], True)
    run_here('predict_folder.py', 'checkpoints/checkpoint_epoch1.pth')
    masks = sorted(Path('data/imgs').glob('*_OUT.png'))
    assert len(masks) == 3
    for path in masks:
        mask = np.asarray(Image.open(path))
        assert mask.shape == (32, 64)
        assert set(np.unique(mask)) <= {0, 255}
    assert capsys.readouterr().out.endswith('(1, 2, 16, 32) [0, 255]\n')


@pytest.mark.slow  # 10 to 40 s, most of it for importing torch in each process
def test_scripts_run_in_processes_of_their_own_with_workers(data):
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'MPLBACKEND': 'agg'}
    for command in (
        ['train_loop.py', '--workers', '2'],
        ['predict_folder.py', 'checkpoints/checkpoint_epoch1.pth'],
    ):
        result = subprocess.run(
            [sys.executable, SCRIPTS / command[0], *command[1:]],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    assert len(list(Path('data/imgs').glob('*_OUT.png'))) == 3


@pytest.mark.slow
def test_hubs_network_loads_what_a_script_has_saved(data):
    torch.manual_seed(0)
    net = torch.hub.load(str(ROOT), 'unet_carvana', source='local', pretrained=False, scale=0.5)
    torch.save(net.state_dict() | {'mask_values': [0, 1]}, 'weights.pth')
    state_dict = torch.load('weights.pth', map_location='cpu')
    assert state_dict.pop('mask_values') == [0, 1]
    other = torch.hub.load(str(ROOT), 'unet_carvana', source='local')
    other.load_state_dict(state_dict)
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net.eval()(image), other.eval()(image))
