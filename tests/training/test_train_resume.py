"""Starting from weights, and going on with a run."""

import os

import pytest
import torch
from devices import training_on_device
from drawing import data_set
from running import rows, run_train, same_weights, weights

import train
from unet import UNet
from utils.inference.checkpoint import load_checkpoint, to_flat
from utils.runtime import files
from utils.training import builder, validation
from utils.training.recorder import Recorder


@pytest.mark.slow
def test_load_starts_from_the_weights_of_either_form(folder):
    data_set(folder, 4)
    assert run_train('-e', '1', '--output', 'a', '--bilinear') == 0
    to_flat(folder / 'a/last.pth', folder / 'flat.pth')
    for name in ('a/last.pth', 'flat.pth'):
        assert run_train('-e', '1', '-l', '1e-12', '-f', name, '--output', 'b') == 0
        old, new = weights('a/last.pth'), weights('b/last.pth')
        key = 'outc.conv.weight'
        torch.testing.assert_close(old[key], new[key], atol=1e-6, rtol=0)
        assert load_checkpoint('b/last.pth').model['bilinear']


def test_load_with_other_classes_keeps_all_but_the_last_layer(folder, capsys):
    data_set(folder / 'two', 4)
    data_set(folder / 'three', 4, values=(0, 1, 2))
    assert run_train('-e', '1', '--output', 'a', images='two/imgs', masks='two/masks') == 0
    options = ['-e', '1', '-l', '1e-12', '-f', 'a/last.pth', '--output', 'b']
    assert run_train(*options, images='three/imgs', masks='three/masks') == 0
    assert 'the weights are for 2 classes and the masks have 3' in capsys.readouterr().out
    old, new = weights('a/last.pth'), weights('b/last.pth')
    torch.testing.assert_close(
        old['inc.double_conv.0.weight'], new['inc.double_conv.0.weight'], atol=1e-6, rtol=0
    )
    assert new['outc.conv.weight'].shape[0] == 3


@pytest.mark.slow
def test_load_of_a_binary_network_stays_binary_unless_told(folder):
    data_set(folder, 4)
    torch.save(UNet(3, 1, base_channels=4).state_dict(), 'binary.pth')
    for options, expected in [([], 1), (['-c', '1'], 1), (['-c', '2'], 2)]:
        assert run_train('-f', 'binary.pth', '-e', '1', *options) == 0
        assert load_checkpoint('checkpoints/last.pth').model['n_classes'] == expected


@pytest.mark.slow
def test_load_of_another_channel_count_is_refused(folder, capsys):
    data_set(folder, 4)
    torch.save(UNet(1, 2, base_channels=4).state_dict(), 'grey.pth')
    assert run_train('-f', 'grey.pth', '--channels', '3') == 2
    assert '--channels is 3 but the weights to start from take 1' in capsys.readouterr().err
    assert run_train('-f', 'grey.pth', '-e', '1') == 0  # the images are converted
    assert load_checkpoint('checkpoints/last.pth').model['n_channels'] == 1


@pytest.mark.parametrize('recipe', ['fast', pytest.param('classic', marks=pytest.mark.slow)])
@pytest.mark.parametrize('workers', ['0', pytest.param('1', marks=pytest.mark.slow)])
def test_a_resumed_run_ends_as_the_unbroken_one_bit_for_bit(folder, monkeypatch, recipe, workers):
    data_set(folder, 6)
    options = ['-e', '3', '--recipe', recipe, '--workers', workers]
    assert run_train(*options, '--output', 'whole') == 0
    end_epoch = Recorder.end_epoch

    def interrupted(run):
        end_epoch(run)
        if run.state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, 'end_epoch', interrupted)
        assert run_train(*options, '--output', 'broken') == 130
    assert train.main(['--resume', 'broken/last.pth']) == 0
    assert same_weights('whole/last.pth', 'broken/last.pth')
    assert [r['step'] for r in rows('whole/metrics.csv')] == [
        r['step'] for r in rows('broken/metrics.csv')
    ]
    a, b = (load_checkpoint(f'{run}/last.pth').training['optimizer'] for run in ('whole', 'broken'))
    for state, other in zip(a['state'].values(), b['state'].values(), strict=True):
        assert all(torch.equal(torch.as_tensor(state[k]), torch.as_tensor(other[k])) for k in state)


@pytest.mark.slow
def test_resume_without_a_name_takes_the_outputs_last_and_can_ask_for_more_epochs(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    assert train.main(['--resume']) == 2
    assert 'checkpoints/last.pth has done 1 of 1 epochs. Ask for more' in capsys.readouterr().err
    assert train.main(['--resume', '-b', '3']) == 2
    assert '--batch-size is 3, was the default' in capsys.readouterr().err
    assert train.main(['--resume', 'checkpoints', '-e', '2']) == 0  # a folder's last.pth
    assert 'resuming after step 2, in epoch 2' in capsys.readouterr().out
    assert load_checkpoint('checkpoints/last.pth').training['epoch'] == 2


@pytest.mark.slow
def test_resume_refuses_what_it_cannot_go_on_with(folder, capsys):
    data_set(folder, 4)
    assert train.main(['--resume']) == 2
    assert 'last.pth does not exist. --resume takes the last.pth of a run; found: none' in (
        capsys.readouterr().err
    )
    assert run_train('-e', '1') == 0
    assert train.main(['--resume', 'checkpoints/best.pth', '-e', '2']) == 2
    assert 'holds weights only; --resume takes a last.pth' in capsys.readouterr().err
    for sub in ('imgs', 'masks'):
        (folder / sub / 'disc03.png').unlink()
    assert train.main(['--resume', '-e', '2']) == 2
    assert 'the training images are not those of the run to resume' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        ['--recipe', 'classic'], ['-c', '1'], ['-l', '1e-2'], ['--amp'], ['--bilinear'],
        ['--base-channels', '6'], ['-s', '0.5'], ['-b', '1'], ['--output', 'other'],
    ],
)  # fmt: skip
def test_a_resumed_run_keeps_its_settings(folder, capsys, options):
    data_set(folder, 4, size=(64, 64))
    assert run_train('-e', '1') == 0
    before = (folder / 'checkpoints/last.pth').read_bytes()
    resume = ['--resume', 'checkpoints/last.pth', '-e', '2']
    assert train.main([*resume, *options]) == 2
    assert (
        f'a resumed run keeps its settings, but {"--" if len(options[0]) == 2 else options[0]}'
        in (capsys.readouterr().err)
    )
    assert (folder / 'checkpoints/last.pth').read_bytes() == before


@pytest.mark.slow
def test_load_with_contradicting_options_is_refused(folder, capsys):
    data_set(folder, 4)
    torch.save(UNet(3, 2, base_channels=4).state_dict(), 'w.pth')
    assert run_train('-f', 'w.pth', '--bilinear') == 2
    assert '--bilinear, but w.pth has transposed convolutions' in capsys.readouterr().err
    assert run_train('-f', 'w.pth', '--base-channels', '8') == 2
    assert '--base-channels is 8, but w.pth has 4' in capsys.readouterr().err
    options = ['--images', 'imgs', '--masks', 'masks', '-s', '1', '-e', '1']
    assert train.main([*options, *training_on_device(), '-f', 'w.pth']) == 0
    assert load_checkpoint('checkpoints/last.pth').model['base_channels'] == 4


def test_load_and_resume_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as caught:
        train.get_args(['--load', 'a.pth', '--resume'])
    assert caught.value.code == 2
    assert 'not allowed with argument' in capsys.readouterr().err


@pytest.mark.slow
def test_a_new_run_overwrites_nothing_of_an_earlier_one(folder, capsys, monkeypatch):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    before = (folder / 'checkpoints/best.pth').read_bytes()
    (folder / 'checkpoints/pretrained.pth').write_bytes(b"the user's own")
    part = folder / 'checkpoints/.unet-0123abcd.part.pth'
    part.write_bytes(b'left by a kill')
    os.utime(part, (0, 0))
    monkeypatch.setattr(files, '_swept', set())  # as in a new process
    assert run_train('-e', '1', '--seed', '5') == 0
    assert not list((folder / 'checkpoints').glob('.*'))
    assert (
        'note: the files of an earlier run are now in checkpoints/earlier-'
        in capsys.readouterr().out
    )
    (earlier,) = (folder / 'checkpoints').glob('earlier-*')
    assert (earlier / 'best.pth').read_bytes() == before
    assert (folder / 'checkpoints/pretrained.pth').exists()
    assert len(rows()) == 1


@pytest.mark.slow
def test_keep_leaves_the_newest_epochs(folder):
    data_set(folder, 4)
    assert run_train('-e', '4', '--keep', '2') == 0
    names = {path.name for path in (folder / 'checkpoints').glob('checkpoint_epoch*')}
    assert names == {'checkpoint_epoch3.pth', 'checkpoint_epoch4.pth'}


def test_early_stop_ends_a_run_whose_dice_does_not_rise(folder, monkeypatch):
    data_set(folder, 6)
    scores = iter([0.5, 0.6, 0.6, 0.4, 0.9])
    real = validation.summarize
    monkeypatch.setattr(
        validation, 'summarize', lambda *a: real(*a) | {'dice_dataset': next(scores)}
    )
    assert run_train('-e', '5', '--early-stop', '2') == 0
    assert [row['dice_dataset'] for row in rows()] == ['0.5', '0.6', '0.6', '0.4']
    assert load_checkpoint('checkpoints/last.pth').training['since_best'] == 2


@pytest.mark.slow
def test_resume_auto_starts_a_run_and_then_goes_on_with_it(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1', '--resume', 'auto') == 0
    assert 'resuming' not in capsys.readouterr().out
    assert run_train('-e', '2', '--resume', 'auto') == 0
    assert 'resuming after step' in capsys.readouterr().out
    before = (folder / 'checkpoints/last.pth').read_bytes()
    assert run_train('-e', '2', '--resume', 'auto') == 0
    out = capsys.readouterr().out
    assert 'resuming after step 4, nothing left to do' in out
    assert 'Predict with: python predict.py -m checkpoints/best.pth' in out
    assert (folder / 'checkpoints/last.pth').read_bytes() == before


@pytest.mark.slow
def test_a_resumed_run_that_diverges_names_the_file_it_began_from(folder, capsys, monkeypatch):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    nan = torch.tensor(float('nan'))
    loss = builder.segmentation_loss
    monkeypatch.setattr(
        builder, 'segmentation_loss', lambda *a, **options: nan * loss(*a, **options)
    )
    assert train.main(['--resume', '-e', '2']) == 3
    assert 'Last good file: checkpoints/last.pth' in capsys.readouterr().err


def damage(training, key, value):
    """Set training['a']['b'] for key 'a.b'; remove it where the value is Ellipsis."""
    *path, last = key.split('.')
    for name in path:
        training = training[int(name) if isinstance(training, list) or name.isdigit() else name]
    if value is ...:
        del training[last]
    else:
        training[last] = value


@pytest.fixture(scope='module')
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data_set(folder, 4)
        assert run_train('-e', '1') == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('epoch', 'one', "training.epoch is 'one', expected a whole number"),
        ('data', ..., 'has no entry training.data'),
        ('plan', 3, 'training.plan is 3, expected a dict'),
        ('plan.rise', ..., 'has no entry training.plan.rise'),
        ('plan.peak', 1.5, 'training.plan.peak is 1.5, expected a number from 0 to 1'),
        ('precision', 'fp8', "'fp8', expected 'fp32' or 'bf16'"),
        ('meter.images', -1, 'training.meter.images is -1'),
        ('args.epochs', 'many', "--epochs is 'many': expected a whole number from 1"),
        ('args.recipe', 'slow', "invalid choice: 'slow'"),
        ('args.bilinear', 3, '--bilinear is 3: expected True or False'),
        ('args.mask_values', ['a'], "--mask-values is 'a': expected whole numbers"),
        ('optimizer.param_groups', [], 'optimizer.groups is not'),
        ('optimizer.param_groups.0.lr', 'high', 'optimizer.groups.0.lr is not'),
        ('optimizer.param_groups.1.momentum', ..., 'optimizer.groups.1.momentum is not'),
        ('optimizer.state.40.momentum', torch.zeros(3), 'optimizer.state.40 is not'),
        ('optimizer.state.60.momentum', ..., 'optimizer.state of the parameters up to'),
        ('optimizer.state.40.mean', 0.5, 'optimizer.state of the parameters up to'),
        ('optimizer.state.x', {}, 'optimizer.state is not'),
        ('schedule.base_lrs', 7, 'schedule.base_lrs is not'),
        ('schedule.last_epoch', ..., 'schedule.last_epoch is not'),
    ],
)
def test_a_last_file_with_an_entry_of_another_kind_is_one_message(
    finished_run, folder, capsys, key, value, message
):
    content = torch.load(finished_run / 'checkpoints/last.pth', weights_only=True)
    content['training']['args'] |= {'images': str(finished_run / 'imgs')}
    content['training']['args'] |= {'masks': str(finished_run / 'masks')}
    damage(content['training'], key, value)
    (folder / 'checkpoints').mkdir()
    torch.save(content, 'checkpoints/last.pth')
    assert train.main(['--resume', '-e', '2']) == 2
    assert message in capsys.readouterr().err
