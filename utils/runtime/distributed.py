"""All there is of processes: how they start, agree, add up, share work, and end together.

    torchrun --nproc-per-node=4 train.py --amp

Terms are torch's: `rank` counts the processes of all machines, the local rank those of one. Rank
0 alone prints and writes. Without torchrun there is one process, and every function here gives
back what it got.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import EXIT_INTERRUPTED, UserError, explain

# Longer than anything one process does alone: reading a data set for the first time, above all.
# When a process dies, torchrun ends the others at once, whatever this is.
TIMEOUT = timedelta(minutes=30)


class LostProcessError(UserError):
    """Another process ended while this one waited for it."""

    exit_code = 1


class OutOfMemoryOnAnyRank(torch.OutOfMemoryError):
    """Memory ran out in some process, at a point where all of them can do the step again."""


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _started() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _started() else 0


def is_main_process() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def local_rank() -> int:
    """This process's number among those of its machine, which is also its CUDA card's."""
    return int(os.environ['LOCAL_RANK']) if _started() else 0


def local_world_size() -> int:
    """How many processes share this machine."""
    return int(os.environ.get('LOCAL_WORLD_SIZE', world_size())) if _started() else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun has started, if it has; ranks over 0 are silent inside.

    An error is said once, by the first process that meets it: the others exit without a word.
    """
    launched = {'RANK', 'LOCAL_RANK', 'WORLD_SIZE'} <= os.environ.keys()
    if not launched or os.environ['WORLD_SIZE'] == '1' or _started():
        yield
        return
    store, number, count = next(dist.rendezvous('env://', timeout=TIMEOUT))
    # gloo carries what is agreed between CPUs, NCCL the gradients between cards.
    backend = 'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo'
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=number, world_size=count)
    _share_cores()
    try:
        with _silent_unless_main():
            yield
    except (Exception, KeyboardInterrupt) as error:
        if _said_elsewhere(error, store):
            raise SystemExit(_exit_code(error)) from error
        raise
    # A torch before 2.8 holds Python's lock while it ends gloo's threads, which may want it to let
    # go of the last tensors (pytorch/pytorch#154976): half of the tests hung here on torch 2.6.
    time.sleep(0.1)
    dist.destroy_process_group()


def all_reduce_max(*flags: int) -> list[int]:
    """The highest value of each flag in any process: what one wants, all do.

    Waits for the other processes, not for the device; 0.4 ms with two of them on two busy cores.
    """
    if world_size() == 1:
        return list(flags)
    agreed = torch.tensor(flags, dtype=torch.int64)
    _together(dist.all_reduce, agreed, op=dist.ReduceOp.MAX)
    return agreed.tolist()


def broadcast_object(value: Any) -> Any:
    """Rank 0's value, in every process."""
    if world_size() == 1:
        return value
    values = [value]
    _together(dist.broadcast_object_list, values, src=0)
    return values[0]


def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Make tensors, contiguous ones, equal to rank 0's, in place."""
    if world_size() > 1:
        for tensor in tensors:
            _together(dist.broadcast, tensor, src=0)


def all_reduce_sum(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type by their sums over all processes, sent as one piece."""
    if world_size() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    _together(dist.all_reduce, flat)
    sums = flat.split([tensor.numel() for tensor in tensors])
    shaped = [part.view(tensor.shape) for part, tensor in zip(sums, tensors, strict=True)]
    torch._foreach_copy_(list(tensors), shaped)


def shard(items: Sequence) -> Sequence:
    """This process's part of a work list: every world_size()-th item."""
    return items[rank() :: world_size()]


def gather_shards(results: list) -> list:
    """The results of all processes for their `share` of a list, in that list's order."""
    if world_size() == 1:
        return results
    everyone: list[list] = [[] for _ in range(world_size())]
    _together(dist.all_gather_object, everyone, results)
    count = sum(len(part) for part in everyone)
    return [everyone[k % world_size()][k // world_size()] for k in range(count)]


@contextmanager
def local_main_process_first() -> Iterator[None]:
    """Let one process of each machine do it before the others, who find what it remembered."""
    if local_rank() != 0:
        all_reduce_max(0)
    yield
    if local_rank() == 0:
        all_reduce_max(0)


@contextmanager
def out_of_memory_on_all_ranks() -> Iterator[None]:
    """Computing without a word to others; out of memory in one process is raised in all.

    Else the others would wait for ever for the gradients of the one that failed. One process
    raises torch's error as it is.
    """
    failure = None
    try:
        yield
    except torch.OutOfMemoryError as error:
        if world_size() == 1:
            raise
        failure = str(error)
    if all_reduce_max(failure is not None)[0]:
        raise OutOfMemoryOnAnyRank(failure or 'in another process')


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()


def _together(collective: Callable, *arguments: object, **options: object) -> None:
    try:
        collective(*arguments, **options)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostProcessError(
            f'another of the {world_size()} processes has ended, or does not answer '
            f'({str(error).splitlines()[0]:.200}). Files written so far are whole: training goes '
            'on with --resume, prediction with --skip-existing.'
        ) from error


def _share_cores() -> None:
    """Divide the cores among a machine's processes, unless the user has said how.

    torchrun sets one thread where nothing is set; another number is the user's own.
    """
    if os.environ.get('OMP_NUM_THREADS', '1') == '1':
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world_size()))


@contextmanager
def _silent_unless_main() -> Iterator[None]:
    if is_main_process():
        yield
        return
    with Path(os.devnull).open('w') as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        yield


def _said_elsewhere(error: BaseException, store: 'dist.Store') -> bool:
    """Whether another process has said this; a lost process is news only where nobody said why."""
    try:
        errors = store.add('errors', 1)
        if isinstance(error, LostProcessError):
            return errors > 1
        return store.add(f'error {type(error).__name__}: {error}', 1) > 1
    except RuntimeError:  # the store has gone with the process that kept it
        return False


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    known = isinstance(error, UserError) or explain(error) is not None
    return getattr(error, 'exit_code', UserError.exit_code if known else 1)
