"""prune.py: from a trained network to a slim one, its files, its errors, and going on."""

import json
import re
from pathlib import Path

import pytest
import torch
from drawing import data_set
from networks import save
from running import rows, same_weights

import predict
import prune
from unet import UNet
from utils.inference.checkpoint import load_checkpoint
from utils.pruning import plan
from utils.pruning.distillation import Distillation
from utils.runtime import distributed
from utils.training.recorder import Recorder

OPTIONS = ['-m', 'run/best.pth', '--device', 'cpu', '-e', '1']


@pytest.fixture
def trained(folder, monkeypatch):
    """Six pictures, and a network that was trained on them, as args.json says."""
    monkeypatch.setattr(plan, 'round_count', lambda _: 2)
    data_set(folder / 'data/discs', 6)
    (folder / 'run').mkdir()
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=4)
    save('run/best.pth', model, 1.0, mask_values=[0, 255])
    settings = {'images': 'data/discs/imgs', 'masks': 'data/discs/masks', 'scale': 1.0,
                'validation': 34.0, 'mask_values': [], 'epochs': 9, 'base_channels': 4}  # fmt: skip
    Path('run/args.json').write_text(json.dumps(settings))
    return model


@pytest.mark.parametrize(
    'importance',
    [
        'taylor',
        pytest.param('batchnorm', marks=pytest.mark.slow),
        pytest.param('magnitude', marks=pytest.mark.slow),
    ],
)
def test_the_slim_network_has_the_cost_and_the_table_tells_both(trained, capsys, importance):
    options = ['--cost', '0.25', '--json', 's.json', '--importance', importance]
    assert prune.main([*OPTIONS, *options]) == 0
    out = capsys.readouterr().out
    found = load_checkpoint('slim.pth')
    slim = found.build_model()
    size = (32, 48)
    assert slim.multiply_adds(size) <= 0.25 * trained.multiply_adds(size)
    assert (found.scale, found.mask_values, found.training) == (1.0, [0, 255], None)
    scores = json.loads(Path('s.json').read_text())
    for name, model in (('before', trained), ('after', slim)):
        assert scores[name]['widths'] == model.widths
        assert scores[name]['multiply_adds'] == model.multiply_adds(size)
        assert scores[name]['parameters'] == sum(p.numel() for p in model.parameters())
        assert 0 <= scores[name]['dice'] <= 1 and scores[name]['milliseconds'] > 0
        assert f'{scores[name]["multiply_adds"]:,}' in out
    assert len(rows('slim-rounds/round2/metrics.csv')) == 1
    before, first = trained.widths, load_checkpoint('slim-rounds/round1.pth').model['widths']
    assert all(s <= f <= d for s, f, d in zip(slim.widths, first, before, strict=True))
    assert predict.main('-m slim.pth -i data/discs/imgs -o masks/ --device cpu'.split()) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [{'bilinear': True}, {'padding': 'valid', 'norm': 'none', 'dropout': 0.5}, {'n_classes': 1}],
)
def test_other_kinds_of_networks_are_pruned(trained, options):
    model = UNet(**{'n_channels': 3, 'n_classes': 2, 'base_channels': 4} | options)
    save('other.pth', model, 1.0, mask_values=[0, 255])
    data = ['--images', 'data/discs/imgs', '--masks', 'data/discs/masks']
    assert prune.main([*OPTIONS, '-m', 'other.pth', '--cost', '0.5', *data]) == 0
    slim = load_checkpoint('slim.pth').build_model()
    size = (188, 204) if model.padding == 'valid' else (32, 48)
    assert slim.multiply_adds(size) <= 0.5 * model.multiply_adds(size)
    for name in ('n_classes', 'bilinear', 'padding', 'norm', 'dropout'):
        assert getattr(slim, name) == getattr(model, name)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['run/best.pth', 'last.pth'])
def test_all_of_the_cost_changes_no_weight(trained, name):
    settings = json.loads(Path('run/args.json').read_text())
    save('last.pth', trained, 1.0, mask_values=[0, 255], training={'args': settings})
    assert prune.main([*OPTIONS, '-m', name, '--cost', '1']) == 0
    assert same_weights(name, 'slim.pth')
    found = load_checkpoint('slim.pth')
    assert 'widths' not in found.model and found.training is None
    assert not Path('slim-rounds').exists()


@pytest.mark.slow
def test_a_signal_ends_the_program_with_its_code_and_the_command_continues(
    trained, monkeypatch, capsys
):
    def stopped(run, stop):
        run.close()
        stop.received = 'SIGTERM'

    monkeypatch.setattr(prune.train, 'train_run', stopped)
    assert prune.main(OPTIONS) == 143
    assert 'stopped by SIGTERM; the same command continues' in capsys.readouterr().out
    assert Path('slim-rounds/round1.pth').is_file()
    assert not Path('slim-rounds/round2.pth').exists() and not Path('slim.pth').exists()


@pytest.mark.slow
@pytest.mark.parametrize('options', [[], ['--distill']])
def test_the_network_learns_from_the_dense_one_if_asked_to(trained, monkeypatch, options):
    def stopped(run, stop):
        run.close()
        stop.received = 'SIGTERM'
        criteria.append(run.step_runner.step.criterion)

    criteria = []
    monkeypatch.setattr(prune.train, 'train_run', stopped)
    assert prune.main([*OPTIONS, *options]) == 143
    assert isinstance(criteria[0], Distillation) == bool(options)


def test_several_processes_are_refused(trained, monkeypatch, capsys):
    monkeypatch.setattr(distributed, 'world_size', lambda: 2)
    assert prune.main(OPTIONS) == 2
    assert 'start it with python, not torchrun' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('stop_at', ['round1', 'round2'])
def test_a_stopped_pruning_goes_on_to_the_same_network(trained, monkeypatch, stop_at):
    assert prune.main([*OPTIONS, '-o', 'whole.pth']) == 0
    end_epoch = Recorder.end_epoch

    def interrupted(run):
        end_epoch(run)
        if run.args.output.name == stop_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, 'end_epoch', interrupted)
        assert prune.main([*OPTIONS, '-o', 'broken.pth']) == 130
    assert not Path('broken.pth').exists()
    assert prune.main([*OPTIONS, '-o', 'broken.pth']) == 0
    assert same_weights('whole.pth', 'broken.pth')


@pytest.mark.slow
def test_a_finished_pruning_does_nothing_again_and_another_one_needs_its_own_folder(
    trained, monkeypatch, capsys
):
    monkeypatch.setattr(plan, 'round_count', lambda _: 1)
    assert prune.main(OPTIONS) == 0
    assert 'Epoch' in capsys.readouterr().out
    before = load_checkpoint('slim.pth').weights
    assert prune.main(OPTIONS) == 0
    assert 'Epoch' not in capsys.readouterr().out
    after = load_checkpoint('slim.pth').weights
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert prune.main([*OPTIONS, '--cost', '0.3']) == 2
    error = capsys.readouterr().err
    assert 'slim-rounds is of another pruning: cost was 0.25, is 0.3' in error


@pytest.mark.slow
def test_other_data_take_the_place_of_the_runs(trained, monkeypatch):
    monkeypatch.setattr(plan, 'round_count', lambda _: 1)
    data_set(Path('other'), 4)
    own = ['--images', 'other/imgs', '--masks', 'other/masks', '--cost', '0.7']
    assert prune.main([*OPTIONS, *own]) == 0
    settings = json.loads(Path('slim-rounds/round1/args.json').read_text())
    assert (settings['images'], settings['validation']) == ('other/imgs', 34.0)


@pytest.mark.parametrize(
    ('options', 'found'),
    [
        (['--cost', '0.001'], r'--cost 0.001 of [\d,]+ multiply-adds is too low: what is left'),
        (['-m', 'none.pth'], 'none.pth does not exist'),
        (['-o', 'run/best.pth'], '--output is run/best.pth, the network to prune'),
        (['-o', 'slim.onnx'], 'slim.onnx; expected a name that ends in .pth'),
        (['-o', 'no/slim.pth'], 'no folder no'),
        (
            ['--images', 'data/three/imgs', '--masks', 'data/three/masks'],
            'masks hold 3 distinct values .* but the model was trained on 2',
        ),
        (['-m', 'paper.pth', '--importance', 'batchnorm'], 'paper.pth has no BatchNorm'),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(trained, capsys, options, found):
    data_set(Path('data/three'), 3, values=(0, 1, 2))
    data_set(Path('data'), 3)
    save('paper.pth', UNet(3, 2, base_channels=4, norm='none'), 1.0, mask_values=[0, 255])
    before = sorted(Path().rglob('*'))
    assert prune.main([*OPTIONS, *options]) == 2
    assert re.search(found, capsys.readouterr().err)
    ours = {path for path in Path().rglob('*') if 'user-cache' not in path.parts}
    assert ours <= set(before)


def test_images_without_masks_are_an_error_at_once(capsys):
    with pytest.raises(SystemExit) as ended:
        prune.main(['--images', 'imgs'])
    assert ended.value.code == 2
    assert '--images and --masks belong together' in capsys.readouterr().err


def test_a_damaged_args_json_is_named(trained, capsys):
    Path('run/args.json').write_text('{')
    assert prune.main(OPTIONS) == 2
    assert 'run/args.json is damaged' in capsys.readouterr().err
