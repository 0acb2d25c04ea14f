"""The programs' modules are importable and no test reaches the network or the user's files."""

import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import utils.runtime.precision  # noqa: E402
import utils.training.recorder  # noqa: E402


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user-cache'))
    for name in os.environ:
        if name.startswith('WANDB_'):  # what the user has set for real runs
            monkeypatch.delenv(name)
    monkeypatch.setenv('NETRC', str(tmp_path / 'no-netrc'))
    # 0.2 s an epoch; tests/training/test_plots.py draws.
    monkeypatch.setattr(utils.training.recorder, 'draw_curves', lambda *_: None)
    # --amp means bfloat16 in every test, also on a CPU that is slow in it.
    monkeypatch.setattr(utils.runtime.precision, 'cpu_bf16_speedup', lambda: 2.0)


def pytest_configure():
    # Tiny networks gain nothing from a second thread, and lose much on a machine that is busy.
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, as a user would."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
