"""Mistakes are one message before anything is written; mishaps lose nothing."""

import multiprocessing
import os
from types import SimpleNamespace

import pytest
import torch
from drawing import data_set
from running import rows, run_train, same_weights

from unet import UNet
from unet.unet_parts import OutConv
from utils.data.dataset import SegmentationDataset
from utils.inference.checkpoint import load_checkpoint
from utils.runtime.errors import UserError
from utils.training import builder, progress, validation
from utils.training.optimization.muon import Muon
from utils.training.recorder import Recorder
from utils.training.step import TrainStep


def test_a_mistake_is_one_message_and_exit_code_2_before_anything_is_written(folder, capsys):
    data_set(folder, 4)
    (folder / 'masks/disc02.png').unlink()
    assert run_train() == 2
    captured = capsys.readouterr()
    assert captured.err.startswith('error: 1 problem with the data:\n1 without a mask:\n  ')
    assert 'imgs/disc02.png has no mask disc02.*; the masks are called disc00.png' in captured.err
    assert 'Traceback' not in captured.err
    assert not (folder / 'checkpoints').exists()
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
    loss = builder.segmentation_loss
    monkeypatch.setattr(
        builder,
        'segmentation_loss',
        lambda *a, **options: loss(*a, **options) * float('nan'),
    )
    assert run_train('-e', '1') == 3
    err = capsys.readouterr().err
    assert 'loss or gradient was not finite in 2 steps in a row at epoch 1, step 2' in err
    assert 'precision fp32, learning rate 0.002)' in err  # of that step, not of the next one
    assert 'Last good file: none yet' in err
    assert not list((folder / 'checkpoints').glob('*.pth'))


def test_statistics_that_are_no_number_are_not_saved_and_stop_with_exit_code_3(
    folder, capsys, monkeypatch
):
    data_set(folder, 4)

    def poison(model, batches):
        model.inc.double_conv[1].running_var[0] = float('inf')

    monkeypatch.setattr(validation, 'reestimate_statistics', poison)
    assert run_train('-e', '1') == 3
    err = capsys.readouterr().err
    assert 'weights with NaN or infinity are not saved: inc.' in err
    assert 'at epoch 1, step 2 (precision fp32' in err
    assert not list((folder / 'checkpoints').glob('*.pth'))


NO_MEMORY = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')


def fail_at(step, monkeypatch, times, error=NO_MEMORY):
    """Let the network run out of memory at a forward pass, so many times."""
    calls = [0]
    forward = UNet.forward

    def failing(model, *inputs, **options):
        calls[0] += model.training and torch.is_grad_enabled()
        if step <= calls[0] < step + times:
            raise error
        return forward(model, *inputs, **options)

    monkeypatch.setattr(UNet, 'forward', failing)


@pytest.mark.slow
@pytest.mark.parametrize(
    'error',
    [
        NO_MEMORY,
        RuntimeError('cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_goes_on_with_checkpointing_from_where_it_stood(
    folder, capsys, monkeypatch, error
):
    data_set(folder, 8)
    assert run_train('-e', '2', '--output', 'plain') == 0
    fail_at(3, monkeypatch, times=1, error=error)
    assert run_train('-e', '2', '--output', 'frugal') == 0
    assert (
        'note: out of memory with batch size 2, images of 48 x 32, fp32' in capsys.readouterr().out
    )
    assert same_weights('plain/last.pth', 'frugal/last.pth')
    assert load_checkpoint('frugal/last.pth').training['checkpointing']


@pytest.mark.slow
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


@pytest.mark.slow
def test_out_of_memory_in_the_first_optimizer_step_is_done_again(folder, monkeypatch):
    data_set(folder, 8)
    assert run_train('-e', '1', '--output', 'plain') == 0
    step, calls = Muon.step, []

    def failing(optimizer, *arguments):
        calls.append(1)
        if len(calls) == 1:
            parameter = optimizer.param_groups[0]['params'][0]
            optimizer.state[parameter]['mean'] = torch.zeros_like(
                parameter
            )  # and no memory for the rest
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return step(optimizer, *arguments)

    monkeypatch.setattr(Muon, 'step', failing)
    assert run_train('-e', '1', '--output', 'frugal') == 0
    assert same_weights('plain/last.pth', 'frugal/last.pth')


def test_small_images_of_many_sizes_train_at_any_batch_size(folder):
    for k in range(10):
        data_set(folder, 2, size=(24 + k % 3, 24), names=[f'small{k}_{i}' for i in range(2)])
    for batch in ('2', '5'):
        assert run_train('-e', '1', '-b', batch, '-v', '0') == 0


@pytest.mark.slow
def test_a_file_broken_since_the_scan_is_named_by_a_worker_without_a_traceback(folder, capsys):
    images, _ = data_set(folder, 4)
    assert run_train('-e', '1') == 0
    path = images / 'disc02.png'
    stat = path.stat()
    path.write_bytes(b'x' * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # so that the scan is not done again
    before = set(multiprocessing.active_children())
    assert run_train('-e', '1', '--workers', '1', '-v', '0') == 2
    err = capsys.readouterr().err
    assert 'error: imgs/disc02.png cannot be read as a picture' in err
    assert 'Traceback' not in err
    assert set(multiprocessing.active_children()) <= before  # no worker is left


@pytest.mark.slow
def test_speed_is_of_training_alone(folder, monkeypatch):
    data_set(folder, 11)
    hands = [0.0]
    monkeypatch.setattr(progress, 'time', SimpleNamespace(perf_counter=lambda: hands[0]))

    def taking(seconds, work):
        def timed(*arguments):
            hands[0] += seconds
            return work(*arguments)

        return timed

    monkeypatch.setattr(TrainStep, '__call__', taking(1, TrainStep.__call__))
    monkeypatch.setattr(Recorder, 'log_validation', taking(50, Recorder.log_validation))
    assert run_train('-e', '1', '--recipe', 'classic') == 0
    assert [row['seconds'] for row in rows()] == ['2.0', '4.0', '6.0', '8.0', '10.0']
    assert {row['images_per_second'] for row in rows()} == {'1.0'}


def test_out_of_memory_twice_says_what_was_tried_and_what_to_try(folder, capsys, monkeypatch):
    data_set(folder, 8)
    fail_at(3, monkeypatch, times=2)
    assert run_train('-e', '2') == 2
    err = capsys.readouterr().err
    assert 'even with activation checkpointing: CUDA out of memory' in err
    assert '-b 1' in err
    assert '-s 0.5' in err
    assert '--amp' in err


def test_a_data_worker_that_dies_is_explained(folder, capsys, monkeypatch):
    data_set(folder, 6)
    monkeypatch.setattr(SegmentationDataset, '__getitem__', lambda *_: os.kill(os.getpid(), 9))
    assert run_train('-e', '1', '--workers', '1') == 2
    err = capsys.readouterr().err
    assert 'error: a process that loads images has died (DataLoader worker (pid' in err
    assert 'fewer --workers, or --workers 0' in err


def test_one_bad_step_in_an_epoch_of_one_is_skipped(folder, monkeypatch):
    data_set(folder, 5)
    loss, calls = builder.segmentation_loss, []

    def bad_once(logits, masks, **options):
        calls.extend([1] * (masks.shape[2] > 1))  # not those of the coarser levels, a column each
        return loss(logits, masks, **options) * (float('nan') if len(calls) == 2 else 1)

    monkeypatch.setattr(builder, 'segmentation_loss', bad_once)
    assert run_train('-e', '3', '-b', '4') == 0
    assert [row['loss'] == 'nan' for row in rows()] == [False, True, False]


def test_early_stop_needs_a_validation_set(folder, capsys):
    data_set(folder, 4)
    assert run_train('-v', '0', '--early-stop', '2') == 2
    assert 'there is no validation set. Leave --early-stop out' in capsys.readouterr().err


def test_a_tile_too_small_for_a_batch_of_one_is_refused(folder, capsys):
    data_set(folder, 4)
    assert run_train('--tile', '16', '-b', '1') == 2
    assert '--tile 16: a batch of one image needs 32 pixels' in capsys.readouterr().err


def test_images_without_any_mask_are_named(folder, capsys):
    data_set(folder, 4)
    for k, mask in enumerate(sorted((folder / 'masks').iterdir())):
        mask.rename(folder / f'masks/label{k}.png')
    assert run_train() == 2
    err = capsys.readouterr().err
    assert 'error: 4 problems with the data:\n4 without a mask:' in err
    assert 'the masks are called label0.png' in err
