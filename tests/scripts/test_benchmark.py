"""The benchmarks print a line for each variant, and the scripts start without torch."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from drawing import data_set
from networks import save

from unet import UNet


def benchmark(folder, *arguments):
    command = [sys.executable, str(ROOT / 'scripts/benchmark.py'), *arguments, '--runs', '1']
    environment = os.environ | {'OMP_NUM_THREADS': '1'}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_every_variant_gets_a_line_of_minimum_median_and_maximum(tmp_path):
    data_set(tmp_path, 2)
    options = ['--size', '32x24', '--base-channels', '2', '--batch-size', '1', '3']
    result = benchmark(tmp_path, *options, '--images', 'imgs', '--masks', 'masks')
    assert result.returncode == 0, result.stderr
    lines = re.findall(r'^(\S.*?) +([\d.]+) +([\d.]+) +([\d.]+)$', result.stdout, re.MULTILINE)
    assert [line[0] for line in lines] == [
        *(
            f'{part} 32x24 batch {batch} {precision}'
            for part in ('step', 'predict')
            for batch in (1, 3)
            for precision in ('fp32', 'bf16')
        ),
        "pair to batch, the original's way",
        'pair to batch, first epoch',
        'pair to batch, kept on the disk',
        'pair to batch, kept in memory',
        'image to scale 0.5',
        'mask to scale 0.5',
        # and how many times faster these are
        'pair to batch, first epoch',
        'pair to batch, kept on the disk',
        'pair to batch, kept in memory',
    ]
    assert all(float(low) <= float(median) <= float(high) for _, low, median, high in lines)


def test_a_wrong_size_is_refused(tmp_path):
    result = benchmark(tmp_path, 'step', '--size', 'large')
    assert result.returncode == 2
    assert "--size: 'large': expected WxH" in result.stderr


@pytest.mark.parametrize('script', ['benchmark', 'merged_cells', 'make_demo_data'])
def test_help_of_the_scripts_needs_neither_torch_nor_numpy_nor_pillow(script):
    code = (
        'import sys; sys.modules |= dict.fromkeys(["torch", "numpy", "PIL"])\n'
        f'from scripts import {script}; {script}.get_args(["-h"])'
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.startswith('usage: ')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('models', 'ways'),
    [('m.pth', ['torch']), ('m.pth slim.pth', ['m.pth torch', 'slim.pth torch'])],
)
def test_each_way_from_pictures_to_masks_is_timed_and_compared(tmp_path, models, ways):
    data_set(tmp_path, 3)
    for name in models.split():
        save(tmp_path / name, UNet(3, 2, base_channels=2), mask_values=[0, 255])
    script = str(ROOT / 'scripts/benchmark_prediction.py')
    command = [sys.executable, script, '-m', *models.split()]
    options = ['--images', 'imgs', '--backends', 'torch', '--runs', '1', '--count', '2', '-s', '1']
    result = subprocess.run(command + options, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = re.findall(r'^(file to mask.*?)  +(.+)$', result.stdout, re.MULTILINE)
    names = [name for name, _ in lines]
    ways = [f'file to mask, {way}' for way in ways]
    assert names == ["file to mask, the original's way", *3 * ways]
    assert lines[-1][1] == '100.000 % agree'
