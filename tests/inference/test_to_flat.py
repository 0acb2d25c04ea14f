"""python -m utils.checkpoint to-flat: what milesial/Pytorch-UNet reads, from any file."""

import runpy
import sys

import pytest
import torch
from networks import save

from unet import UNet
from utils.images.decoding import PILLOW_DECODE
from utils.inference.checkpoint import load_checkpoint, model_config, to_flat


def run(monkeypatch, *arguments):
    """Run the command in this process; return its exit code."""
    command = ['utils.checkpoint', 'to-flat', *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module('utils.checkpoint', run_name='__main__')
    return ended.value.code


def test_a_resumable_file_becomes_described_weights_and_an_unknown_shape_is_said(
    folder, monkeypatch, capsys
):
    model = UNet(3, 2, base_channels=4)
    save('last.pth', model, 0.3, mask_values=[0, 7], training={'epoch': 1})
    assert run(monkeypatch, 'last.pth', 'flat.pth') == 0
    assert capsys.readouterr().out.splitlines() == [
        'flat.pth written',
        'note: flat.pth is not for the programs of milesial/Pytorch-UNet, which do not know this '
        'shape: base_channels 4, not 64',
    ]
    flat = torch.load('flat.pth', weights_only=True)
    assert flat.pop('mask_values') == [0, 7]
    model.load_state_dict(flat)  # strict: the names are the network's own
    found = load_checkpoint('flat.pth')
    assert (found.scale, found.mask_values, found.training) == (0.3, [0, 7], None)
    assert run(monkeypatch, 'flat.pth', 'again.pth') == 0
    again = torch.load('again.pth', weights_only=True)
    assert again.pop('mask_values') == [0, 7]
    assert all(torch.equal(flat[name], again[name]) for name in flat)


@pytest.mark.parametrize(
    ('options', 'unknown'),
    [
        ({}, []),
        ({'bilinear': True, 'n_classes': 5, 'dropout': 0.5}, []),
        ({'n_channels': 1}, ['n_channels 1, not 3']),
        ({'norm': 'none'}, ['norm none, not batch']),
        ({'padding': 'valid'}, ['padding valid, not same']),
    ],
)
def test_each_shape_that_the_original_does_not_know_is_named(folder, options, unknown):
    model = UNet(**{'n_channels': 3, 'n_classes': 2, 'base_channels': 2} | options)
    save('a.pth', model)
    found = to_flat(folder / 'a.pth', folder / 'b.pth')
    assert sorted(found) == sorted(['base_channels 2, not 64', *unknown])
    assert load_checkpoint('b.pth').model == model_config(model)


def test_the_originals_own_shape_needs_no_note(folder, monkeypatch, capsys):
    with torch.device('meta'):
        names = UNet(3, 2).state_dict()
    torch.save({name: torch.zeros(()).expand(v.shape) for name, v in names.items()}, 'a.pth')
    monkeypatch.setattr('utils.inference.checkpoint.save_checkpoint', lambda *_: None)  # 124 MB
    assert run(monkeypatch, 'a.pth', 'b.pth') == 0
    assert capsys.readouterr().out == 'b.pth written\n'


def test_a_file_without_mask_values_gets_those_of_its_class_numbers(folder):
    torch.save(UNet(3, 3, base_channels=2).state_dict(), 'plain.pth')
    to_flat(folder / 'plain.pth', folder / 'flat.pth')
    assert torch.load('flat.pth', weights_only=True)['mask_values'] == [0, 1, 2]
    found = load_checkpoint('flat.pth')
    assert (found.scale, found.decode) == (None, PILLOW_DECODE)  # the scale is still unknown


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ('none/flat.pth', 'no folder none'),
        ('.', 'is a folder'),
        ('b.pth', 'a.pth: weights with NaN'),
    ],
)
def test_what_cannot_be_written_is_one_message(folder, monkeypatch, capsys, target, message):
    model = UNet(3, 2, base_channels=2)
    model.outc.conv.bias.data.fill_(float('nan'))
    torch.save(model.state_dict(), 'a.pth')
    assert run(monkeypatch, 'a.pth', target) == 2
    assert message in capsys.readouterr().err
    assert not (folder / 'b.pth').exists()
