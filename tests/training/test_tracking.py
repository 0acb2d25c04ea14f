"""Runs are readable without W&B; with it, offline, all arrives; and it can never stop a run."""

import csv
import sys
import types

import pytest
import torch
from devices import training_on_device
from drawing import data_set
from PIL import Image

import train
from utils.training.tracking.tracker import Tracker

SHEET = Image.new('RGB', (8, 8))


def test_without_a_key_wandb_is_not_even_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)  # an import would raise
    tracker = Tracker(tmp_path, {'a': 1})
    tracker.log_step(1, {'loss': 1})
    tracker.log_validation({'step': 1, 'dice': None}, SHEET)
    tracker.log_validation({'step': 2, 'dice': 0.5}, SHEET)
    tracker.close()
    with (tmp_path / 'metrics.csv').open(newline='') as file:
        assert list(csv.DictReader(file)) == [
            {'step': '1', 'dice': ''},
            {'step': '2', 'dice': '0.5'},
        ]


def test_a_resumed_run_goes_on_after_its_checkpoints_step_and_a_new_one_begins_anew(tmp_path):
    first = Tracker(tmp_path, {})
    for step in (1, 2, 3):
        first.log_validation({'step': step})
    Tracker(tmp_path, {}, step=2).log_validation({'step': 3})
    assert (tmp_path / 'metrics.csv').read_text().split() == ['step', '1', '2', '3']
    Tracker(tmp_path, {}, step=0).log_validation({'step': 1})
    assert (tmp_path / 'metrics.csv').read_text().split() == ['step', '1']
    Tracker(tmp_path, {}).log_validation({'step': 3})
    assert (tmp_path / 'metrics.csv').read_text().split() == ['step', '3']


def test_a_row_torn_by_a_kill_is_dropped(tmp_path):
    first = Tracker(tmp_path, {})
    for step in (1, 2):
        first.log_validation({'step': step, 'loss': 0.5})
    path = tmp_path / 'metrics.csv'
    path.write_text(path.read_text()[:-5])  # ends in '2' and nothing
    Tracker(tmp_path, {}, step=2).log_validation({'step': 2, 'loss': 0.25})
    assert path.read_text().split() == ['step,loss', '1,0.5', '2,0.25']


class FakeRun:
    """Stands in for a W&B run: keeps what is logged, or fails at the n-th call."""

    id = 'run1'

    def __init__(self, fail_at=None):
        self.logged, self.calls, self.fail_at = [], 0, fail_at

    def log(self, figures, step):
        self.calls += 1
        if self.calls == self.fail_at:
            raise ConnectionError('no permission to view this run')
        self.logged.append((step, figures))

    def finish(self):
        self.logged.append('finished')


@pytest.fixture
def fake_wandb(monkeypatch):
    module = types.ModuleType('wandb')
    module.run = FakeRun()
    module.init = lambda **options: setattr(module, 'options', options) or module.run
    module.Image = lambda picture, caption: ('image', picture.size, caption)
    module.Histogram = lambda values: ('histogram', values.shape)
    monkeypatch.setitem(sys.modules, 'wandb', module)
    return module


def test_wandb_gets_figures_pictures_and_histograms_when_asked(tmp_path, fake_wandb):
    model = torch.nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    tracker = Tracker(tmp_path, {'epochs': 3}, 'offline', run_id='before')
    assert fake_wandb.options['config'] == {'epochs': 3}
    assert fake_wandb.options['mode'] == 'offline'
    assert fake_wandb.options['id'] == 'before'
    tracker.log_step(4, {'train loss': 0.5})
    tracker.log_validation({'step': 4, 'dice_dataset': 0.7, 'iou': None}, SHEET, model)
    tracker.log_validation({'step': 5, 'dice_dataset': 0.8}, SHEET)
    tracker.close()
    first, second, third, last = fake_wandb.run.logged
    assert first == (4, {'train loss': 0.5})
    assert second[1]['dice_dataset'] == 0.7
    assert 'iou' not in second[1]
    assert second[1]['samples'][0] == 'image'
    assert second[1]['weights/weight'] == ('histogram', (1, 2))
    assert second[1]['gradients/bias'] == ('histogram', (1,))
    assert not any(name.startswith('weights') for name in third[1])
    assert last == 'finished'
    assert tracker.run_id == 'run1'


def test_a_figure_has_one_key_in_steps_and_validations(folder, fake_wandb):
    data_set(folder, 6)
    options = '--images imgs --masks masks --base-channels 4 -s 1 -e 1'.split()
    options += training_on_device()
    assert train.main([*options, '--wandb', 'offline']) == 0
    *logged, _ = fake_wandb.run.logged
    keys = [set(figures) for _, figures in logged]
    (steps,) = [found for found in keys if 'dice_dataset' not in found]
    (validation,) = [found for found in keys if 'dice_dataset' in found]
    assert steps - validation == {'skipped_steps'}
    assert steps & validation > {'loss', 'learning_rate', 'epoch'}
    assert not [key for key in steps | validation if ' ' in key]


def test_a_failing_logger_warns_once_and_training_goes_on(tmp_path, fake_wandb, capsys):
    fake_wandb.run.fail_at = 2
    tracker = Tracker(tmp_path, {}, 'offline')
    for step in range(1, 5):
        tracker.log_step(step, {})
    tracker.log_validation({'step': 4}, SHEET)
    tracker.close()
    assert capsys.readouterr().out.count('W&B failed and is off from here') == 1
    assert len(fake_wandb.run.logged) == 1
    assert (tmp_path / 'metrics.csv').exists()


def test_a_logger_that_cannot_start_warns_and_training_goes_on(tmp_path, fake_wandb, capsys):
    def init(**options):
        raise OSError('network is unreachable')

    fake_wandb.init = init
    Tracker(tmp_path, {}, 'offline').log_validation({'step': 4}, SHEET)
    assert 'OSError: network is unreachable' in capsys.readouterr().out
    assert (tmp_path / 'metrics.csv').exists()


@pytest.mark.slow
def test_the_real_wandb_logs_a_training_offline(tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path, 6)
    options = '--images imgs --masks masks --base-channels 4 -s 1 -e 2'.split()
    options += training_on_device()
    assert train.main([*options, '--wandb', 'offline', '--wandb-histograms']) == 0
    (run,) = (tmp_path / 'checkpoints/wandb').glob('offline-run-*')
    (log,) = run.glob('*.wandb')
    content = log.read_bytes()
    for name in (b'loss', b'learning_rate', b'dice_dataset', b'gradients/outc', b'weights/'):
        assert name in content, name
    assert list(run.rglob('*.png'))
    assert train.main([*options, '--output', 'off', '--wandb', 'auto']) == 0
    assert not (tmp_path / 'off/wandb').exists()
