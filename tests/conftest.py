"""Tests import the programs, and depend neither on the user's environment nor on the network."""

import os
import re
import sys
from itertools import count
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import devices  # noqa: E402
from gpu_report import GpuReport  # noqa: E402

import utils.runtime.precision  # noqa: E402
import utils.training.recorder  # noqa: E402
from utils.training.state import TrainState  # noqa: E402

# Variables of real runs: Weights & Biases, torchrun, threads.
FOREIGN = re.compile(
    r'WANDB_.*|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_.*|TORCHELASTIC_.*|OMP_NUM_THREADS'
)


FOLDERS = count()


@pytest.fixture
def tmp_path(tmp_path_factory, request):
    """Return an empty folder of the test's own.

    pytest's fixture links NAMEcurrent to it and removes the link of the test before. The link is
    over 60 bytes long, which costs ext4 3 ms to remove and 30 ms while other programs write: of
    3,447 tests 10 to 100 s.
    """
    name = re.sub(r'\W', '_', request.node.name)[:30]
    folder = tmp_path_factory.getbasetemp() / f'{name}-{next(FOLDERS)}'
    folder.mkdir()
    return folder


@pytest.fixture(scope='session')
def matplotlib_folder(tmp_path_factory):
    """Return a folder for Matplotlib's list of fonts, which takes seconds to make."""
    return tmp_path_factory.mktemp('matplotlib')


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch, matplotlib_folder):
    """Hide the user's environment and home from a test."""
    for name in filter(FOREIGN.fullmatch, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user-cache'))
    monkeypatch.setenv('MPLCONFIGDIR', str(matplotlib_folder))
    monkeypatch.setenv('NETRC', str(tmp_path / 'no-netrc'))
    # No test takes the power away, and a disk answers in 7 ms.
    monkeypatch.setattr(os, 'fsync', lambda _: None)
    # It takes 0.2 s an epoch. tests/training/test_plots.py tests it.
    monkeypatch.setattr(utils.training.recorder, 'draw_curves', lambda *_: None)
    # --amp means bfloat16 in every test, also on a CPU that is slow in it.
    monkeypatch.setattr(utils.runtime.precision, 'cpu_bf16_speedup', lambda: 2.0)


def pytest_addoption(parser):
    parser.addoption(
        '--device', choices=['cpu', 'cuda'], default='cpu',
        help='where tests train and predict; cuda in one process, without -n (default: cpu)',
    )  # fmt: skip
    parser.addoption('--tiny', action='store_true', help='tests/cuda in its sizes for a CPU')
    parser.addoption('--report', metavar='DIR', help='write what tests/cuda finds, for dev/GPU.md')
    parser.addoption('--seconds', type=float, default=600, help='of all tests, with --report')


def pytest_configure(config):
    devices.DEVICE = config.getoption('--device')
    devices.TINY = config.getoption('--tiny') or devices.DEVICE == 'cpu'
    if folder := config.getoption('--report'):
        report = GpuReport(folder, devices.DEVICE, config.getoption('--seconds'))
        config.pluginmanager.register(report)
    if devices.DEVICE == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # or --device auto would take a card
        # Tiny networks gain nothing from a second thread, and lose much on a busy machine.
        torch.set_num_threads(1)
    else:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # before cuBLAS starts


def pytest_collection_modifyitems(config, items):
    if devices.DEVICE == 'cuda' and not torch.cuda.is_available():
        skip = pytest.mark.skip(reason='--device cuda: torch finds no CUDA card here')
        for item in items:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def float32_as_on_a_cpu():
    """Compute in full float32 on a card, and without the last test's --deterministic."""
    if devices.DEVICE == 'cpu':
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of each step that is trained, as a part of the recipe's 2e-3."""
    seen, advance = [], TrainState.advance

    def noting(state):
        seen.append(state.learning_rate / 2e-3)
        advance(state)

    monkeypatch.setattr(TrainState, 'advance', noting)
    return seen
