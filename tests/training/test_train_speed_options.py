"""--accumulate, --compile and --deterministic do what they say."""

import os
import signal

import pytest
import torch
from drawing import data_set
from running import SMALL, rows, run_train, same_weights, weights

import train
from utils.inference.checkpoint import load_checkpoint
from utils.runtime.devices import make_deterministic
from utils.runtime.errors import explain
from utils.training import builder
from utils.training.step import TrainStep


@pytest.mark.slow
def test_accumulate_makes_fewer_steps_of_as_many_images(folder, capsys):
    data_set(folder, 11)
    assert run_train('-e', '1', '-b', '2', '--accumulate', '2', '--output', 'a') == 0
    assert '2 x 2 accumulated' in capsys.readouterr().out
    assert [row['step'] for row in rows('a/metrics.csv')] == ['3']  # 4 + 4 + 2 images
    assert load_checkpoint('a/last.pth').training['schedule']['last_epoch'] == 3
    assert run_train('-e', '1', '-b', '2', '--output', 'b') == 0
    assert not same_weights('a/last.pth', 'b/last.pth')


@pytest.mark.slow
def test_an_accumulating_run_resumes_exactly_from_within_an_epoch(folder, monkeypatch):
    data_set(folder, 11)
    options = ['-e', '1', '-b', '1', '--accumulate', '4']
    assert run_train(*options, '--output', 'whole') == 0
    step, calls = TrainStep.__call__, []

    def signalling(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, '__call__', signalling)
        assert run_train(*options, '--output', 'broken') == 143
    assert load_checkpoint('broken/last.pth').training['batch'] == 2
    assert train.main(['--resume', 'broken/last.pth']) == 0
    assert same_weights('whole/last.pth', 'broken/last.pth')


@pytest.mark.slow
def test_out_of_memory_in_a_later_batch_of_a_step_does_the_whole_step_again(folder, monkeypatch):
    data_set(folder, 9)
    settings = ['-e', '1', '-b', '1', '--accumulate', '4']
    assert run_train(*settings, '--output', 'plain') == 0
    loss, calls = builder.segmentation_loss, []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return loss(*arguments, **options)

    monkeypatch.setattr(builder, 'segmentation_loss', failing)
    assert run_train(*settings, '--output', 'frugal') == 0
    assert load_checkpoint('frugal/last.pth').training['checkpointing']
    assert same_weights('plain/last.pth', 'frugal/last.pth')


@pytest.mark.slow
def test_compile_trains_a_compiled_network_and_keeps_the_names_of_weights(folder, monkeypatch):
    data_set(folder, 4)
    assert run_train('-e', '1', '-b', '3', '--output', 'plain') == 0
    real, compiled = torch.compile, []

    def eagerly(function, **options):  # compiling to machine code takes a minute
        compiled.append(function)
        return real(function, backend='eager', **options)

    monkeypatch.setattr(torch, 'compile', eagerly)
    assert run_train('-e', '1', '-b', '3', '--output', 'compiled', '--compile') == 0
    assert [type(of).__name__ for of in compiled[-2:]] == ['UNet', 'partial']  # and its loss
    plain, new = weights('plain/last.pth'), weights('compiled/last.pth')
    assert list(plain) == list(new)
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, new[name])


@pytest.mark.slow
def test_network_and_loss_have_one_graph_for_whole_and_one_for_halved_images(folder, monkeypatch):
    data_set(folder, 8, size=(96, 64))
    real, graphs = torch.compile, []

    def counting(graph, inputs):
        assert all(torch.is_tensor(of) for of in inputs), 'a size is an input'
        graphs.append(any('batch_norm' in str(node.target) for node in graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(torch, 'compile', lambda of, **given: real(of, backend=counting, **given))
    options = ['-e', '4', '-b', '2', '-v', '0', '-s', '1', '--base-channels', '2', '--compile']
    assert run_train(*options, '--accumulate', '2', '--augment', 'none') == 0
    assert load_checkpoint('checkpoints/last.pth').training['step'] == 8  # the first one is halved
    assert graphs[1:] == [True, False, True, False]  # after the one that looks for a compiler
    assert not torch._dynamo.utils.counters['graph_break']


def test_compile_without_a_compiler_is_one_message_before_anything_is_written(
    folder, monkeypatch, capsys
):
    data_set(folder, 4)

    def missing(function):
        raise RuntimeError('InvalidCxxCompiler: No working C++ compiler found')

    monkeypatch.setattr(torch, 'compile', missing)
    assert run_train('--compile') == 2
    assert 'InvalidCxxCompiler: No working C++ compiler' in capsys.readouterr().err
    assert not (folder / 'checkpoints').exists()


@pytest.fixture
def settings_restored(monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', '')
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG')
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.slow
@pytest.mark.usefixtures('settings_restored')
def test_deterministic_trains_with_deterministic_algorithms_only(folder, monkeypatch):
    data_set(folder, 4)
    on_card = '--deterministic' in SMALL
    torch.use_deterministic_algorithms(on_card)  # whatever an earlier test has left
    assert run_train('-e', '1', '--output', 'a') == 0
    assert torch.are_deterministic_algorithms_enabled() == on_card
    assert run_train('-e', '1', '--output', 'b', '--deterministic', '--bilinear') == 0
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'
    assert not torch.backends.cudnn.benchmark


@pytest.mark.usefixtures('settings_restored')
def test_a_workspace_that_the_user_has_chosen_stays(monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':16:8')
    make_deterministic()
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':16:8'


def test_an_operation_without_a_deterministic_way_is_named():
    error = RuntimeError('histc_cuda does not have a deterministic implementation, but you set')
    assert 'histc_cuda does not have a deterministic' in explain(error)
    assert 'Leave --deterministic out' in explain(error)
