"""Training goes on with a slim network: --load, --resume, train_model."""

import torch
from drawing import data_set
from networks import SLIM, save
from running import run_train, same_weights

import train
from unet import UNet
from unet.widths import follow_below
from utils.inference.checkpoint import load_checkpoint
from utils.training.recorder import Recorder

RUN = ['-s', '1', '--wandb', 'disabled', '--device', 'cpu', '--images', 'imgs', '--masks', 'masks']


def test_load_trains_the_slim_network_with_other_classes_too(folder, capsys):
    data_set(folder, 4)
    model = UNet(3, 3, widths=SLIM)
    save('slim.pth', model, mask_values=[0, 1, 2])
    assert train.main([*RUN, '-e', '1', '-f', 'slim.pth']) == 0
    assert f'widths={SLIM}' in capsys.readouterr().out
    found = load_checkpoint('checkpoints/last.pth')
    assert found.model == {
        'n_channels': 3, 'n_classes': 2, 'bilinear': False, 'base_channels': 2, 'widths': SLIM,
    }  # fmt: skip
    first = 'inc.double_conv.0.weight'
    assert not torch.equal(found.weights[first], model.state_dict()[first])
    assert load_checkpoint('checkpoints/best.pth').model == found.model


def test_a_width_that_the_slim_network_has_not_is_refused(folder, capsys):
    data_set(folder, 4)
    save('slim.pth', UNet(3, 2, widths=SLIM))
    assert run_train('-f', 'slim.pth') == 2  # with --base-channels 4
    assert '--base-channels is 4, but slim.pth has 2' in capsys.readouterr().err


def test_a_resumed_slim_run_ends_as_the_unbroken_one(folder, monkeypatch):
    data_set(folder, 4)
    model = UNet(3, 2, True, widths=follow_below(SLIM))
    save('slim.pth', model)
    options = [*RUN, '-e', '2', '-f', 'slim.pth', '--output']
    assert train.main([*options, 'whole']) == 0
    end_epoch = Recorder.end_epoch

    def interrupted(run):
        end_epoch(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, 'end_epoch', interrupted)
        assert train.main([*options, 'broken']) == 130
    assert train.main(['--resume', 'broken/last.pth']) == 0
    assert load_checkpoint('broken/last.pth').model['widths'] == model.widths
    assert same_weights('whole/last.pth', 'broken/last.pth')


def test_train_model_writes_the_widths_of_its_network(folder):
    images, masks = data_set(folder / 'data', 3, suffix='_mask')
    assert images.is_dir() and masks.is_dir()
    model = UNet(3, 2, widths=SLIM)
    train.train_model(model, torch.device('cpu'), epochs=1, val_percent=0.4, img_scale=1)
    assert load_checkpoint('checkpoints/checkpoint_epoch1.pth').model['widths'] == SLIM
