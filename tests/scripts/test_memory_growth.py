"""The memory of prediction over time, and the script that watches it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from drawing import data_set
from networks import save

from scripts.memory_growth import MIB, grows, medians_of_thirds, memory_of, process_tree, watch
from unet import UNet

SCRIPT = ROOT / 'scripts' / 'memory_growth.py'
linux = pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='Linux only')

# Runs a program of the project with a leak of so many MiB at each call of a method.
LEAKY = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import torch
import predict
from utils.inference.pipeline import PredictionPipeline

leak, *options = sys.argv[1:]
called, kept = PredictionPipeline._write, []

def leaking(*arguments):
    kept.append(torch.ones(int(float(leak) * (1 << 18))))
    return called(*arguments)

PredictionPipeline._write = leaking
sys.exit(predict.main(options))
"""


@pytest.mark.parametrize(
    ('medians', 'expected'),
    [
        ([100, 119, 119], False),
        ([100, 110, 121], True),
        ([100, 130, 100], False),
        ([2000, 2010, 2039], False),
        ([2000, 2010, 2041], True),
        ([200, 150, 100], False),
    ],
)
def test_growth_is_over_20_mib_and_over_2_percent(medians, expected):
    assert grows([median * MIB for median in medians]) == expected


def test_thirds_begin_after_the_warm_up():
    assert medians_of_thirds([9, 9, 9, 1, 1, 5, 2, 2, 3, 3, 3, 3], 0.25) == [1, 2, 3]


@linux
def test_children_and_their_children_count_until_they_end():
    inner = 'held = bytearray(64 << 20); print(flush=True); input()'
    outer = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {inner!r}])'
    with subprocess.Popen(
        [sys.executable, '-c', outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        tree = process_tree(process.pid)
        sizes = [memory_of(one) for one in tree]
        process.stdin.close()
    assert len(tree) == 2
    assert sizes[0] < 64 * MIB < sizes[1] < 100 * MIB
    assert [memory_of(one) for one in tree] == [0, 0]


@linux
def test_memory_that_processes_share_counts_once():
    code = """if True:
        import mmap, os, sys
        sys.path.insert(0, sys.argv[1])
        from scripts.memory_growth import memory_of
        shared, private = mmap.mmap(-1, 64 << 20), bytearray(b'1') * (64 << 20)
        shared.write(b'1' * len(shared))
        (read, write), (ready, seen) = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            sum(shared[::4096]), sum(private[::4096])
            os.write(seen, b'1')
            os.read(read, 1)
            os._exit(0)
        os.read(ready, 1)
        print(memory_of(os.getpid()) + memory_of(child))
        os.write(write, b'1')
    """
    result = subprocess.run([sys.executable, '-c', code, str(ROOT)], capture_output=True, text=True)
    assert 128 * MIB < int(result.stdout) < 180 * MIB, result.stderr


@linux
def test_the_exit_code_is_the_commands():
    assert watch([sys.executable, '-c', 'raise SystemExit(3)'])[1] == 3


def run(folder, *command):
    command = [
        sys.executable,
        str(SCRIPT),
        '--warm-up',
        '0.4',
        '--interval',
        '0.05',
        sys.executable,
        *command,
    ]
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return result.returncode, result.stdout.splitlines()[-1:], result.stderr


@linux
@pytest.mark.slow  # 10 to 20 s each; training's figures over 200 epochs are in dev/LOG.md
@pytest.mark.parametrize('leak', [0, 0.2])
def test_prediction_keeps_its_memory(tmp_path, leak):
    data_set(tmp_path, 1000)
    save(tmp_path / 'model.pth', UNet(3, 2, base_channels=4))
    (tmp_path / 'leaky.py').write_text(LEAKY)
    options = '-m model.pth -i imgs -o out -s 1 --backend torch'.split()
    code, said, errors = run(tmp_path, 'leaky.py', str(leak), *options)
    assert code == bool(leak), errors[-2000:]
    assert ('it grows' if leak else 'no growth') in said[0]
