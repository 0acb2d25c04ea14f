"""The rival: its size, the time that it gets, and its column in the table of prune.py."""

import json
from pathlib import Path

import pytest
from networks import save
from running import rows
from test_prune import OPTIONS, trained  # noqa: F401  a fixture

import prune
from unet import UNet, default_widths
from utils.inference.checkpoint import load_checkpoint
from utils.pruning import plan, rival
from utils.training.optimization.recipes import RECIPES


@pytest.mark.parametrize('bilinear', [False, True])
def test_the_rival_has_the_nearest_cost(bilinear):
    dense = UNet(3, 2, bilinear, base_channels=16)
    cost = dense.multiply_adds((64, 64))
    assert rival.rival_base_channels(dense, cost, (64, 64)) == 16
    found = rival.rival_base_channels(dense, cost // 4, (64, 64))
    costs = [dense.multiply_adds((64, 64), default_widths(k, bilinear)) for k in range(1, 17)]
    off = [abs(own - cost // 4) for own in costs]
    assert off[found - 1] == min(off)


def test_the_seconds_of_a_run_are_those_of_the_last_row_of_each_epoch(tmp_path):
    assert rival.training_seconds(tmp_path) is None
    table = tmp_path / 'metrics.csv'
    table.write_text('epoch,step,seconds\n1,5,2.5\n1,10,5.5\n2,15,4\n')
    assert rival.training_seconds(tmp_path) == 9.5
    for damaged in ('epoch,step\n1,2\n', 'epoch,seconds\n1,x\n', 'epoch,seconds\n'):
        table.write_text(damaged)
        assert rival.training_seconds(tmp_path) is None


def test_the_epochs_fill_the_time(tmp_path):
    (tmp_path / 'metrics.csv').write_text('epoch,seconds\n1,30\n2,2\n')
    assert rival.epochs_in(20, tmp_path, coarse=0) == 10
    assert rival.epochs_in(20, tmp_path, coarse=0.5) == 16  # half of the steps take a quarter
    assert rival.epochs_in(0.1, tmp_path, coarse=0) == 1


def untrained(pruning, folder, epochs, stop, **settings):
    """Stand in for prune.train_network: leave the network untrained; an epoch takes 2 seconds."""
    folder.mkdir(exist_ok=True)
    table = ''.join(f'{k + 1},2\n' for k in range(epochs))
    (folder / 'metrics.csv').write_text(f'epoch,seconds\n{table}')
    if 'load' in settings:
        return Path(settings['load'])
    save(folder / 'best.pth', UNet(3, 2, base_channels=settings['base_channels']))
    return folder / 'best.pth'


@pytest.mark.slow
def test_the_rival_has_the_cost_and_the_time_of_the_slim_network(
    trained, monkeypatch, capsys  # noqa: F811
):  # fmt: skip
    monkeypatch.setattr(prune, 'train_network', untrained)
    monkeypatch.setattr(plan, 'round_count', lambda _: 1)
    Path('run/metrics.csv').write_text('epoch,seconds\n1,30\n')
    options = [*OPTIONS, '--cost', '0.4', '--json', 's.json']
    assert prune.main([*options, '--rival']) == 0
    out = capsys.readouterr().out
    total = 30 + 2 + load_checkpoint('slim-rounds/round1.pth').metrics['seconds']
    coarse = RECIPES['fast'].coarse
    assert len(rows('slim-rounds/rival/metrics.csv')) == round(total / 2 / (1 - 0.75 * coarse))
    scores = json.loads(Path('s.json').read_text())
    assert list(scores) == ['before', 'after', 'rival', 'lost']
    assert scores['rival']['widths'] == default_widths(scores['rival']['widths'][0])
    assert 0.5 < scores['after']['multiply_adds'] / scores['rival']['multiply_adds'] < 2
    seconds = [scores[name]['seconds'] for name in ('before', 'after', 'rival')]
    assert seconds[:2] == [30, pytest.approx(total)]
    assert seconds[2] == pytest.approx(total, rel=0.15)
    assert 's of training' in out and 'is not known' not in out
    Path('run/metrics.csv').unlink()
    assert prune.main([*options, '--rival']) == 0
    assert 'the rival gets that of pruning' in capsys.readouterr().out
    assert json.loads(Path('s.json').read_text())['after']['seconds'] == pytest.approx(total - 30)


@pytest.mark.slow
def test_the_rival_is_trained_once_and_learns(trained, capsys):  # noqa: F811
    Path('run/metrics.csv').write_text('epoch,seconds\n1,3\n')
    assert prune.main([*OPTIONS, '--cost', '0.4', '--rival']) == 0
    epochs = rows('slim-rounds/rival/metrics.csv')
    assert float(epochs[-1]['loss']) < float(epochs[0]['loss'])
    capsys.readouterr()
    assert prune.main([*OPTIONS, '--cost', '0.4', '--rival']) == 0
    assert 'Epoch' not in capsys.readouterr().out
