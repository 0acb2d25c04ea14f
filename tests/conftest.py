"""Tests import the programs, and depend neither on the user's environment nor on the network."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import utils.runtime.precision  # noqa: E402
import utils.training.recorder  # noqa: E402

# Variables of real runs: Weights & Biases, torchrun, threads.
FOREIGN = re.compile(
    r'WANDB_.*|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_.*|TORCHELASTIC_.*|OMP_NUM_THREADS'
)


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Hide the user's environment and home from a test."""
    for name in filter(FOREIGN.fullmatch, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user-cache'))
    monkeypatch.setenv('NETRC', str(tmp_path / 'no-netrc'))
    # It takes 0.2 s an epoch. tests/training/test_plots.py tests it.
    monkeypatch.setattr(utils.training.recorder, 'draw_curves', lambda *_: None)
    # --amp means bfloat16 in every test, also on a CPU that is slow in it.
    monkeypatch.setattr(utils.runtime.precision, 'cpu_bf16_speedup', lambda: 2.0)


def pytest_configure():
    # Tiny networks gain nothing from a second thread, and lose much on a busy machine.
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
