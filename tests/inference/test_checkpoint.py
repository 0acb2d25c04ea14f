"""Checkpoints describe themselves, appear whole or not at all, and the flat form is read too."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT

from unet import UNet
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.inference.checkpoint import (
    Checkpoint,
    load_checkpoint,
    model_config,
    save_checkpoint,
)
from utils.runtime.errors import UserError, explain


def make(model, **others):
    return Checkpoint(model_config(model), model.state_dict(), **others)


@pytest.mark.parametrize('bilinear', [False, True])
def test_a_checkpoint_rebuilds_its_network(tmp_path, bilinear):
    model = UNet(1, 3, bilinear=bilinear, base_channels=4)
    extra = {'mask_values': [0, 7, 255], 'scale': 0.25, 'metrics': {'dice_dataset': 0.5}}
    save_checkpoint(make(model, **extra), tmp_path / 'a.pth')
    found = load_checkpoint(tmp_path / 'a.pth')
    assert found.model == {
        'n_channels': 1,
        'n_classes': 3,
        'bilinear': bilinear,
        'base_channels': 4,
    }
    assert {name: getattr(found, name) for name in extra} == extra
    assert found.training is None
    x = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(found.build_model()(x), model.eval()(x), rtol=0, atol=0)


def test_resumable_checkpoints_are_one_dict_of_plain_data_as_they_always_were(tmp_path):
    save_checkpoint(make(UNet(1, 2, base_channels=2), scale=0.5, training={}), tmp_path / 'a.pth')
    content = torch.load(tmp_path / 'a.pth', weights_only=True)
    entries = 'format version model mask_values mask_encoding preprocessing metrics'
    assert list(content) == [*entries.split(), 'weights', 'training']
    assert content['format'] == 'unet'
    assert content['version'] == 1
    assert content['preprocessing'] == {'scale': 0.5, 'decode': DECODE_PATH}


@pytest.mark.parametrize('training', [None, {}])
def test_the_decode_path_of_a_checkpoint_is_kept(tmp_path, training):
    for decode in ('pillow, bicubic with antialias, uint8', DECODE_PATH):
        model = UNet(1, 2, base_channels=2)
        saved = make(model, scale=0.5, decode=decode, training=training)
        save_checkpoint(saved, tmp_path / 'a.pth')
        assert load_checkpoint(tmp_path / 'a.pth').decode == decode


@pytest.mark.parametrize('bilinear', [False, True])
@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.', 'module._orig_mod.'])
@pytest.mark.parametrize('mask_values', [None, [0, 255]])
def test_flat_files_are_read_and_described_from_shapes(tmp_path, bilinear, prefix, mask_values):
    model = UNet(3, 2, bilinear=bilinear, base_channels=4)
    flat = {prefix + k: v for k, v in model.state_dict().items()}
    if mask_values:
        flat['mask_values'] = mask_values
    torch.save(flat, tmp_path / 'flat.pth')
    found = load_checkpoint(tmp_path / 'flat.pth')
    assert found.model == {
        'n_channels': 3,
        'n_classes': 2,
        'bilinear': bilinear,
        'base_channels': 4,
    }
    assert found.mask_values == mask_values
    assert (found.scale, found.decode) == (None, PILLOW_DECODE)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(found.build_model()(x), model.eval()(x), rtol=0, atol=0)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = UNet(1, 2, base_channels=2)
    save_checkpoint(make(model), tmp_path / 'a.pth')
    before = (tmp_path / 'a.pth').read_bytes()
    model.down1.maxpool_conv[1].double_conv[1].running_var[0] = float('inf')
    with pytest.raises(ValueError, match=r'NaN or infinity are not saved: down1.*running_var'):
        save_checkpoint(make(model), tmp_path / 'a.pth')
    assert (tmp_path / 'a.pth').read_bytes() == before
    assert [p.name for p in tmp_path.glob('*')] == ['a.pth']


def test_a_full_disk_is_named_and_leaves_the_old_file_alone(tmp_path):
    model = UNet(1, 2, base_channels=2)
    save_checkpoint(make(model), tmp_path / 'a.pth')
    before = (tmp_path / 'a.pth').read_bytes()
    resource = pytest.importorskip('resource')  # not on Windows
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # as if the disk ended there
    try:
        with pytest.raises(OSError, match='File too large') as caught:
            save_checkpoint(make(model), tmp_path / 'a.pth')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f'{tmp_path}/a.pth: File too large' in explain(caught.value)
    assert (tmp_path / 'a.pth').read_bytes() == before
    assert [p.name for p in tmp_path.glob('*')] == ['a.pth']


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    program = (
        'import sys; from pathlib import Path; from unet import UNet\n'
        'from utils.inference.checkpoint import *\n'
        'model = UNet(1, 2, base_channels=8)\n'
        'while True:\n'
        '    checkpoint = Checkpoint(model_config(model), model.state_dict())\n'
        '    save_checkpoint(checkpoint, Path(sys.argv[1]))\n'
        '    print("saved", flush=True)\n'
    )
    path = tmp_path / 'a.pth'
    for wait in (0.003, 0.011, 0.017):
        command = [sys.executable, '-c', program, path]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(wait)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert load_checkpoint(path).model['base_channels'] == 8


def changed_names():
    flat = UNet(3, 2, base_channels=4).state_dict()
    del flat['down2.maxpool_conv.1.double_conv.0.weight']
    return flat | {'extra': torch.zeros(1)}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], r'holds a list; expected a state_dict'),
        ({'fc.weight': torch.zeros(2)}, r"no 'inc.double_conv.0.weight' among fc\.weight"),
        (changed_names(), r'2 entries do not fit: down2\.maxpool_conv.*, extra'),
        ({'format': 'unet', 'version': 2}, r'version 2; .* 1\.'),
        ({'model': subprocess.Popen}, 'is not a readable checkpoint'),  # it would run code
    ],
    ids=['list', 'another network', 'other entries', 'newer format', 'code'],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=rf'a\.pth.*{message}'):
        load_checkpoint(tmp_path / 'a.pth')


def test_an_unreadable_file_is_described_by_its_size_and_first_bytes(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_text('{"a": 1}')
    with pytest.raises(UserError, match=r'a\.pth .* 8 bytes and starts with b.\{"a'):
        load_checkpoint(path)
    save_checkpoint(make(UNet(1, 2, base_channels=2)), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match='is not a readable checkpoint'):
        load_checkpoint(path)


def test_a_missing_file_says_which_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.pth').touch()
    with pytest.raises(UserError, match=r'is a folder; expected a \.pth file\. In it: .*a\.pth\.'):
        load_checkpoint(tmp_path)
    with pytest.raises(UserError, match=r'MODEL\.pth does not exist, and checkpoints/ has no'):
        load_checkpoint('MODEL.pth')
    (tmp_path / 'checkpoints').mkdir()
    for age, name in enumerate(('last.pth', 'best.pth', 'checkpoint_epoch2.pth')):
        path = tmp_path / 'checkpoints' / name
        path.write_bytes(b'')
        os.utime(path, (age, age))
    (tmp_path / 'checkpoints/.last.77.part.pth').write_bytes(b'of a killed process')
    with pytest.raises(UserError) as caught:
        load_checkpoint('MODEL.pth')
    text = str(caught.value)
    assert 'part' not in text
    assert 'checkpoints/checkpoint_epoch2.pth, checkpoints/best.pth, checkpoints/last.pth' in text
    assert 'for instance checkpoints/best.pth, or rename it to MODEL.pth' in text
