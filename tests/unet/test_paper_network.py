"""The network of the paper (Ronneberger, Fischer, Brox 2015): sizes, mirrored context, tiles."""

import pytest
import torch
from drawing import data_set, disc
from running import run_train, same_weights

import predict
import train
from unet import UNet, input_side, output_side
from utils.data.context import crop, mirrored_indices, with_context
from utils.data.training_tiles import Tiles
from utils.inference.checkpoint import load_checkpoint, to_flat
from utils.inference.logits import logits_of
from utils.inference.predictor import Predictor
from utils.inference.tiling import Tiling
from utils.training.step import StepRunner

PAPER = ['--padding', 'valid', '--norm', 'none', '--dropout', '0.5']


def test_all_sizes_of_figure_1():
    sizes = []
    model = UNet(1, 2, base_channels=1, padding='valid', norm='none').eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.MaxPool2d):
            module.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        assert model(torch.rand(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    down = [570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28]
    up = [56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]
    assert sizes == [(side, side) for side in down + up]


def test_there_are_23_convolutions_in_the_papers_widths():
    with torch.device('meta'):
        model = UNet(1, 2, padding='valid', norm='none')
    kinds = torch.nn.Conv2d | torch.nn.ConvTranspose2d
    convolutions = [module for module in model.modules() if isinstance(module, kinds)]
    assert len(convolutions) == 23
    widths = [module.out_channels for module in convolutions]
    assert widths[:10] == [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert not [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize('bilinear', [False, True])
def test_computed_sizes_are_those_of_the_network(bilinear):
    assert [input_side(side) for side in (1, 4, 5, 388, 389)] == [188, 188, 204, 572, 588]
    assert output_side(572) == 388
    model = UNet(1, 1, bilinear, base_channels=1, padding='valid').eval()
    assert model(torch.rand(1, 1, 188, 204)).shape == (1, 1, 4, 20)


@pytest.mark.parametrize(
    ('side', 'nearest'), [(571, '556 and 572'), (573, '572 and 588'), (100, '188 and 204')]
)
def test_errors_of_other_sizes_name_the_nearest_two(side, nearest):
    model = UNet(1, 1, base_channels=1, padding='valid')
    with pytest.raises(ValueError, match=rf'got {side}; .* {nearest}'):
        model(torch.rand(1, 1, 572, side))


def test_an_unknown_padding_is_an_error():
    with pytest.raises(ValueError, match=r"padding is 'mirror' .* expected 'same'"):
        UNet(1, 1, padding='mirror')


def test_without_batchnorm_weights_have_he_initialisation_and_biases_are_zero():
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=32, norm='none')
    wide, up = model.down3.maxpool_conv[1].double_conv[3], model.up1.up
    assert wide.weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert up.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith('bias'))


def test_dropout_acts_in_training_only():
    model = UNet(1, 1, base_channels=2, norm='none', dropout=0.5)
    x = torch.rand(1, 1, 32, 32)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_a_row_is_mirrored_at_its_ends_as_often_as_needed():
    assert mirrored_indices(-3, 10, 3).tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert mirrored_indices(-2, 4, 1).tolist() == [0, 0, 0, 0]


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return UNet(1, 1, base_channels=2, padding='valid', norm='none').eval()


@torch.inference_mode()
def test_the_context_of_an_image_is_its_mirror_image(network):
    x = torch.rand(2, 1, 40, 60)
    whole = torch.nn.functional.pad(x[:, :, :, :], [59, 59, 39, 39], mode='reflect')
    found = with_context(x, 0, 0, (40, 60))[..., 92 - 39 : 92 + 79, 92 - 59 : 92 + 119]
    assert torch.equal(found, whole)
    assert logits_of(network, x).shape == (2, 1, 40, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('size', 'tile'), [((300, 700), 288), ((533, 300), 320), ((400, 401), 384)]
)
@torch.inference_mode()
def test_prediction_by_tiles_equals_prediction_of_the_whole(network, size, tile):
    image = (torch.rand(1, *size) * 255).byte()
    predictor = Predictor(network, 1.0, [0, 255])
    whole = predictor.resized_outputs(image, size[::-1])
    predictor.tiling = Tiling(tile, 224)
    tiled = predictor.resized_outputs(image, size[::-1])
    assert (tiled - whole).abs().max() < 1e-5
    assert whole.std() > 0.01  # the comparison is not of constants


@torch.inference_mode()
def test_a_training_tile_is_scored_as_in_the_whole_image(network):
    image = torch.rand(1, 300, 330)
    whole = logits_of(network, image[None])[0]
    for top, left in [(0, 0), (96, 128), (200, 230)]:
        seen = with_context(image, top, left, (100, 100))
        found = logits_of(network, seen[None], (100, 100))[0]
        if top % 16 == left % 16 == 0:  # elsewhere, poolings combine other pixels
            assert (found - crop(whole, top, left, (100, 100))).abs().max() < 1e-5


def test_tiles_are_the_same_part_of_image_and_mask_and_differ_by_epoch():
    image, mask = (torch.from_numpy(array) for array in disc(0, (64, 48)))
    item = {'image': image.permute(2, 0, 1), 'mask': image[..., 0]}
    assert mask.shape == (48, 64)
    for padding, side in (('same', 20), ('valid', 188 + 16)):
        tiles = Tiles({(1, 0): item, (2, 0): item}, 0, 20, padding)
        first, second = tiles[1, 0], tiles[2, 0]
        assert not torch.equal(first['mask'], second['mask'])
        assert first['image'].shape == (3, side, side)
        edge = (side - 20) // 2
        middle = first['image'][0, edge : edge + 20, edge : edge + 20]
        assert torch.equal(middle, first['mask'])
    large = Tiles({(1, 0): item}, 0, 100, 'same')[1, 0]
    assert torch.equal(large['image'], item['image'])


SMALL_PAPER = [*PAPER, '--base-channels', '2', '-b', '1', '--tile', '20']


@pytest.mark.slow
def test_the_papers_network_trains_and_predicts_from_each_kind_of_file(folder):
    data_set(folder, 3, size=(48, 32), colours=1)
    assert run_train(*SMALL_PAPER, '-e', '1', '--output', 'a') == 0
    unknown = to_flat(folder / 'a/last.pth', folder / 'flat.pth')
    assert [text.partition(' ')[0] for text in unknown] == [
        'n_channels', 'base_channels', 'norm', 'padding'
    ]  # fmt: skip
    assert 'padding valid, not same' in unknown
    for name in ('a/last.pth', 'a/best.pth', 'flat.pth'):
        model = load_checkpoint(name).model
        assert (model['padding'], model['norm'], model['dropout']) == ('valid', 'none', 0.5)
        assert predict.main(['-m', name, '-i', 'imgs/disc00.png', '-o', 'out.png']) == 0


@pytest.mark.slow
def test_a_run_with_dropout_and_tiles_resumes_bit_for_bit(folder, monkeypatch):
    data_set(folder, 3, size=(48, 32), colours=1)
    options = ['--recipe', 'paper', '--base-channels', '2', '--tile', '20', '-e', '2']
    assert run_train(*options, '--output', 'a') == 0
    step = StepRunner.run_step

    def broken_in_step_3(runner, batches):
        if runner.state.step == 3:
            raise KeyboardInterrupt
        return step(runner, batches)

    with monkeypatch.context() as patched:
        patched.setattr(StepRunner, 'run_step', broken_in_step_3)
        assert run_train(*options, '--output', 'b', '--save-minutes', '0') == 130
    torch.rand(1)  # another random state, as in a new process
    assert train.main(['--resume', 'b/last.pth', '--wandb', 'disabled']) == 0
    assert load_checkpoint('b/last.pth').training['step'] == 4
    assert same_weights('a/last.pth', 'b/last.pth')


@pytest.mark.slow
@pytest.mark.parametrize(
    'options', [['--padding', 'valid'], ['--norm', 'none'], ['--dropout', '0.5'], ['--tile', '20']]
)
def test_options_change_the_weights(folder, options):
    data_set(folder, 3, size=(48, 32), colours=1)
    small = ['-e', '1', '--base-channels', '2', '-v', '34']
    assert run_train(*small, '--output', 'a') == 0
    assert run_train(*small, *options, '--output', 'b') == 0
    if options[0] == '--norm':
        assert 'norm' in load_checkpoint('b/last.pth').model
    else:
        assert not same_weights('a/last.pth', 'b/last.pth')


@pytest.mark.slow
def test_loaded_weights_keep_their_padding_and_impossible_tiles_are_errors(folder, capsys):
    data_set(folder, 3, size=(48, 32), colours=1)
    assert run_train('-e', '1', *PAPER, '--output', 'a') == 0
    assert run_train('-e', '1', '-f', 'a/last.pth', '--output', 'b') == 0
    assert load_checkpoint('b/last.pth').model['padding'] == 'valid'
    capsys.readouterr()
    assert run_train('-e', '1', '-f', 'a/last.pth', '--padding', 'same') == 2
    assert '--padding is same, but a/last.pth has valid' in capsys.readouterr().err
    assert run_train('-e', '1', '--padding', 'valid', '--tile', '400') == 2
    error = capsys.readouterr().err
    assert '--tile 400: ' in error
    assert '388 and 404' in error
