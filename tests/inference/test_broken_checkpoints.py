"""Any change to a checkpoint gives the same weights, other sound ones, or one clear message."""

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mutating import mutated, mutated_bytes, rezipped
from networks import brightness_network, save

from utils.inference import checkpoint as checkpoints
from utils.inference.checkpoint import load_checkpoint, to_safetensors
from utils.inference.outputs.formats import format_mask
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError

SECONDS = 5.0
TRAINING = {
    'optimizer': {'state': {0: {'momentum': torch.zeros(2)}}, 'param_groups': [{'lr': 0.1}]},
    'epoch': 1, 'best': 0.5, 'meter': {'loss': 1.0}, 'args': {'epochs': 5, 'images': 'imgs'},
}  # fmt: skip
DESCRIBED = {
    'mask_values': [0, 255], 'metrics': {'dice_dataset': 0.5, 'classes': [{'dice': 0.4}]},
    'mask_encoding': {'names': ['ground', 'sky'], 'background': 0, 'ignore': [7]},
}  # fmt: skip


@pytest.fixture
def files(folder):
    """Write a checkpoint in each form; return the names."""
    model = brightness_network()
    save('flat.pth', model, **DESCRIBED)
    save('last.pth', model, training=TRAINING, **DESCRIBED)
    old = torch.load('last.pth', weights_only=True)
    del old['training']
    torch.save(old, 'old.pth')
    torch.save(model.state_dict() | {'mask_values': [0, 255]}, 'original.pth')
    torch.save(model.state_dict(), 'legacy.pth', _use_new_zipfile_serialization=False)
    return ['flat.pth', 'last.pth', 'old.pth', 'original.pth', 'legacy.pth']


def use(name):
    """Load a checkpoint and predict with it; return its weights, None if it is refused."""
    started = time.perf_counter()
    try:
        found = load_checkpoint(name)
        found.settings()
        predictor = Predictor.load(name, 1.0)
        indices = predictor.predict_image(np.zeros((16, 16, found.model['n_channels']), np.uint8))
        for form in ('values', 'color', 'index'):
            format_mask(form, predictor.masks, indices, as_array=False)
        return found.weights
    except UserError as error:
        assert str(error).startswith(str(name)) or 'mask values from' in str(error)
        assert '. ' in str(error)  # a remedy follows
        return None
    finally:
        assert time.perf_counter() - started < SECONDS


def structure_refused(contents, seed, monkeypatch=None):
    content = mutated(contents[seed % len(contents)], seed)
    if monkeypatch:
        monkeypatch.setattr(checkpoints, 'read_content', lambda path: content)
        return use('whole.pth') is None
    torch.save(content, 'changed.pth')
    return use('changed.pth') is None


@pytest.mark.slow
def test_mutated_structures_are_used_or_refused_with_one_message(files, monkeypatch, capsys):
    contents = [torch.load(name, weights_only=True) for name in files[:4]]
    Path('whole.pth').touch()
    refused = sum(structure_refused(contents, seed, monkeypatch) for seed in range(110))
    assert 55 < refused < 110


def changed_bytes(folder, names, seed):
    """Change a file by its seed; return whether it is refused, and check that it should not be."""
    name = names[seed % len(names)]
    content = (folder / name).read_bytes()
    hostile = seed % 3 == 0 and zipfile.is_zipfile(name)
    (folder / 'changed').mkdir(exist_ok=True)
    target = folder / 'changed' / name
    target.write_bytes(rezipped(content, seed) if hostile else mutated_bytes(content, seed))
    weights = use(target)
    if weights is not None and not hostile and not name.startswith('legacy'):
        right = load_checkpoint(name).weights
        assert all(torch.equal(right[key], weights[key]) for key in right)
    return weights is None


@pytest.mark.slow
def test_files_with_changed_bytes_give_the_right_weights_or_one_message(files, folder, capsys):
    to_safetensors(folder / 'flat.pth', folder / 'flat.safetensors')
    names = [*files, 'flat.safetensors']
    assert sum(changed_bytes(folder, names, seed) for seed in range(40)) > 20


@pytest.mark.slow
def test_two_thousand_mutations_are_used_or_refused(files, folder, capsys):
    contents = [torch.load(name, weights_only=True) for name in files[:4]]
    structures = sum(structure_refused(contents, seed) for seed in range(1000))
    to_safetensors(folder / 'flat.pth', folder / 'flat.safetensors')
    names = [*files, 'flat.safetensors']
    files_refused = sum(changed_bytes(folder, names, seed) for seed in range(1000))
    with capsys.disabled():
        print(f'refused: {structures} of 1000 structures, {files_refused} of 1000 files')
