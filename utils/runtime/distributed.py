"""Distributed processes: process group, ranks, collectives, sharding, errors on all ranks.

    torchrun --nproc-per-node=4 train.py --amp

Only rank 0 prints and writes. Without torchrun, there is one process to reduce and gather over.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .cgroups import available_cores
from .errors import EXIT_INTERRUPTED, UserError, explain, is_memory_failure

# Longer than the first scan of a data set. When a process dies, torchrun ends the others at once.
TIMEOUT = timedelta(minutes=30)
GRACE = 60.0  # seconds for a rank to save after torchrun was killed

Item = TypeVar('Item')


class LostProcessError(UserError):
    """Another rank ended while this one waited for it."""

    exit_code = 1


class OutOfMemoryOnAnyRank(torch.OutOfMemoryError):
    """Memory ran out on some rank, at a point where all ranks can repeat the step."""


def world_size() -> int:
    """Return the number of processes on all machines."""
    return dist.get_world_size() if _started() else 1


def rank() -> int:
    """Return the number of this process among those of all machines, from 0."""
    return dist.get_rank() if _started() else 0


def is_main_process() -> bool:
    """Return whether this is rank 0, the one that prints and writes."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process on its machine, from 0; also that of its CUDA card."""
    return int(os.environ['LOCAL_RANK']) if _started() else 0


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    return int(os.environ.get('LOCAL_WORLD_SIZE', world_size())) if _started() else 1


def share_of_cores() -> int:
    """Return how many of its machine's cores this process may keep busy: at least one."""
    return max(1, available_cores() // local_world_size())


@contextmanager
def process_group() -> Iterator[None]:
    """Join torchrun's process group, if any. Rank 0 prints, and the first rank with an error."""
    launched = {'RANK', 'LOCAL_RANK', 'WORLD_SIZE'} <= os.environ.keys()
    if not launched or os.environ['WORLD_SIZE'] == '1' or _started():
        _keep_to_cores()
        yield
        return
    store, number, count = next(dist.rendezvous('env://', timeout=TIMEOUT))
    # gloo for tensors on the CPU, NCCL for gradients on cards.
    backend = 'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo'
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=number, world_size=count)
    threading.Thread(target=_end_with_torchrun, args=(os.getppid(),), daemon=True).start()
    _divide_cores()
    try:
        if is_main_process():
            yield
        else:
            with Path(os.devnull).open('w') as null, redirect_stdout(null), redirect_stderr(null):
                yield
    except (Exception, KeyboardInterrupt) as error:
        if not _reported_elsewhere(error, store):
            raise
        code = getattr(error, 'exit_code', 1 if explain(error) is None else UserError.exit_code)
        interrupted = isinstance(error, KeyboardInterrupt)
        raise SystemExit(EXIT_INTERRUPTED if interrupted else code) from error
    # Before 2.8, torch holds the GIL while it joins gloo's threads, which may need the GIL to free
    # the last tensors (pytorch/pytorch#154976). On torch 2.6, half of the tests hung here.
    time.sleep(0.1)
    dist.destroy_process_group()


def all_reduce_max(*flags: int) -> list[int]:
    """Return each flag's maximum over all ranks, without waiting for the device: 0.4 ms for two."""
    if world_size() == 1:
        return list(flags)
    agreed = torch.tensor(flags, dtype=torch.int64)
    _communicate(dist.all_reduce, agreed, op=dist.ReduceOp.MAX)
    return agreed.tolist()


def broadcast_object(value: Any) -> Any:
    """Return rank 0's value on every rank."""
    values = [value]
    if world_size() > 1:
        _communicate(dist.broadcast_object_list, values, src=0)
    return values[0]


def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrite the tensors, which must be contiguous, with rank 0's."""
    if world_size() > 1:
        for tensor in tensors:
            _communicate(dist.broadcast, tensor, src=0)


def all_reduce_sum(tensors: Sequence[Tensor]) -> None:
    """Replace the tensors, all of one dtype, by their sums over all ranks, in one collective."""
    if world_size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    _communicate(dist.all_reduce, flat)
    sums = flat.split([tensor.numel() for tensor in tensors])
    shaped = [part.view(tensor.shape) for part, tensor in zip(sums, tensors, strict=True)]
    torch._foreach_copy_(list(tensors), shaped)


def broadcast_tensor(tensor: Tensor, source: int) -> None:
    """Overwrite the tensor, which must be contiguous, with the one of rank `source`."""
    if world_size() > 1:
        _communicate(dist.broadcast, tensor, src=source)


def shard(items: list[Item]) -> list[Item]:
    """Return this rank's part of a list: every world_size()-th item."""
    return items[rank() :: world_size()]


def gather_shards(results: list) -> list:
    """Return all ranks' results for their `shard` of a list, in the order of that list."""
    if world_size() == 1:
        return results
    everyone: list[list] = [[] for _ in range(world_size())]
    _communicate(dist.all_gather_object, everyone, results)
    count = sum(map(len, everyone))
    return [everyone[k % world_size()][k // world_size()] for k in range(count)]


@contextmanager
def local_main_process_first() -> Iterator[None]:
    """Run the block on local rank 0 of each machine first, so that the others find its cache."""
    if local_rank() != 0:
        all_reduce_max(0)
    yield
    if local_rank() == 0:
        all_reduce_max(0)


@contextmanager
def out_of_memory_on_all_ranks() -> Iterator[None]:
    """Raise an out-of-memory error of one rank on all, which would wait for its gradients forever.

    Code in this block must not communicate. Without other ranks, torch's error is raised unchanged.
    """
    failure = None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError) or is_memory_failure(error)
        if world_size() == 1 or not known:
            raise
        failure = str(error)
    if all_reduce_max(failure is not None)[0]:
        raise OutOfMemoryOnAnyRank(failure or 'on another rank')


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()


def _communicate(collective: Callable, *arguments: object, **options: object) -> None:
    try:
        collective(*arguments, **options)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if is_memory_failure(error):  # NCCL's own; no other rank has to be lost
            raise
        raise LostProcessError(
            f'another of the {world_size()} processes has ended or does not answer '
            f'({str(error).splitlines()[0]:.200}). Files written so far are complete: continue a '
            'training with --resume, a prediction with --skip-existing.'
        ) from error


def _end_with_torchrun(parent: int) -> None:
    """Stop this rank when torchrun was killed; a training saves. Without it, it would train on."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(EXIT_INTERRUPTED)


def _keep_to_cores() -> None:
    # In a container with two of 64 cores, torch starts 64 threads, which wait for each other.
    cores = available_cores()
    if 'OMP_NUM_THREADS' not in os.environ and torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def _divide_cores() -> None:
    # torchrun sets it to 1 if it is unset, so any other number is the user's.
    if os.environ.get('OMP_NUM_THREADS', '1') == '1':
        torch.set_num_threads(share_of_cores())


def _reported_elsewhere(error: BaseException, store: 'dist.Store') -> bool:
    try:
        errors = store.add('errors', 1)
        if isinstance(error, LostProcessError):  # it is another error's consequence
            return errors > 1
        return store.add(f'error {type(error).__name__}: {error}', 1) > 1
    except RuntimeError:  # the process that kept the store has ended
        return False
