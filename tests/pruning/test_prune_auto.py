"""prune.py --cost auto finds the cheapest network that keeps the Dice; kills at any point."""

import os
import signal
from pathlib import Path

import pytest
from devices import skip_on_card
from running import rows, same_weights
from test_prune import OPTIONS, trained  # noqa: F401  a fixture

import prune
from utils.inference import checkpoint
from utils.inference.checkpoint import load_checkpoint
from utils.pruning import plan, rounds
from utils.pruning import search as prune_search
from utils.pruning.rounds import Pruning
from utils.training.recorder import Recorder

AUTO = [*OPTIONS, '--cost', 'auto']
SIZE = (32, 48)


@pytest.fixture
def scored(trained, monkeypatch):  # noqa: F811
    """Networks that score 0.9, and 0.5 where they cost less than 0.4 of the dense one."""
    from dataclasses import replace

    real = Pruning.trial

    def trial(self, *given):
        found = real(self, *given)
        return replace(found, dice=0.9 if found.cost >= 0.4 else 0.5)

    monkeypatch.setattr(Pruning, 'trial', trial)
    return trained


def cost_of(path, dense):
    return load_checkpoint(path).build_model().multiply_adds(SIZE) / dense.multiply_adds(SIZE)


@pytest.mark.slow
@pytest.mark.parametrize(
    'drop', [[], pytest.param(['--max-drop', '45'], marks=pytest.mark.slow)], ids=['usual', 'much']
)
def test_auto_takes_the_cheapest_network_that_keeps_to_max_drop(scored, monkeypatch, capsys, drop):
    monkeypatch.setattr(prune, 'train_network', lambda *_, load: Path(load))
    for module in (plan, rounds):  # few trials: at least 2 channels of 4 are left
        monkeypatch.setattr(module, 'portion_of', lambda _: 2)
    assert prune.main([*AUTO, *drop]) == 0
    low, high = (0, 0.35) if drop else (0.4, 0.5)
    assert low < cost_of('slim.pth', scored) <= high
    listed = rows('slim-rounds/pareto.csv')
    assert listed[0]['file'] == 'run/best.pth'
    assert [row['passed'] for row in listed] == sorted((r['passed'] for r in listed), reverse=True)
    assert ('0' in {row['passed'] for row in listed}) == (not drop)
    assert Path('slim-rounds/pareto.png').is_file() and Path('slim-rounds/widths.png').is_file()
    assert '40.00 points lost' in capsys.readouterr().out
    assert prune.main([*AUTO, '--max-drop', '7']) == 2
    assert f'max_drop was {drop[1] + ".0" if drop else 0.2}, is 7' in capsys.readouterr().err


@pytest.mark.slow
def test_where_every_network_loses_too_much_the_dense_one_is_written(
    scored, monkeypatch, capsys
):  # fmt: skip
    monkeypatch.setattr(prune, 'train_network', lambda *_, load: Path(load))
    monkeypatch.setattr(prune_search, 'next_cost', lambda trials, *_: {1: 0.2}.get(len(trials)))
    assert prune.main([*AUTO, '--max-drop', '0']) == 0
    assert 'loses more than 0 points: nothing was pruned' in capsys.readouterr().out
    assert same_weights('slim.pth', 'run/best.pth')


@pytest.mark.slow
def test_a_finished_search_is_not_repeated(scored, capsys):
    assert prune.main(AUTO) == 0
    before = load_checkpoint('slim.pth').weights
    assert 'Epoch' in capsys.readouterr().out
    assert prune.main(AUTO) == 0
    assert 'Epoch' not in capsys.readouterr().out
    assert all((before[k] == v).all() for k, v in load_checkpoint('slim.pth').weights.items())


@pytest.mark.parametrize(
    ('options', 'found'),
    [
        (['--cost', '0.5', '--max-drop', '1'], '--max-drop belongs to --cost auto'),
        (['--cost', '1', '--rival'], '--cost 1 prunes nothing'),
        (['--cost', 'half'], "'half': expected a number over 0 to 1"),
    ],
)
def test_options_that_do_not_go_together_are_an_error_at_once(options, found, capsys):
    with pytest.raises(SystemExit) as ended:
        prune.main(options)
    assert ended.value.code == 2
    assert found in capsys.readouterr().err


def test_auto_without_a_validation_set_is_refused(trained, capsys):  # noqa: F811
    settings = Path('run/args.json')
    settings.write_text(settings.read_text().replace('"validation": 34.0', '"validation": 0.0'))
    assert prune.main(AUTO) == 2
    assert '--cost auto searches by the Dice of a validation set' in capsys.readouterr().err
    assert not Path('slim-rounds').exists()


def killed(options, attribute, owner, when):
    """Run prune.py in a process that kills itself when `owner.attribute` is called for `when`."""
    skip_on_card('a forked process cannot use the card of its parent')
    process = os.fork()
    if process:
        return os.WTERMSIG(os.waitpid(process, 0)[1])
    real = getattr(owner, attribute)

    def kill(*given, **named):
        found = real(*given, **named)
        if when in str([getattr(one, 'args', one) for one in given]):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, attribute, kill)
    try:
        prune.main(options)
    finally:
        os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize('options', [OPTIONS, AUTO], ids=['rounds', 'auto'])
def test_killed_and_run_again_it_ends_with_the_same_network(scored, options):
    name = 'trial' if options == AUTO else 'round'
    assert prune.main([*options, '-o', 'whole.pth']) == 0
    broken = [*options, '-o', 'broken.pth']
    for owner, attribute, when in (
        (checkpoint, '_write', f'{name}1.pth'),
        (Recorder, 'log_validation', f'{name}1'),  # best.pth is written, last.pth is not
        (Recorder, 'end_epoch', f'{name}1'),
        (Recorder, 'end_epoch', f'{name}2'),
    ):
        assert killed(broken, attribute, owner, when) == signal.SIGKILL
        assert not Path('broken.pth').exists()
    assert prune.main(broken) == 0
    assert same_weights('whole.pth', 'broken.pth')
