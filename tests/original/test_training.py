"""Training in the original's form, by a script's own loop and by train_model."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from drawing import data_set
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import train
from train import train_model
from unet import UNet
from utils.data.splits import split_ids
from utils.data_loading import BasicDataset
from utils.dice_score import dice_loss
from utils.inference.checkpoint import load_checkpoint
from utils.runtime.precision import MixedPrecision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.recipes import RECIPES
from utils.training.step import TrainStep

CPU = torch.device('cpu')


def loop(net, batches, lr=1e-5):
    """Train as scripts for the original do; return the losses."""
    optimizer = torch.optim.RMSprop(
        net.parameters(), lr=lr, weight_decay=1e-8, momentum=0.999, foreach=True
    )
    net.train()
    losses = []
    for batch in batches:
        images = batch['image'].to(CPU, dtype=torch.float32, memory_format=torch.channels_last)
        masks = batch['mask'].to(CPU, dtype=torch.long)
        logits = net(images)
        if net.n_classes == 1:
            loss = nn.BCEWithLogitsLoss()(logits.squeeze(1), masks.float())
            loss += dice_loss(torch.sigmoid(logits.squeeze(1)), masks.float(), multiclass=False)
        else:
            onehot = F.one_hot(masks, net.n_classes).permute(0, 3, 1, 2).float()
            loss = nn.CrossEntropyLoss()(logits, masks)
            loss += dice_loss(F.softmax(logits, dim=1).float(), onehot, multiclass=True)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize('n_classes', [1, 2, 3])
def test_a_scripts_own_loop_has_the_losses_of_the_classic_recipe(tmp_path, n_classes):
    values = [0, 100, 255][: max(2, n_classes)]
    dataset = BasicDataset(*data_set(tmp_path, 4, values=values), scale=0.7)
    batches = list(DataLoader(dataset, batch_size=2))
    torch.manual_seed(1)
    net = UNet(3, n_classes, base_channels=8).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(net)
    recipe = RECIPES['classic']
    optimizer = recipe.optimizer(ours, recipe.learning_rate)
    step = TrainStep(ours.train(), optimizer, MixedPrecision(CPU, amp=False), StepGuard(ours))
    found = [step([(batch['image'], batch['mask'])], 2)[0].item() for batch in batches]
    assert found == pytest.approx(loop(net, batches), abs=1e-4)


def test_one_image_passes_through_the_network(tmp_path):
    item = BasicDataset(*data_set(tmp_path, 1), scale=0.5)[0]
    logits = UNet(3, 2, base_channels=2).eval()(item['image'][None])
    assert logits.shape == (1, 2, 16, 24)
    assert F.one_hot(item['mask'], 2).shape == (16, 24, 2)


@pytest.fixture
def data(folder):
    """Six images and masks in data/ of the current folder."""
    data_set(folder / 'data', 6, size=(80, 64))
    return folder


def small_network(n_classes=2):
    torch.manual_seed(0)
    return UNet(3, n_classes, base_channels=2)


@pytest.mark.slow
def test_train_model_trains_the_network_that_it_is_given_and_writes_checkpoints(data):
    net = small_network()
    before = copy.deepcopy(net.state_dict())
    assert train_model(net, CPU, epochs=2, learning_rate=1e-4, val_percent=0.2) is None
    written = sorted(path.name for path in (data / 'checkpoints').glob('checkpoint_epoch*.pth'))
    assert written == ['checkpoint_epoch1.pth', 'checkpoint_epoch2.pth']
    last = load_checkpoint(data / 'checkpoints/checkpoint_epoch2.pth')
    assert last.mask_values == [0, 255]
    assert last.scale == 0.5
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in last.weights.items())
    assert not torch.equal(after['outc.conv.weight'], before['outc.conv.weight'])
    assert net.training


def test_train_model_takes_carvanas_names(folder):
    data_set(folder / 'data', 4, suffix='_mask')
    train_model(small_network(1), CPU, epochs=1, img_scale=1.0, batch_size=3)
    assert load_checkpoint(folder / 'checkpoints/best.pth').model['n_classes'] == 1


def test_train_model_without_checkpoints_leaves_no_file(data, capsys):
    before = sorted(data.rglob('*'))
    train_model(small_network(), CPU, epochs=1, save_checkpoint=False)
    assert [path for path in sorted(data.rglob('*')) if 'user-cache' not in str(path)] == before
    assert 'predict.py -m' not in capsys.readouterr().out  # there is nothing to predict with


def test_the_settings_of_train_model_act(data, monkeypatch):
    runs = []
    whole = train.train_run
    monkeypatch.setattr(train, 'train_run', lambda run, stop: runs.append(run) or whole(run, stop))
    settings = {
        'epochs': 1, 'batch_size': 2, 'learning_rate': 3e-4, 'val_percent': 0.5, 'img_scale': 0.6,
        'amp': True, 'weight_decay': 1e-3, 'momentum': 0.5, 'gradient_clipping': 0.25,
    }  # fmt: skip
    train_model(small_network(), CPU, save_checkpoint=False, **settings)
    (run,) = runs
    (group,) = run.state.optimizer.param_groups
    assert isinstance(run.state.optimizer, torch.optim.RMSprop)
    assert (group['lr'], group['weight_decay'], group['momentum']) == (3e-4, 1e-3, 0.5)
    assert run.step_runner.step.max_gradient_norm == 0.25
    assert run.data.sampler.batch_size == 2
    assert run.data.dataset.sizes[0] == (48, 38)
    assert run.state.precision.name == 'bf16'
    training, validation = split_ids(run.data.dataset.ids, 50, 'random', 0)
    assert (run.data.training, run.data.validation) == (training, validation)


def test_gradients_longer_than_the_limit_are_clipped():
    net = small_network()
    recipe = RECIPES['classic']
    step = TrainStep(
        net, recipe.optimizer(net, 1e-5), MixedPrecision(CPU, amp=False), StepGuard(net),
        max_gradient_norm=1e-3,
    )  # fmt: skip
    _, norm = step([(torch.rand(2, 3, 32, 32), torch.ones(2, 32, 32))], 2)
    clipped = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
    assert norm > 2e-3
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


def test_train_model_names_a_network_that_does_not_fit_the_masks(data):
    with pytest.raises(Exception, match=r'masks hold 2 distinct values .* --classes is 3'):
        train_model(small_network(3), CPU, epochs=1)
    assert not (data / 'checkpoints').exists()


def test_an_empty_data_folder_is_a_runtime_error_for_train_model(folder):
    for name in ('imgs', 'masks'):
        (folder / 'data' / name).mkdir(parents=True)
    with pytest.raises(RuntimeError, match='holds no pictures'):
        train_model(small_network(), CPU)


def test_a_signal_that_stops_train_model_is_an_interrupt(data, monkeypatch):
    def stopped(run, stop):
        run.close()
        stop.received = 'SIGINT'

    monkeypatch.setattr(train, 'train_run', stopped)
    with pytest.raises(KeyboardInterrupt, match='stopped by SIGINT'):
        train_model(small_network(), CPU, epochs=1)


def test_grey_images_train_a_grey_network(folder):
    data_set(folder / 'data', 3, colours=1)
    net = UNet(1, 2, base_channels=2)
    train_model(net, CPU, epochs=1, img_scale=1.0)
    assert np.asarray(Image.open(folder / 'data/imgs/disc00.png')).ndim == 2
    assert load_checkpoint(folder / 'checkpoints/checkpoint_epoch1.pth').model['n_channels'] == 1


def test_train_model_runs_in_a_thread_where_python_allows_no_signal_handlers(data):
    with ThreadPoolExecutor(1) as threads:
        threads.submit(train_model, small_network(), CPU, epochs=1).result()
    assert (data / 'checkpoints/checkpoint_epoch1.pth').is_file()
