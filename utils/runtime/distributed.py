"""Distributed processes: process group, ranks, collectives, sharding, errors on all ranks.

    torchrun --nproc-per-node=4 train.py --amp

Only rank 0 prints and writes. Without torchrun, there is one process to reduce and gather over.
"""

import os
import signal
import sys
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
BEAT = 5.0  # seconds between signs of life
SILENCE = 30  # seconds without one that mean death: no process is busy for so long without a pause
LEFT = 10**9  # beats of a rank that has finished

Item = TypeVar('Item')


class LostProcessError(UserError):
    """Another rank ended while this one waited for it."""

    exit_code = 1


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
        _limit_threads()
        yield
        return
    store, number, count = next(dist.rendezvous('env://', timeout=TIMEOUT))
    # gloo for tensors on the CPU, NCCL for gradients on cards.
    backend = 'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo'
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=number, world_size=count)
    beats = _Heartbeat() if count > local_world_size() else None
    threading.Thread(target=_end_with_torchrun, args=(os.getppid(), beats), daemon=True).start()
    _limit_threads()
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
    if beats:
        beats.stop()
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


class Gathering:
    """Numbers of all ranks, exchanged while this rank goes on computing."""

    def __init__(self, numbers: Sequence[float]) -> None:
        own = torch.tensor(numbers, dtype=torch.float64)
        self._rows = [torch.empty_like(own) for _ in range(world_size())]
        self._work = _communicate(dist.all_gather, self._rows, own, async_op=True)

    def wait(self) -> Tensor:
        """Return the numbers of each rank, (world size, N) float64, when they have arrived."""
        if self._work is not None:
            _communicate(self._work.wait)
            self._work = None
        return torch.stack(self._rows)


def sum_bucket(bucket: Tensor) -> torch.futures.Future:
    """Begin to replace a bucket of gradients by its sum over all ranks."""
    return dist.all_reduce(bucket, async_op=True).get_future()


@contextmanager
def lost_process_reported(failure: Callable | None = None) -> Iterator[None]:
    """Raise the error of a collective in the block as LostProcessError.

    failure: returns None if the error is none of a collective; without it, all are.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        # A failure of memory is NCCL's own; no other rank has to be lost.
        if is_memory_failure(error) or (failure and failure() is None):
            raise
        raise LostProcessError(_lost(str(error).splitlines()[0])) from error


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()


def _communicate(collective: Callable, *arguments: object, **options: object) -> Any:
    with lost_process_reported():
        return collective(*arguments, **options)


class _Heartbeat:
    """Signs of life of the ranks on several machines, counted in the store of the process group.

    A process that ends closes its connections, which its peers notice at once. A machine that loses
    its power or its network closes nothing: collectives would wait for TIMEOUT, and torchrun with
    them. `rounds` grows while all ranks show signs of life.
    """

    def __init__(self) -> None:
        self.rounds = 0
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell the others that this rank has not died, but finished."""
        self.ended.set()
        self._thread.join(BEAT)

    def _beat(self) -> None:
        """Count on until `stop`; a store that does not answer ends it, or keeps it waiting."""
        place = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        # A connection of its own: another one's would be taken while a collective waits.
        store = dist.PrefixStore(
            f'beats {os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}',
            dist.TCPStore(*place, is_master=False, timeout=TIMEOUT),
        )
        names = [str(number) for number in range(world_size())]
        before = [0] * len(names)
        while not self.ended.wait(BEAT):
            store.add(str(rank()), 1)
            now = [int(beats) for beats in store.multi_get(names)]
            if all(new > old or new >= LEFT for new, old in zip(now, before, strict=True)):
                self.rounds, before = self.rounds + 1, now
        store.add(str(rank()), LEFT)


def _end_with_torchrun(parent: int, beats: _Heartbeat | None) -> None:
    """Stop this rank when torchrun was killed; a training saves. Without it, it would train on.

    beats: of several machines; where one falls silent, this rank ends at once.
    """
    rounds = silence = 0
    while os.getppid() == parent:
        time.sleep(1)
        if beats is None or not beats.rounds or beats.ended.is_set():
            continue
        # Counted, not timed: of a process that was stopped and continues, time has passed at once.
        silence = silence + 1 if beats.rounds == rounds else 0
        rounds = beats.rounds
        if silence > SILENCE:
            _end_after_silence()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(EXIT_INTERRUPTED)


def _end_after_silence() -> None:
    if local_rank() == 0:  # once a machine; of other ranks, sys.stderr leads nowhere
        failure = f'no sign of life from another machine for {SILENCE} seconds'
        print(f'error: {_lost(failure)}', file=sys.__stderr__, flush=True)
    os._exit(LostProcessError.exit_code)


def _lost(reason: str) -> str:
    return (
        f'another of the {world_size()} processes has ended or does not answer ({reason:.200}). '
        'Files written so far are complete: continue a training with --resume, a prediction with '
        '--skip-existing.'
    )


def _limit_threads() -> None:
    asked, cores = os.environ.get('OMP_NUM_THREADS'), share_of_cores()
    # torchrun sets it to 1 if it is unset, so any other number is the user's.
    if _started() and asked in (None, '1'):
        torch.set_num_threads(cores)
    elif asked is None:  # in a container with two of 64 cores, 64 threads wait for each other
        torch.set_num_threads(min(cores, torch.get_num_threads()))


def _reported_elsewhere(error: BaseException, store: 'dist.Store') -> bool:
    try:
        errors = store.add('errors', 1)
        if isinstance(error, LostProcessError):  # it is another error's consequence
            return errors > 1
        return store.add(f'error {type(error).__name__}: {error}', 1) > 1
    except RuntimeError:  # the process that kept the store has ended
        return False
