"""A network with widths of its own passes every door that takes a checkpoint."""

import json

import numpy as np
import pytest
import torch
from drawing import data_set
from launching import in_own_process
from networks import SLIM, brightness_network, save
from PIL import Image
from test_backends import SLOW, trained_like

import evaluate
import hubconf
import predict
from unet import UNet, default_widths
from unet.widths import follow_below
from utils import export
from utils.inference import tiling
from utils.inference.backends import selection
from utils.inference.backends.selection import build_network, choose_backend, fold_batchnorm
from utils.inference.checkpoint import (
    load_checkpoint,
    model_config,
    save_checkpoint,
    to_flat,
    to_safetensors,
)
from utils.inference.predictor import Predictor
from utils.inference.tiling import PEAK_BYTES, peak_channels
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision

CPU = torch.device('cpu')
WIDTHS = {False: SLIM, True: follow_below(SLIM)}


def same(path, model):
    found = load_checkpoint(path)
    assert found.model['widths'] == model.widths
    built = found.build_model()
    assert built.widths == model.widths
    assert all(torch.equal(found.weights[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize('norm', ['batch', 'none'])
@pytest.mark.parametrize('bilinear', [False, True])
def test_files_of_each_form_give_the_slim_network(folder, bilinear, norm):
    model = UNet(4, 3, bilinear, widths=WIDTHS[bilinear], norm=norm)
    save('described.pth', model, mask_values=[0, 1, 2])
    save('last.pth', model, mask_values=[0, 1, 2], training={'epoch': 1})
    torch.save(model.state_dict(), 'plain.pth')
    torch.save({'state_dict': {f'model.{k}': v for k, v in model.state_dict().items()}}, 'l.ckpt')
    unknown = to_flat(folder / 'last.pth', folder / 'flat.pth')
    assert f'widths {model.widths}' in unknown
    for name in ('described.pth', 'last.pth', 'plain.pth', 'l.ckpt', 'flat.pth'):
        same(name, model)


def test_safetensors_of_a_slim_network_come_back(folder):
    pytest.importorskip('safetensors')
    model = UNet(3, 2, widths=SLIM)
    save('a.pth', model)
    to_safetensors(folder / 'a.pth', folder / 'a.safetensors')
    same('a.safetensors', model)


@pytest.mark.parametrize('bilinear', [False, True])
def test_files_of_default_widths_do_not_mention_them(folder, bilinear):
    model = UNet(3, 2, bilinear, widths=default_widths(5, bilinear))
    assert 'widths' not in model_config(model)
    torch.save(model.state_dict(), 'plain.pth')
    assert load_checkpoint('plain.pth').model == model_config(model)


def test_a_description_whose_weights_a_script_replaced_follows_the_weights(folder):
    slim, other = UNet(3, 2, widths=SLIM), UNet(3, 2, widths=[*SLIM[:-1], 9])
    dense = UNet(3, 2, base_channels=2)
    for first, second in ((slim, other), (slim, dense), (dense, slim)):
        save('a.pth', first, mask_values=[0, 1])
        content = torch.load('a.pth', weights_only=True)
        content.update(second.state_dict())
        torch.save(content, 'b.pth')
        assert load_checkpoint('b.pth').model == model_config(second)


@pytest.mark.parametrize('described', [True, False])
def test_a_slim_file_with_a_wrong_entry_is_refused(folder, described):
    model = UNet(3, 2, widths=SLIM)
    save('a.pth', model)
    content = torch.load('a.pth', weights_only=True)
    content['down3.maxpool_conv.1.double_conv.4.bias'] = torch.zeros(5)
    torch.save(content if described else dict(content), 'b.pth')
    with pytest.raises(UserError, match='entries do not fit') as caught:
        load_checkpoint('b.pth')
    if described:
        assert '1 entries do not fit: down3.maxpool_conv.1.double_conv.4.bias' in str(caught.value)


@pytest.mark.parametrize('form', ['described', 'plain', 'last'])
@pytest.mark.parametrize('bilinear', [False, True])
def test_a_slim_file_without_one_of_its_entries_is_refused(folder, bilinear, form):
    model = UNet(3, 2, bilinear, widths=WIDTHS[bilinear])
    save('a.pth', model, training={'epoch': 1} if form == 'last' else None)
    content = torch.load('a.pth', weights_only=True)
    weights = content['weights'] if form == 'last' else content
    content = dict(content) if form == 'plain' else content
    names = ['inc.double_conv.0.weight', 'down3.maxpool_conv.1.double_conv.3.weight',
             'up2.conv.double_conv.1.running_var', 'outc.conv.weight']  # fmt: skip
    for name in names if bilinear else [*names, 'up1.up.weight', 'up3.up.weight']:
        changed = content if form != 'plain' else dict(content)
        inner = weights if form != 'plain' else changed
        kept = inner.pop(name)
        torch.save(changed, 'b.pth')
        with pytest.raises(UserError, match=r'b\.pth'):
            load_checkpoint('b.pth')
        inner[name] = kept


@pytest.mark.parametrize(
    ('changes', 'found'),
    [
        ({'widths': SLIM[:-1]}, 'expected 22 whole numbers from 1'),
        ({'widths': [*SLIM[:-1], 2**20]}, 'model.widths is a list, expected a list of whole'),
        ({'widths': 'wide'}, "model.widths is 'wide', expected a list of whole numbers"),
        ({'widths': [True] * 22}, 'model.widths is a list, expected a list of whole numbers'),
        ({'base_channels': 7}, 'base_channels is not the first of model.widths'),
        ({'bilinear': True}, 'bilinear upsampling keeps channels'),
    ],
)
def test_described_widths_that_make_no_network_are_refused(folder, changes, found):
    model = UNet(3, 2, widths=SLIM)
    save('a.pth', model)
    checkpoint = load_checkpoint('a.pth')
    checkpoint.model = checkpoint.model | changes
    save_checkpoint(checkpoint, folder / 'b.pth')
    with pytest.raises(UserError, match=found):
        load_checkpoint('b.pth')


@pytest.fixture
def pictures(folder):
    """A slim network that knows bright from dark, and six pictures with their masks."""
    data_set(folder, 6, size=(48, 32))
    save('slim.pth', brightness_network(widths=SLIM), mask_values=[0, 255])
    save('dense.pth', brightness_network(), mask_values=[0, 255])
    return folder


def masks(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_predict_and_evaluate_take_a_slim_network(pictures, capsys):
    options = ['-i', 'imgs', '--device', 'cpu', '--backend', 'torch', '-o']
    for names in (['slim'], ['dense'], ['slim', 'dense']):
        models = [word for name in names for word in ('-m', f'{name}.pth')]
        assert predict.main([*models, *options, f'{"".join(names)}/']) == 0
    dense = masks(pictures / 'dense')
    for name in ('slim', 'slimdense'):
        found = masks(pictures / name)
        assert all(np.array_equal(found[k], dense[k]) for k in dense) and len(found) == 6
    data = ['--images', 'imgs', '--masks', 'masks', '--json']
    for name in ('slim', 'dense'):
        assert evaluate.main(['-m', f'{name}.pth', *data, f'{name}.json']) == 0
    found, right = (json.loads((pictures / f'{k}.json').read_text()) for k in ('slim', 'dense'))
    assert found['dice_dataset'] == right['dice_dataset'] > 0.9


@pytest.mark.slow
def test_python_and_torch_hub_take_a_slim_network(pictures):
    model = hubconf.unet_carvana(weights='slim.pth')
    assert model.widths == SLIM
    predictor = Predictor.load('slim.pth')
    image = np.asarray(Image.open('imgs/disc00.png'))
    found = predictor.predict_image(image)
    assert np.array_equal(found, Predictor.load('dense.pth').predict_image(image))
    predictor.use_backend('torch')  # folds BatchNorm
    assert np.array_equal(predictor.predict_image(image), found)
    slim = UNet(3, 2)  # as user code builds it, which knows the default widths only
    with pytest.raises(RuntimeError, match='size mismatch for inc'):
        slim.load_state_dict(load_checkpoint('slim.pth').weights)


def test_memory_is_estimated_from_the_widest_block_of_all_networks(monkeypatch):
    assert [peak_channels(default_widths(c, c > 3)) for c in (1, 2, 5, 64)] == [1, 2, 5, 64]
    wide = default_widths(4)
    wide[16] = 400  # after the upsampling to half of the resolution
    # In 256ths: skip connections of 4 and 8 channels, upsampled and joined maps, and 8, 8, 8.
    held = 4 * 256 + (8 + 400 + 408 + 3 * 8) * 64
    assert peak_channels(wide) == -(-held // (7 * 256)) == 31
    narrow = [1, *default_widths(4)[1:]]
    assert peak_channels(narrow) == 4  # base_channels of this network is 1
    predictor = Predictor(UNet(3, 2, widths=narrow), 1.0, [0, 255])
    whole = 600 * 600 * 4 * PEAK_BYTES
    monkeypatch.setattr(tiling, 'available_prediction_memory', lambda _: whole)
    assert predictor.tiling_for((600, 600)) is None
    assert predictor.tiling_for((600, 601)) is not None
    several = Predictor(predictor.model, 1.0, [0, 255])
    several.models = [*predictor.models, UNet(3, 2, base_channels=5)]
    assert several.tiling_for((600, 600)) is not None


def test_tiles_of_a_slim_network_give_the_whole_pictures_classes(pictures):
    whole = predict.main('-m slim.pth -i imgs -o whole/ --backend torch'.split())
    tiled = predict.main('-m slim.pth -i imgs -o tiles/ --backend torch --tile 32'.split())
    assert whole == tiled == 0
    one, other = masks(pictures / 'whole'), masks(pictures / 'tiles')
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_auto_counts_the_multiply_adds_of_a_slim_network(monkeypatch):
    monkeypatch.setattr(selection, 'missing_packages', lambda _: [])
    cheap = [64, *default_widths(8)[1:]]  # of base_channels 64, and a sixtieth of the cost
    assert choose_backend('auto', CPU, selection.WORTH_PIXELS, UNet(3, 2)) == 'openvino'
    assert choose_backend('auto', CPU, selection.WORTH_PIXELS, UNet(3, 2, widths=cheap)) == 'torch'


@pytest.mark.slow
def test_auto_counts_all_networks_of_an_average_and_takes_torch_if_one_is_not_padded(
    pictures, monkeypatch
):
    monkeypatch.setattr(selection, 'missing_packages', lambda _: [])
    wide, slim = UNet(3, 2), UNet(3, 2, widths=default_widths(8))
    pixels = selection.WORTH_PIXELS
    for order in ((wide, slim), (slim, wide)):  # 1 and 1/60: half on the average
        assert choose_backend('auto', CPU, pixels, *order) == 'torch'
        assert choose_backend('auto', CPU, 2 * pixels, *order) == 'openvino'
    unpadded = UNet(3, 2, base_channels=2, padding='valid')
    assert choose_backend('auto', CPU, 100 * pixels, wide, unpadded) == 'torch'
    with pytest.raises(UserError, match='--backend onnx needs a padded network'):
        choose_backend('onnx', CPU, pixels, wide, unpadded)
    seen = []
    monkeypatch.setattr(
        selection, 'choose_backend', lambda *given, **_: seen.append(given) or 'torch'
    )
    assert predict.main('-m slim.pth -m slim.pth -i imgs -o both/ --device cpu'.split()) == 0
    assert len(seen[0][3:]) == 2  # both networks


@pytest.mark.parametrize('bilinear', [False, True])
@torch.inference_mode()
def test_folding_keeps_a_slim_networks_logits(bilinear):
    model = trained_like(3, widths=WIDTHS[bilinear], bilinear=bilinear)
    images = torch.rand(2, 3, 40, 56)
    torch.testing.assert_close(fold_batchnorm(model)(images), model(images), rtol=1e-4, atol=1e-5)


@SLOW
@pytest.mark.parametrize('bilinear', [False, True])
@pytest.mark.parametrize('backend', ['onnx', 'openvino'])
@in_own_process
def test_backends_compute_a_slim_networks_logits(backend, bilinear):
    model = trained_like(3, widths=WIDTHS[bilinear], bilinear=bilinear)
    network = build_network(model, backend, MixedPrecision(CPU, amp=False))
    for shape in ((1, 3, 32, 48), (2, 3, 37, 51)):
        images = torch.rand(*shape)
        with torch.inference_mode():
            torch.testing.assert_close(network(images), model(images), rtol=1e-4, atol=1e-4)


@SLOW
@in_own_process
def test_a_slim_network_is_exported(pictures, capsys):
    assert export.main(['slim.pth', 'slim.onnx']) == 0
    assert 'slim.onnx written' in capsys.readouterr().out


@SLOW
@in_own_process
def test_a_slim_network_predicts_in_8_bits(pictures, capsys):
    options = '--quantize int8 --calibration-images imgs --calibration-masks masks -o'.split()
    plain = predict.main('-m slim.pth -i imgs --device cpu -o plain/'.split())
    eight = predict.main([*'-m slim.pth -i imgs --device cpu'.split(), *options, 'int8/'])
    assert plain == eight == 0
    assert 'int8: Dice' in capsys.readouterr().out
    one, other = masks(pictures / 'plain'), masks(pictures / 'int8')
    assert np.mean([(one[name] == other[name]).mean() for name in one]) > 0.97
