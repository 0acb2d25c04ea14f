"""How much memory is free, may be used and was used, and errors when it runs out."""

import ctypes
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from .cgroups import free_memory
from .distributed import local_world_size
from .errors import UserError, is_memory_failure

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

SHARED_MEMORY = Path('/dev/shm')  # limits shared memory on Linux; other systems have no such limit


def available_memory(workers: int = 0) -> int:
    """Return the bytes of main memory that this process may use: its share of half the free ones.

    Dataloader workers need shared memory: /dev/shm limits it as well (64 MB in Docker by default).
    """
    free = free_memory()
    if workers and SHARED_MEMORY.is_dir():
        free = min(free, shutil.disk_usage(SHARED_MEMORY).free)
    return free // 2 // local_world_size()


def available_device_memory(device: torch.device) -> int:
    """Return the bytes of the device's memory that may be used beside training: half the free."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0] // 2
    return available_memory()  # MPS devices share main memory


def available_prediction_memory(device: torch.device) -> int:
    """Return the bytes of the device's memory that prediction may use; 0 if unknown."""
    if device.type != 'cuda':
        return available_memory()
    # The driver counts torch's cache as used.
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def peak_memory(device: torch.device) -> int | None:
    """Return the most MiB that this process has held so far: of a card, else of main memory.

    None where the system does not say, as Windows.
    """
    if device.type == 'cuda':
        return torch.cuda.max_memory_reserved(device) >> 20  # torch's own, without CUDA's context
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == 'darwin' else 10)  # bytes on macOS, else KiB


def return_freed_memory() -> None:
    """Give memory that was freed back to the system, where the C library offers that (glibc).

    A server needs it, whose threads each free large arrays in a heap of their own: app.py grew by
    200 to 290 MiB in 20 pictures of 2400 x 1800, though it held no more objects (dev/LOG.md).
    """
    with suppress(AttributeError, OSError, TypeError):  # TypeError: CDLL(None) on Windows
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def one_out_of_memory_error() -> Iterator[None]:
    """Raise every failure of memory in the block as torch.OutOfMemoryError.

    torch raises it for the memory that it allocates on a device itself. Main memory, cuBLAS, cuDNN
    and other backends have errors of their own, see errors.is_memory_failure.
    """
    try:
        yield
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:
        if not is_memory_failure(error):
            raise
        raise torch.OutOfMemoryError(str(error) or 'no main memory is left') from error
