"""train.py, evaluate.py and predict.py on tiny data, from the command line to the files."""

import csv
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import data_set
from PIL import Image

import evaluate
import predict
import train
from unet import UNet
from unet.unet_parts import OutConv
from utils.checkpoint import load_checkpoint, to_flat

SMALL = ['--base-channels', '4', '-s', '1', '--wandb', 'disabled', '--device', 'cpu']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, as a user would."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_train(*options, images='imgs', masks='masks'):
    return train.main(['--images', images, '--masks', masks, *SMALL, *options])


def weights(path):
    return load_checkpoint(path).weights


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return all(torch.equal(a[k], b[k]) for k in a)


def rows(path='checkpoints/metrics.csv'):
    with Path(path).open(newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ('options', 'values', 'n_classes'),
    [
        (['-c', '1'], (0, 255), 1),
        ([], (0, 1), 2),
        ([], (0, 85, 170, 255), 4),
        (['--amp', '--bilinear'], (0, 255), 2),
        (['--recipe', 'classic', '-l', '1e-4'], (0, 255), 2),
    ],
)
def test_each_kind_of_network_trains_scores_and_predicts(folder, options, values, n_classes):
    data_set(folder, 10, values=values)
    assert run_train('-e', '2', '-b', '3', *options) == 0
    checkpoint = load_checkpoint('checkpoints/best.pth')
    assert checkpoint.model['n_classes'] == n_classes
    assert checkpoint.mask_values == list(values)
    assert checkpoint.scale == 1
    data = ['--images', 'imgs', '--masks', 'masks']
    assert evaluate.main(['-m', 'checkpoints/best.pth', *data, '--json', 's.json']) == 0
    scores = json.loads((folder / 's.json').read_text())
    assert len(scores['classes']) == max(2, n_classes)
    assert predict.main(['-m', 'checkpoints/best.pth', '-i', 'imgs/disc00.png']) == 0
    mask = np.asarray(Image.open('imgs/disc00_OUT.png'))
    assert mask.shape == (32, 48)
    assert set(np.unique(mask)) <= set(values)


@pytest.mark.parametrize('options', [[], ['--amp'], ['-c', '1'], ['-b', '1']])
def test_training_learns(folder, options):
    data_set(folder, 12, size=(64, 48))
    settings = ['-e', '4', '-v', '20', '-l', '3e-3', '--base-channels', '8']
    assert run_train(*settings, *options) == 0
    dice = [float(row['dice_dataset']) for row in rows()]
    assert max(dice) > 0.95
    assert dice[-1] > dice[0]


def test_a_run_leaves_all_that_its_documentation_says(folder):
    data_set(folder, 8)
    assert run_train('-e', '2') == 0
    names = {path.name for path in (folder / 'checkpoints').iterdir()}
    assert names == {
        'checkpoint_epoch1.pth', 'checkpoint_epoch2.pth', 'best.pth', 'last.pth',
        'metrics.csv', 'args.json', 'samples.png',
    }  # fmt: skip
    assert [(row['epoch'], row['step']) for row in rows()] == [('1', '4'), ('2', '8')]
    assert all(0 <= float(row['dice_dataset']) <= 1 for row in rows())
    settings = json.loads((folder / 'checkpoints/args.json').read_text())
    assert settings['epochs'] == 2
    assert settings['torch'] == torch.__version__
    best = max(rows(), key=lambda row: float(row['dice_dataset']))
    found = load_checkpoint('checkpoints/best.pth').metrics['dice_dataset']
    assert found == pytest.approx(float(best['dice_dataset']))
    sheet = Image.open('checkpoints/samples.png')
    assert sheet.width == 3 * 320 + 4 * 8


def test_classic_validates_five_times_an_epoch(folder):
    data_set(folder, 11)
    assert run_train('-e', '1', '--recipe', 'classic') == 0
    assert [row['step'] for row in rows()] == ['2', '4', '6', '8', '10']


def test_the_score_of_training_is_the_score_of_evaluate(folder):
    data_set(folder, 10)
    assert run_train('-e', '1', '-v', '30') == 0
    run = load_checkpoint('checkpoints/best.pth')
    validation = folder / 'validation'
    from utils.splits import split_ids

    names = [f'disc{i:02}' for i in range(10)]
    for sub in ('imgs', 'masks'):
        (validation / sub).mkdir(parents=True)
        for position in split_ids(names, 30, 'group', 0)[1]:
            (folder / sub / f'{names[position]}.png').rename(
                validation / sub / f'{names[position]}.png'
            )
    data = ['--images', 'validation/imgs', '--masks', 'validation/masks', '--device', 'cpu']
    for batch in ('1', '2', '3'):
        assert evaluate.main(
            ['-m', 'checkpoints/best.pth', *data, '-b', batch, '--json', 's.json', '--csv', 's.csv']
        ) == 0  # fmt: skip
        scores = json.loads((folder / 's.json').read_text())
        assert scores['images'] == 3
        assert scores['dice_dataset'] == pytest.approx(run.metrics['dice_dataset'], abs=1e-9)
        assert scores['dice_per_image'] == pytest.approx(run.metrics['dice_per_image'], abs=1e-9)
        assert len(rows('s.csv')) == 3 * 2


def test_batch_of_three_with_ten_images_loses_none(folder):
    data_set(folder, 10)
    assert run_train('-e', '1', '-b', '3', '-v', '0') == 0
    assert rows()[-1]['step'] == '4'  # 3 + 3 + 3 + 1


def test_without_validation_there_is_no_score_and_no_best(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1', '-v', '0') == 0
    assert not (folder / 'checkpoints/best.pth').exists()
    assert rows()[0]['dice_dataset'] == ''
    assert 'note: no validation set: no Dice and no best.pth' in capsys.readouterr().out
    assert predict.main(['-m', 'checkpoints/last.pth', '-i', 'imgs/disc00.png', '-n']) == 0


def test_one_image_trains_without_validation_and_says_so(folder, capsys):
    data_set(folder, 1)
    assert run_train('-e', '1') == 0
    out = capsys.readouterr().out
    assert '1 images to train on, 0 to validate on' in out
    assert 'no validation set' in out


def test_all_images_for_validation_is_refused(folder, capsys):
    data_set(folder, 4)
    assert run_train('-v', '100') == 2
    assert '--validation 100 leaves none of 4 images to train on' in capsys.readouterr().err
    assert not (folder / 'checkpoints').exists()


def test_images_of_three_sizes_train_in_one_batch(folder):
    for k, size in enumerate([(48, 32), (40, 40), (33, 50)]):
        names = [f'size{k}_{i}' for i in range(3)]
        data_set(folder, 3, size=size, names=names)
    assert run_train('-e', '1', '-b', '4') == 0
    assert (folder / 'checkpoints/best.pth').exists()


def test_grey_images_train_a_one_channel_network_that_predicts_colour_pictures_too(folder):
    data_set(folder, 4, colours=1)
    assert run_train('-e', '1') == 0
    assert load_checkpoint('checkpoints/best.pth').model['n_channels'] == 1
    Image.new('RGB', (48, 32), 'red').save('red.png')
    assert predict.main(['-m', 'checkpoints/best.pth', '-i', 'red.png', 'imgs/disc00.png']) == 0


# Each option changes the outcome.


@pytest.mark.parametrize(
    'options',
    [
        ['--seed', '1'],
        ['-l', '5e-3'],
        ['-b', '4'],
        ['--recipe', 'classic'],
        ['--amp'],
        ['--augment', 'none'],
        ['--augment', 'full'],
        ['-e', '2'],
        ['-v', '40'],
        ['--split', 'random', '-v', '40'],
        ['-s', '0.75'],
    ],
)
def test_options_change_the_weights(folder, options):
    data_set(folder, 8, size=(64, 48))
    assert run_train('-e', '1', '--output', 'a') == 0
    assert run_train('-e', '1', '--output', 'a2') == 0
    assert same_weights('a/last.pth', 'a2/last.pth')
    assert run_train('-e', '1', '--output', 'b', *options) == 0
    assert not same_weights('a/last.pth', 'b/last.pth')


def test_model_options_make_another_network(folder):
    data_set(folder, 4)
    for options, expected in [
        (['--bilinear'], {'bilinear': True}),
        (['--base-channels', '6'], {'base_channels': 6}),
        (['--channels', '1'], {'n_channels': 1}),
        (['--classes', '1'], {'n_classes': 1}),
    ]:
        assert run_train('-e', '1', *options) == 0
        assert load_checkpoint('checkpoints/last.pth').model.items() >= expected.items()


def test_split_random_is_another_split_than_by_car(folder, capsys):
    names = [f'{car:012x}_{view:02}' for car in range(3) for view in range(1, 5)]
    data_set(folder, 12, names=names)
    assert run_train('-e', '1') == 0
    assert '8 images to train on, 4 to validate on' in capsys.readouterr().out  # a whole car
    assert run_train('-e', '1', '--split', 'random') == 0
    assert '11 images to train on, 1 to validate on' in capsys.readouterr().out


def test_workers_change_no_weight(folder):
    data_set(folder, 6)
    assert run_train('-e', '2', '--output', 'a') == 0
    assert run_train('-e', '2', '--output', 'b', '--workers', '2') == 0
    assert same_weights('a/last.pth', 'b/last.pth')


def test_mask_suffix_and_folders(folder):
    data_set(folder / 'x', 4, suffix='_seg')
    for path in sorted((folder / 'x/masks').iterdir()):
        Image.new('L', (48, 32)).save(path.with_name(path.name.replace('_seg', '')))
    assert run_train('-e', '1', images='x/imgs', masks='x/masks') == 2  # the empty masks are nearer
    assert run_train('-e', '1', '--mask-suffix', '_seg', images='x/imgs', masks='x/masks') == 0


# Starting from weights, and going on.


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


def test_load_of_a_binary_network_stays_binary_unless_told(folder):
    data_set(folder, 4)
    torch.save(UNet(3, 1, base_channels=4).state_dict(), 'binary.pth')
    for options, expected in [([], 1), (['-c', '1'], 1), (['-c', '2'], 2)]:
        assert run_train('-f', 'binary.pth', '-e', '1', *options) == 0
        assert load_checkpoint('checkpoints/last.pth').model['n_classes'] == expected


def test_load_of_another_channel_count_is_refused(folder, capsys):
    data_set(folder, 4)
    torch.save(UNet(1, 2, base_channels=4).state_dict(), 'grey.pth')
    assert run_train('-f', 'grey.pth', '--channels', '3') == 2
    assert '--channels is 3 but the weights to start from take 1' in capsys.readouterr().err
    assert run_train('-f', 'grey.pth', '-e', '1') == 0  # the images are converted
    assert load_checkpoint('checkpoints/last.pth').model['n_channels'] == 1


@pytest.mark.parametrize('recipe', ['fast', 'classic'])
@pytest.mark.parametrize('workers', ['0', '1'])
def test_a_resumed_run_ends_as_the_unbroken_one_bit_for_bit(folder, monkeypatch, recipe, workers):
    data_set(folder, 6)
    options = ['-e', '3', '--recipe', recipe, '--workers', workers]
    assert run_train(*options, '--output', 'whole') == 0
    end_epoch = train.Run.end_epoch

    def interrupted(run):
        end_epoch(run)
        if run.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, 'end_epoch', interrupted)
        assert run_train(*options, '--output', 'broken') == 130
    assert train.main(['--resume', 'broken/last.pth']) == 0
    assert same_weights('whole/last.pth', 'broken/last.pth')
    assert [r['step'] for r in rows('whole/metrics.csv')] == [
        r['step'] for r in rows('broken/metrics.csv')
    ]
    a, b = (load_checkpoint(f'{run}/last.pth').training['optimizer'] for run in ('whole', 'broken'))
    for state, other in zip(a['state'].values(), b['state'].values(), strict=True):
        assert all(torch.equal(torch.as_tensor(state[k]), torch.as_tensor(other[k])) for k in state)


def test_resume_without_a_name_takes_the_outputs_last_and_can_ask_for_more_epochs(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    assert train.main(['--resume']) == 2
    assert 'checkpoints/last.pth has done 1 of 1 epochs. Ask for more' in capsys.readouterr().err
    assert train.main(['--resume', '-e', '2']) == 0
    assert 'resuming after step 2, in epoch 2' in capsys.readouterr().out
    assert load_checkpoint('checkpoints/last.pth').training['epoch'] == 2


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


def test_a_longer_resumed_run_takes_up_the_longer_schedule(folder):
    data_set(folder, 4)
    assert run_train('-e', '1', '-v', '0') == 0
    assert train.main(['--resume', '-e', '2']) == 0
    # 4 steps in all: after the 3rd and 4th the factor is 1/3 and 0; a rate of 0 would have stayed
    assert float(rows()[-1]['learning_rate']) == 0
    state = load_checkpoint('checkpoints/last.pth').training
    assert state['schedule']['last_epoch'] == 4
    moved = load_checkpoint('checkpoints/checkpoint_epoch1.pth').weights['outc.conv.weight']
    assert not torch.equal(
        moved, load_checkpoint('checkpoints/last.pth').weights['outc.conv.weight']
    )


def test_load_with_contradicting_options_is_refused(folder, capsys):
    data_set(folder, 4)
    torch.save(UNet(3, 2, base_channels=4).state_dict(), 'w.pth')
    assert run_train('-f', 'w.pth', '--bilinear') == 2
    assert '--bilinear, but w.pth has transposed convolutions' in capsys.readouterr().err
    assert run_train('-f', 'w.pth', '--base-channels', '8') == 2
    assert '--base-channels is 8, but w.pth has 4' in capsys.readouterr().err
    options = ['--images', 'imgs', '--masks', 'masks', '-s', '1', '--device', 'cpu', '-e', '1']
    assert train.main([*options, '-f', 'w.pth']) == 0
    assert load_checkpoint('checkpoints/last.pth').model['base_channels'] == 4


def test_load_and_resume_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as caught:
        train.get_args(['--load', 'a.pth', '--resume'])
    assert caught.value.code == 2
    assert 'not allowed with argument' in capsys.readouterr().err


def test_a_new_run_overwrites_nothing_of_an_earlier_one(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    before = (folder / 'checkpoints/best.pth').read_bytes()
    (folder / 'checkpoints/pretrained.pth').write_bytes(b"the user's own")
    (folder / 'checkpoints/.last.77.part.pth').write_bytes(b'left by a kill')
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


# Mistakes and mishaps.


def test_a_mistake_is_one_message_and_exit_code_2_before_anything_is_written(folder, capsys):
    data_set(folder, 4)
    (folder / 'masks/disc02.png').unlink()
    assert run_train() == 2
    captured = capsys.readouterr()
    assert captured.err.startswith('error: images and masks do not pair up: 4 images, 3 masks')
    assert 'Traceback' not in captured.err
    assert not (folder / 'checkpoints').exists()
    from utils.errors import UserError

    with pytest.raises(UserError):
        run_train('--debug')


def test_an_output_that_is_a_file_is_refused(folder, capsys):
    data_set(folder, 4)
    (folder / 'taken').write_text('')
    assert run_train('--output', 'taken') == 2
    assert '--output taken is a file; expected a folder' in capsys.readouterr().err
    assert run_train('--output', 'taken/below') == 2
    assert 'error: taken/below: Not a directory' in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named(folder, capsys):
    data_set(folder, 4)
    assert run_train('--device', 'mps') == 2
    assert '--device mps: torch' in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_with_exit_code_3_and_saves_nothing(
    folder, capsys, monkeypatch
):
    data_set(folder, 4)
    loss = train.segmentation_loss
    monkeypatch.setattr(train, 'segmentation_loss', lambda *a: loss(*a) * float('nan'))
    assert run_train('-e', '1') == 3
    err = capsys.readouterr().err
    assert 'loss or gradient was not finite in 2 steps in a row at epoch 1, step 2' in err
    assert 'precision fp32, learning rate' in err
    assert 'Last good file: none yet' in err
    assert not list((folder / 'checkpoints').glob('*.pth'))


def test_statistics_that_are_no_number_are_not_saved_and_stop_with_exit_code_3(
    folder, capsys, monkeypatch
):
    data_set(folder, 4)

    def poison(run):
        run.model.inc.double_conv[1].running_var[0] = float('inf')

    monkeypatch.setattr(train.Run, 'reestimate_statistics', poison)
    assert run_train('-e', '1') == 3
    err = capsys.readouterr().err
    assert 'weights with NaN or infinity are not saved: inc.' in err
    assert 'at epoch 1, step 2 (precision fp32' in err
    assert not list((folder / 'checkpoints').glob('*.pth'))


def fail_at(step, monkeypatch, times):
    """Let the network run out of memory at a forward pass, so many times."""
    calls = [0]
    forward = UNet.forward

    def failing(model, x):
        calls[0] += model.training and torch.is_grad_enabled()
        if step <= calls[0] < step + times:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')
        return forward(model, x)

    monkeypatch.setattr(UNet, 'forward', failing)


def test_out_of_memory_goes_on_with_checkpointing_from_where_it_stood(folder, capsys, monkeypatch):
    data_set(folder, 8)
    assert run_train('-e', '2', '--output', 'plain') == 0
    fail_at(3, monkeypatch, times=1)
    assert run_train('-e', '2', '--output', 'frugal') == 0
    assert (
        'note: out of memory with batch size 2, images of 48 x 32, fp32' in capsys.readouterr().out
    )
    assert same_weights('plain/last.pth', 'frugal/last.pth')
    assert load_checkpoint('frugal/last.pth').training['checkpointing']


@pytest.mark.parametrize('recipe', ['fast', 'classic'])
def test_a_step_that_ran_out_of_memory_half_way_leaves_no_trace(folder, monkeypatch, recipe):
    data_set(folder, 8)
    options = ['-e', '1', '--recipe', recipe]
    assert run_train(*options, '--output', 'plain') == 0
    calls = []
    forward = OutConv.forward

    def failing(layer, x):
        if torch.is_grad_enabled():
            calls.append(1)
        if len(calls) == 2:  # all of the network's statistics have counted the batch by now
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return forward(layer, x)

    monkeypatch.setattr(OutConv, 'forward', failing)
    assert run_train(*options, '--output', 'frugal') == 0
    assert same_weights('plain/last.pth', 'frugal/last.pth')


def test_out_of_memory_in_the_first_optimizer_step_is_done_again(folder, monkeypatch):
    data_set(folder, 8)
    assert run_train('-e', '1', '--output', 'plain') == 0
    step, calls = torch.optim.AdamW.step, []

    def failing(optimizer, *arguments):
        calls.append(1)
        if len(calls) == 1:
            parameter = optimizer.param_groups[0]['params'][0]
            optimizer.state[parameter]['step'] = torch.tensor(0.0)  # and no memory for the rest
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, 'step', failing)
    assert run_train('-e', '1', '--output', 'frugal') == 0
    assert same_weights('plain/last.pth', 'frugal/last.pth')


def test_small_images_of_many_sizes_train_at_any_batch_size(folder):
    for k in range(10):
        data_set(folder, 2, size=(24 + k % 3, 24), names=[f'small{k}_{i}' for i in range(2)])
    for batch in ('2', '5'):
        assert run_train('-e', '1', '-b', batch, '-v', '0') == 0


def test_a_file_broken_since_the_scan_is_named_by_a_worker_without_a_traceback(folder, capsys):
    images, _ = data_set(folder, 4)
    assert run_train('-e', '1') == 0
    path = images / 'disc02.png'
    stat = path.stat()
    path.write_bytes(b'x' * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # so that the scan is not done again
    assert run_train('-e', '1', '--workers', '1', '-v', '0') == 2
    err = capsys.readouterr().err
    assert 'error: imgs/disc02.png cannot be read as a picture' in err
    assert 'Traceback' not in err


def test_speed_and_waiting_are_of_training_alone(folder, monkeypatch):
    data_set(folder, 11)
    record = train.Run.record_validation
    monkeypatch.setattr(
        train.Run, 'record_validation', lambda *a: (time.sleep(0.3), record(*a))
    )  # fmt: skip
    assert run_train('-e', '1', '--recipe', 'classic') == 0
    assert float(rows()[-1]['seconds']) < 1.0  # of 5 validations at 0.3 s none is in it


def test_out_of_memory_twice_says_what_was_tried_and_what_to_try(folder, capsys, monkeypatch):
    data_set(folder, 8)
    fail_at(3, monkeypatch, times=2)
    assert run_train('-e', '2') == 2
    err = capsys.readouterr().err
    assert 'even when computing activations twice: CUDA out of memory' in err
    assert '-b 1' in err
    assert '-s 0.5' in err
    assert '--amp' in err
