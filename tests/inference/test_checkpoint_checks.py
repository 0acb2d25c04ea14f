"""Checkpoints that are damaged, not finite, inconsistent or far too large are refused."""

import random
import zipfile

import numpy as np
import pytest
import torch
from drawing import data_set
from networks import brightness_network, save
from running import run_train

import evaluate
import hubconf
import predict
from unet import UNet
from utils.inference.backends.export import export
from utils.inference.checkpoint import Checkpoint, load_checkpoint, model_config
from utils.runtime import cgroups, torch_files
from utils.runtime.errors import UserError


@pytest.mark.slow
def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(folder):
    save('a.pth', brightness_network())
    content = (folder / 'a.pth').read_bytes()
    right, chance, found = load_checkpoint('a.pth').weights, random.Random(0), 0
    for _ in range(60):
        changed = bytearray(content)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        (folder / 'b.pth').write_bytes(changed)
        try:
            weights = load_checkpoint('b.pth').weights
        except UserError as error:
            assert str(error).startswith('b.pth is not a readable checkpoint: ')
            assert 'Copy or download it again' in str(error)
            found += 1
        else:  # a bit of the padding
            assert all(torch.equal(right[name], weights[name]) for name in right)
    assert found > 20


def test_a_flipped_bit_of_a_weight_is_found(folder):
    save('a.pth', brightness_network())
    content = bytearray((folder / 'a.pth').read_bytes())
    content[content.index(np.float32(20).tobytes())] ^= 64  # of the last layer
    (folder / 'a.pth').write_bytes(content)
    with pytest.raises(UserError, match=r'a\.pth .*it is damaged \(Bad CRC-32'):
        load_checkpoint('a.pth')


def test_a_zip_that_torch_alone_refuses_is_damaged(folder, monkeypatch):
    # torch 2.6 does so after a flipped bit in the number of the archive's first disk.
    save('a.pth', brightness_network())

    def refuse(*_, **__):
        reason = 'unsupported multidisk archive'
        raise RuntimeError(f'PytorchStreamReader failed reading zip archive: {reason}')

    monkeypatch.setattr(torch, 'load', refuse)
    with pytest.raises(UserError, match=r'it is damaged \(unsupported multi.*Copy or download it'):
        load_checkpoint('a.pth')


def test_files_without_checksums_are_read(folder):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(UNet(3, 2, base_channels=2).state_dict(), 'a.pth')
    finally:
        torch.serialization.set_crc32_options(before)
    assert load_checkpoint('a.pth').model['base_channels'] == 2


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused_by_every_program(folder, capsys, value):
    data_set(folder, 2)
    model = brightness_network()
    model.down2.maxpool_conv[1].double_conv[1].running_var[0] = value
    torch.save(model.state_dict(), 'a.pth')
    message = 'a.pth: weights with NaN or infinity, 1 tensors: down2.maxpool_conv.1.double_conv.1.'
    data = ['--images', 'imgs', '--masks', 'masks']
    assert predict.main(['-m', 'a.pth', '-i', 'imgs/disc00.png']) == 2
    assert message in capsys.readouterr().err
    assert not (folder / 'imgs/disc00_OUT.png').exists()
    assert evaluate.main(['-m', 'a.pth', *data]) == 2
    assert message in capsys.readouterr().err
    assert run_train('--load', 'a.pth', '--base-channels', '2', '-e', '1') == 2
    assert message in capsys.readouterr().err
    with pytest.raises(UserError, match='weights with NaN'):
        hubconf.unet_carvana(weights='a.pth')


def test_weights_that_float32_cannot_hold_are_refused(folder):
    weights = {k: v.double() if v.is_floating_point() else v
               for k, v in brightness_network().state_dict().items()}  # fmt: skip
    torch.save(weights, 'a.pth')
    load_checkpoint('a.pth').build_model()
    weights['outc.conv.bias'][0] = 1e300
    torch.save(weights, 'a.pth')
    with pytest.raises(UserError, match=r'NaN or infinity, 1 tensors: outc\.conv\.bias'):
        load_checkpoint('a.pth')


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(cgroups, 'free_memory', lambda: 0)
    monkeypatch.setattr(cgroups, 'GIB', 2**20)


def test_weights_that_repeat_a_few_bytes_are_refused_before_they_are_copied(folder, small_limit):
    with torch.device('meta'):
        model = UNet(3, 2, base_channels=700)
    weights = {k: torch.zeros(1).expand(v.shape) if v.is_floating_point() else torch.tensor(0)
               for k, v in model.state_dict().items()}  # fmt: skip
    torch.save(weights, 'a.pth')
    with pytest.raises(
        UserError, match=r'a\.pth .* stand for 14,8\d\d,\d{3},\d{3} bytes in memory'
    ):
        load_checkpoint('a.pth')


def test_a_description_of_a_large_network_takes_no_memory(folder):
    saved = Checkpoint(model_config(UNet(3, 2, base_channels=2)), {}, [0, 1])
    content = saved.description() | {'weights': {}}
    content['model']['base_channels'] = 7000
    torch.save(content, 'a.pth')
    with pytest.raises(UserError, match=r'a\.pth holds no U-Net of this kind'):
        load_checkpoint('a.pth')
    content['weights'] = UNet(3, 2, base_channels=2).state_dict()
    torch.save(content, 'a.pth')
    with pytest.raises(UserError, match='base_channels of its description and of its weights'):
        load_checkpoint('a.pth')


def test_a_compressed_file_is_refused_by_the_sizes_that_it_declares(folder, small_limit):
    torch.save({'a': torch.zeros(2**20)}, 'a.pth')
    with zipfile.ZipFile('a.pth') as old, zipfile.ZipFile('b.pth', 'w', 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UserError, match=r'b\.pth .* stand for 4,\d{3},\d{3} bytes in memory, over'):
        load_checkpoint('b.pth')


def test_content_that_the_free_memory_holds_is_read_though_it_repeats(folder, monkeypatch):
    monkeypatch.setattr(cgroups, 'free_memory', lambda: 2**30)
    monkeypatch.setattr(cgroups, 'GIB', 1)
    torch.save(torch.zeros(1).expand(2**20), 'a.pt')
    assert torch_files.read_torch_file(folder / 'a.pt').shape == (2**20,)


DAMAGED = {
    'no version': ({'version': None}, 'version is None, expected a whole number'),
    'model': ({'model': {'n_channels': 3}}, r'no entry model\.n_classes'),
    'width': ({'model': 7}, 'model is 7, expected a dict'),
    'values': ({'mask_values': 'ab'}, "mask_values is 'ab', expected a list of whole numbers"),
    'mixed values': ({'mask_values': [0, [1, 2, 3]]}, 'mask_values is a list, expected'),
    'too few values': ({'mask_values': [0]}, 'mask_values has 1 items for 2 classes'),
    'scale': ({'preprocessing': {'scale': 7.0, 'decode': ''}}, r'scale is 7\.0, expected a number'),
    'range': ({'preprocessing': {'scale': 1.0, 'decode': '', 'range': [[3, 'a']]}},
              r'range is a list, expected a list of \[low, high\]'),
    'ranges': ({'preprocessing': {'scale': 1.0, 'decode': '', 'range': [[0, 1.5]]}},
               r'range has 1 items for its channels'),
    'metrics': ({'metrics': {'dice_dataset': 'x'}}, 'dice_dataset is \'x\', expected a number'),
    'encoding': ({'mask_encoding': {'snap': 3}}, r'mask_encoding\.snap is 3, expected True or'),
    'newer': ({'mask_encoding': {'new': 3}}, 'does not know: new. Update the program'),
    'weights': ({'weights': [1]}, 'no weights; expected a dict'),
    'training': ({'training': [1]}, 'training is a list, expected a dict'),
    'settings': ({'training': {'args': {'a': torch.ones(2)}}}, r'training\.args is a dict, expect'),
}  # fmt: skip


@pytest.mark.parametrize('name', DAMAGED)
def test_an_entry_of_another_kind_is_named_with_what_is_expected(folder, name):
    changes, message = DAMAGED[name]
    save('a.pth', brightness_network(), mask_values=[0, 1], training={})
    torch.save(torch.load('a.pth', weights_only=True) | changes, 'a.pth')
    with pytest.raises(UserError, match=rf'^a\.pth.*{message}'):
        load_checkpoint('a.pth')


def test_a_file_that_only_claims_to_be_a_checkpoint_is_refused(folder):
    torch.save({'format': 'unet'}, 'a.pth')
    with pytest.raises(UserError, match=r'a\.pth .*no entry version'):
        load_checkpoint('a.pth')


def test_content_that_holds_itself_ends(folder):
    content = {'format': 'unet', 'metrics': []}
    content['metrics'].append(content['metrics'])
    torch.save(content, 'a.pth')
    with pytest.raises(UserError):
        load_checkpoint('a.pth')


def test_fewer_mask_values_than_classes_are_one_message_of_predict(folder, capsys):
    data_set(folder, 1)
    torch.save(brightness_network(3).state_dict() | {'mask_values': [0, 1]}, 'a.pth')
    assert predict.main(['-m', 'a.pth', '-i', 'imgs/disc00.png']) == 2
    assert 'a.pth has 2 mask values for 3 classes: 0, 1. Expected one a class' in (
        capsys.readouterr().err
    )


def test_mask_values_of_one_bit_masks_and_of_floats_are_read(folder):
    for values in ([False, True], [0.0, 1.0], [[0, 0, 0], [255, 0, 0]]):
        torch.save(brightness_network().state_dict() | {'mask_values': values}, 'a.pth')
        assert len(load_checkpoint('a.pth').masks.values) == 2


def test_export_refuses_what_is_not_finite(folder):
    pytest.importorskip('onnx')
    model = brightness_network()
    model.outc.conv.bias.data[0] = float('nan')
    torch.save(model.state_dict(), 'a.pth')
    arguments = type('Arguments', (), {'source': folder / 'a.pth', 'target': folder / 'a.onnx'})
    with pytest.raises(UserError, match='weights with NaN'):
        export(arguments)
