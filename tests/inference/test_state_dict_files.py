"""Files of weights are state_dicts for any program, and describe themselves to this one."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from drawing import data_set
from networks import brightness_network, save
from PIL import Image
from running import run_train, same_weights
from torch import nn

import evaluate
import predict
from unet import UNet
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.inference.checkpoint import (
    DESCRIPTION,
    Checkpoint,
    load_checkpoint,
    model_config,
    save_checkpoint,
)
from utils.inference.predictor import Predictor

COLOURS = [[0, 0, 0], [0, 0, 255], [9, 9, 9]]
NAMES = {'names': ['ground', 'sky', 'sun'], 'mode': 'RGB'}

# A network of other source with these names, which reads a file and writes one as scripts do.
FOREIGN_PROGRAM = """
import sys, torch
from torch import nn

def double(before, after):
    block = nn.Module()
    layers = []
    for channels in (before, after):
        conv = nn.Conv2d(channels, after, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    block.double_conv = nn.Sequential(*layers)
    return block

net = nn.Module()
net.inc = double(3, 4)
for k in range(1, 5):
    down, up, wide, narrow = nn.Module(), nn.Module(), 128 // 2**k, 64 // 2**k
    down.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), double(2 * 2**k, 4 * 2**k))
    up.up, up.conv = nn.ConvTranspose2d(wide, narrow, 2, 2), double(wide, narrow)
    setattr(net, f'down{k}', down)
    setattr(net, f'up{k}', up)
net.outc = nn.Module()
net.outc.conv = nn.Conv2d(4, 2, 1)

for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    state_dict = torch.load(source, map_location='cpu', weights_only=True)
    mask_values = state_dict.pop('mask_values')
    print(net.load_state_dict(state_dict), mask_values)
    torch.save(net.state_dict() | {'mask_values': mask_values}, target)
print('unet' in sys.modules, 'utils' in sys.modules)
"""


def version_1(checkpoint, path):
    """Write weights as the first version of the format did: a dict with all entries."""
    content = {
        'format': 'unet', 'version': 1, 'model': checkpoint.model,
        'mask_values': checkpoint.mask_values, 'mask_encoding': checkpoint.mask_encoding,
        'preprocessing': {'scale': checkpoint.scale, 'decode': checkpoint.decode},
        'metrics': checkpoint.metrics, 'weights': checkpoint.weights,
    }  # fmt: skip
    torch.save(content, path)


@pytest.mark.slow
def test_a_program_without_this_project_loads_training_files_and_its_own_come_back(folder):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    (folder / 'elsewhere').mkdir()
    names = ['best.pth', 'checkpoint_epoch1.pth']
    files = [path for n in names for path in (folder / 'checkpoints' / n, folder / f'back_{n}')]
    program = [sys.executable, '-I', '-c', FOREIGN_PROGRAM, *files]
    result = subprocess.run(program, cwd='elsewhere', capture_output=True, text=True, check=True)
    loaded = '<All keys matched successfully> [0, 255]'
    assert result.stdout.splitlines() == [loaded, loaded, 'False False']
    for name in names:
        assert same_weights(f'checkpoints/{name}', f'back_{name}')
    back = load_checkpoint('back_best.pth')
    assert (back.mask_values, back.scale, back.decode) == ([0, 255], None, PILLOW_DECODE)


@pytest.mark.parametrize('bilinear', [False, True])
def test_names_order_and_dtypes_are_the_originals_with_mask_values_last(folder, bilinear):
    model = UNet(3, 2, bilinear, base_channels=4)
    model.inc.double_conv[1].num_batches_tracked.fill_(2**40 + 1)
    save('a.pth', model, mask_values=[0, 255])
    found = torch.load('a.pth', weights_only=True)
    text = (ROOT / 'tests/fixtures/state_dict_keys.json').read_text()
    expected = json.loads(text)[f'n_channels=3 n_classes=2 bilinear={bilinear}']
    assert list(found) == [*(name for name, _, _ in expected), 'mask_values']
    assert found.pop('mask_values') == [0, 255]
    for name, _, dtype in expected:
        assert str(found[name].dtype) == f'torch.{dtype}'
        assert torch.equal(found[name], model.state_dict()[name])


DESCRIBED = [
    (UNet(1, 1, base_channels=2), [0, 255], {'threshold': 127, 'ignore': [7]}),
    (UNet(4, 3, bilinear=True, base_channels=2), COLOURS, NAMES),
    (UNet(3, 2, base_channels=2, padding='valid', norm='none', dropout=0.5), [1, -2], {}),
]


@pytest.mark.parametrize(('model', 'values', 'encoding'), DESCRIBED)
@pytest.mark.parametrize('write', [save_checkpoint, version_1])
def test_everything_that_is_known_comes_back_from_both_forms(
    folder, model, values, encoding, write
):
    saved = Checkpoint(
        model_config(model), model.state_dict(), values, 0.3, {'dice_dataset': 0.5, 'none': None},
        mask_encoding=encoding, decode='another',
    )  # fmt: skip
    write(saved, folder / 'a.pth')
    found = load_checkpoint('a.pth')
    for name in ('model', 'mask_values', 'scale', 'metrics', 'mask_encoding', 'decode', 'training'):
        assert getattr(found, name) == getattr(saved, name)
    assert found.settings() == saved.settings()
    assert all(torch.equal(found.weights[name], value) for name, value in saved.weights.items())


def test_no_module_can_have_the_descriptions_key_and_loading_leaves_it_alone(folder):
    with pytest.raises(KeyError):
        nn.Module().add_module(DESCRIPTION, nn.Identity())
    with pytest.raises(KeyError):  # a path of several names begins with one
        nn.Module().add_module(DESCRIPTION.partition('.')[0], nn.Identity())
    model = UNet(3, 2, base_channels=2)
    save('a.pth', model, mask_values=[0, 1])
    for options in ({'weights_only': True}, {'weights_only': True, 'mmap': True}, {}):
        state = torch.load('a.pth', **options)
        del state['mask_values']
        before = copy.deepcopy(state._metadata)
        assert before[DESCRIPTION]['version'] == 1
        assert before['inc.double_conv.1'] == {'version': 2}  # BatchNorm's own
        for assign in (False, True):
            UNet(3, 2, base_channels=2).load_state_dict(state, assign=assign)
        assert state._metadata[DESCRIPTION] == before[DESCRIPTION]


@pytest.mark.slow
def test_torch_hub_takes_the_file_as_weights(folder, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(folder / 'hub'))
    model = UNet(3, 2, base_channels=2)
    save('a.pth', model, mask_values=[0, 1])
    state = torch.hub.load_state_dict_from_url((folder / 'a.pth').as_uri(), progress=False)
    assert state.pop('mask_values') == [0, 1]
    model.load_state_dict(state)
    found = torch.hub.load(str(ROOT), 'unet_carvana', source='local', weights='a.pth')
    assert found.base_channels == 2


def test_the_file_holds_weights_only_and_is_no_larger_than_a_state_dict(folder):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    torch.save(load_checkpoint('checkpoints/best.pth').build_model().state_dict(), 'plain.pth')
    plain, best, last = (
        (folder / name).stat().st_size
        for name in ('plain.pth', 'checkpoints/best.pth', 'checkpoints/last.pth')
    )
    assert abs(best - plain) < 8192  # scores of each class; 124 MB at the usual width
    assert last > 1.5 * best
    assert load_checkpoint('checkpoints/best.pth').training is None


def edited(name, **entries):
    """Load a file, set entries of its state_dict or remove those of None, and write it again."""
    state = torch.load(name, weights_only=True)
    for key, value in entries.items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    torch.save(state, 'edited.pth')
    return load_checkpoint('edited.pth')


def test_what_a_script_changed_is_taken_from_the_entries_and_the_rest_from_the_description(folder):
    save('a.pth', UNet(3, 3, base_channels=2), 0.3, mask_values=COLOURS, mask_encoding=NAMES)
    popped = edited('a.pth', mask_values=None)
    assert (popped.mask_values, popped.mask_encoding, popped.scale) == (COLOURS, NAMES, 0.3)
    other = edited('a.pth', mask_values=[0, 1, 2])
    assert (other.mask_values, other.mask_encoding, other.scale) == ([0, 1, 2], {}, 0.3)
    head = {'outc.conv.weight': torch.zeros(1, 2, 1, 1), 'outc.conv.bias': torch.zeros(1)}
    binary = edited('a.pth', mask_values=[0, 1], **head)
    assert (binary.model['n_classes'], binary.mask_values, binary.decode) == (
        1,
        [0, 1],
        DECODE_PATH,
    )
    binary.build_model()


def test_a_description_of_a_newer_version_is_refused(folder):
    save('a.pth', UNet(3, 2, base_channels=2))
    state = torch.load('a.pth', weights_only=True)
    state._metadata[DESCRIPTION]['version'] = 2
    torch.save(state, 'a.pth')
    with pytest.raises(Exception, match=r'a\.pth has format version 2; .* up to 1\. Update'):
        load_checkpoint('a.pth')


@pytest.mark.slow
def test_without_a_description_predict_and_evaluate_ask_for_the_scale(folder, capsys):
    data_set(folder, 2)
    model = brightness_network()
    torch.save(model.state_dict() | {'mask_values': [0, 255]}, 'flat.pth')
    data = ['-m', 'flat.pth', '--images', 'imgs', '--masks', 'masks']
    picture = ['-m', 'flat.pth', '-i', 'imgs/disc00.png', '-n']
    note = 'note: flat.pth does not record the scale of its training; 0.5 is used. Name another '
    for program, options in ((predict, picture), (evaluate, data)):
        assert program.main(options) == 0
        assert f'{note}with --scale (-s).' in capsys.readouterr().out
        assert program.main([*options, '-s', '1']) == 0
        assert 'note: flat.pth' not in capsys.readouterr().out
    save('own.pth', model, 0.25, mask_values=[0, 255])
    assert Predictor.load('own.pth').scale == 0.25
    assert capsys.readouterr().out == ''


@pytest.mark.slow
def test_every_form_of_one_network_works_in_every_program(folder):
    data_set(folder, 4)
    model = brightness_network()
    saved = Checkpoint(model_config(model), model.state_dict(), [0, 255], 1.0)
    save_checkpoint(saved, folder / 'own.pth')
    version_1(saved, folder / 'one.pth')
    torch.save({'module.' + k: v for k, v in model.state_dict().items()}, 'plain.pth')
    data = ['--images', 'imgs', '--masks', 'masks']
    found = {}
    for name in ('own', 'one', 'plain'):
        options = ['-m', f'{name}.pth', '-s', '1']
        assert evaluate.main([*options, *data, '--json', f'{name}.json']) == 0
        form = ['--format', 'index', '-o', f'{name}.png']
        assert predict.main([*options, '-i', 'imgs/disc00.png', *form]) == 0
        scores = json.loads((folder / f'{name}.json').read_text())
        mask = np.asarray(Image.open(f'{name}.png')).tolist()
        assert (
            run_train('--base-channels', '2', '-f', f'{name}.pth', '-e', '1', '--output', name) == 0
        )
        found[name] = (scores['dice_dataset'], mask)
    assert found['own'] == found['one'] == found['plain']
    average = ['-m', 'own.pth', '-m', 'one.pth', '-i', 'imgs/disc00.png', '-n']
    assert predict.main(average) == 0
