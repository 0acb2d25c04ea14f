"""Failures of memory, threads and GPUs are explained in one message."""

import pytest
import torch
import torch.distributed as dist

from utils.runtime import cli, distributed
from utils.runtime.errors import UserError, explain
from utils.runtime.memory import one_out_of_memory_error

NCCL = 'NCCL error in: NCCLUtils.cpp:77, unhandled cuda error\nLast error:\n'
MEMORY = [
    MemoryError(),
    MemoryError('Unable to allocate 3.0 GiB for an array'),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
    RuntimeError('CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`'),
    RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
    RuntimeError('cuDNN error: CUDNN_STATUS_NOT_INITIALIZED'),
    RuntimeError('BFCArena: Failed to allocate memory for requested buffer of size 9'),
    RuntimeError('cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED'),
    dist.DistBackendError(NCCL + 'Failed to CUDA calloc 4194304 bytes'),
    dist.DistBackendError(NCCL + "Cuda failure 2 'out of memory'"),
    OSError(12, 'Cannot allocate memory'),
]


@pytest.mark.parametrize('error', MEMORY, ids=lambda error: str(error)[-30:])
def test_memory_that_is_used_up_is_named_whoever_reports_it(error):
    text = explain(error)
    assert text.startswith('out of memory: ')
    assert 'Use a smaller --scale or --batch-size' in text
    words = ['CU', 'alloc', 'Cuda', 'main memory']
    assert any(word in text.partition(': ')[2].partition(' Use')[0] for word in words)


@pytest.mark.parametrize('error', MEMORY, ids=lambda error: str(error)[-30:])
def test_every_failure_of_memory_is_raised_as_torchs(error):
    with pytest.raises(torch.OutOfMemoryError) as raised, one_out_of_memory_error():
        raise error
    assert str(error) in str(raised.value)
    assert str(raised.value)  # its first line is shown
    assert explain(raised.value).startswith('out of memory: ')


@pytest.mark.parametrize(
    'error',
    [torch.OutOfMemoryError('x'), UserError('out of memory with batch size 2'), ValueError('x')],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_raised_unchanged(error):
    with pytest.raises(type(error)) as raised, one_out_of_memory_error():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (RuntimeError('CUDA error: no kernel image is available for'), 'no code for this GPU'),
        (RuntimeError("can't start new thread"), 'no more threads or processes'),
        (BlockingIOError(11, 'Resource temporarily unavailable'), 'no more threads or processes'),
        (dist.DistBackendError(NCCL + 'Error while creating shared memory segment '
                               '/dev/shm/nccl-8Zx (size 9637888)'), '--shm-size=8g'),
    ],
)  # fmt: skip
def test_other_limits_of_a_machine_have_a_remedy(error, message):
    assert message in explain(error)


def test_bugs_are_not_explained_away():
    for error in (RuntimeError('shapes differ'), RuntimeError(''), dist.DistBackendError(NCCL)):
        assert explain(error) is None


def test_a_program_without_memory_ends_with_one_message(capsys):
    def work(_):
        raise MemoryError

    arguments = cli.argparse.Namespace(debug=False)
    assert cli.run_program(work, arguments) == 2
    assert capsys.readouterr().err.startswith('error: out of memory: no main memory is left')


def test_a_collective_without_memory_is_not_taken_for_a_lost_process():
    def collective():
        raise dist.DistBackendError(NCCL + 'Failed to CUDA calloc 4194304 bytes')

    with pytest.raises(dist.DistBackendError, match='Failed to CUDA calloc'):
        distributed._communicate(collective)
