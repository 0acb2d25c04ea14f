"""Weights are read in the forms in which other programs save them, and .safetensors is written."""

import runpy
import sys

import pytest
import torch
from networks import brightness_network, save

from unet import UNet
from utils.images.decoding import PILLOW_DECODE
from utils.inference.checkpoint import load_checkpoint, to_safetensors
from utils.runtime.errors import UserError


def same(found, model):
    right = model.state_dict()
    assert list(found.weights) == list(right)
    assert all(torch.equal(found.weights[name], right[name]) for name in right)
    found.build_model()


@pytest.mark.parametrize(
    ('key', 'prefix'),
    [
        ('state_dict', 'model.'), ('model_state_dict', ''), ('model', 'module.'),
        ('net', 'net.unet.'), ('state_dict', 'model._orig_mod.'),
    ],
)  # fmt: skip
def test_wrapped_and_prefixed_state_dicts_are_read(folder, key, prefix):
    model = UNet(3, 2, base_channels=2)
    weights = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({key: weights, 'epoch': 3, 'mask_values': [0, 7]}, 'a.pth')
    found = load_checkpoint('a.pth')
    same(found, model)
    assert (found.mask_values, found.decode) == ([0, 7], PILLOW_DECODE)


def test_a_compiled_part_and_other_parts_of_a_lightning_module_do_not_matter(folder):
    model = UNet(3, 2, base_channels=2)
    weights = {
        'model.' + name.replace('inc.', 'inc._orig_mod.'): tensor
        for name, tensor in model.state_dict().items()
    }
    weights['criterion.weight'] = torch.ones(2)
    torch.save({'state_dict': weights, 'pytorch-lightning_version': '2.5'}, 'a.ckpt')
    same(load_checkpoint('a.ckpt'), model)


def test_two_networks_in_one_file_are_refused(folder):
    model = UNet(3, 2, base_channels=2).state_dict()
    both = {p + name: tensor for p in ('model.', 'ema.') for name, tensor in model.items()}
    torch.save(both, 'a.pth')
    with pytest.raises(UserError, match=r"no 'inc\.double_conv\.0\.weight' among model\.inc"):
        load_checkpoint('a.pth')


def test_counters_that_old_files_lack_are_zero(folder):
    model = UNet(3, 2, base_channels=2)
    weights = {k: v for k, v in model.state_dict().items() if not k.endswith('_tracked')}
    torch.save(weights, 'a.pth')
    same(load_checkpoint('a.pth'), model)


def test_a_whole_network_says_how_to_save_its_weights(folder):
    torch.save(UNet(3, 2, base_channels=2), 'a.pth')
    with pytest.raises(UserError, match=r'unet\.unet_model\.UNet.*\.state_dict\(\), ') as caught:
        load_checkpoint('a.pth')
    command = str(caught.value).rpartition('trust it: ')[2]
    exec(command, {'torch': torch})
    assert load_checkpoint('weights.pth').model['base_channels'] == 2


def convert(*arguments):
    command = [sys.executable, '-m', 'utils.checkpoint', *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', command[2:])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module('utils.checkpoint', run_name='__main__')
    return ended.value.code


@pytest.mark.filterwarnings('ignore:.*found in sys.modules')
def test_safetensors_come_back_with_their_description(folder, capsys):
    pytest.importorskip('safetensors')
    model = brightness_network()
    save('a.pth', model, 0.25, mask_values=[0, 9], mask_encoding={'names': ['no', 'yes']})
    assert convert('to-safetensors', 'a.pth', 'a.safetensors') == 0
    found, before = load_checkpoint('a.safetensors'), load_checkpoint('a.pth')
    same(found, model)
    found.weights = before.weights
    assert found == before
    assert convert('to-flat', 'a.safetensors', 'b.pth') == 0
    assert load_checkpoint('b.pth').mask_encoding == {'names': ['no', 'yes']}
    assert convert('to-safetensors', 'a.pth', 'c.pth') == 2
    assert 'c.pth; expected a name that ends in .safetensors' in capsys.readouterr().err


def test_safetensors_of_other_programs_are_read_and_damaged_ones_are_not(folder):
    torch_files = pytest.importorskip('safetensors.torch')
    model = UNet(1, 3, bilinear=True, base_channels=2)
    torch_files.save_file(model.state_dict(), 'a.safetensors')
    same(load_checkpoint('a.safetensors'), model)
    save('a.pth', model)
    to_safetensors(folder / 'a.pth', folder / 'b.safetensors')
    content = bytearray((folder / 'b.safetensors').read_bytes())
    content[-50] ^= 4
    (folder / 'b.safetensors').write_bytes(content)
    with pytest.raises(UserError, match='checksum of its tensors is wrong'):
        load_checkpoint('b.safetensors')
    (folder / 'b.safetensors').write_bytes(content[:5000])
    with pytest.raises(UserError, match=r'b\.safetensors .*it is damaged'):
        load_checkpoint('b.safetensors')


def test_without_the_package_its_name_is_said(folder, monkeypatch):
    save('a.pth', UNet(3, 2, base_channels=2))
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    for work in (
        lambda: to_safetensors(folder / 'a.pth', folder / 'a.safetensors'),
        lambda: load_checkpoint((folder / 'a.pth').rename('b.safetensors')),
    ):
        with pytest.raises(UserError, match='pip install safetensors'):
            work()
