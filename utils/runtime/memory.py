"""How much memory is free, and how much of it this process may use."""

import os
import shutil
from pathlib import Path

import torch

from .cgroups import memory_room
from .distributed import local_world_size

SHARED_MEMORY = Path('/dev/shm')  # limits shared memory on Linux; other systems have no such limit


def free_memory() -> int:
    """Return the free bytes of main memory, within the limits of containers; 0 if unknown."""
    try:
        lines = Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvail'))
    except OSError:  # macOS tells the total only, Windows neither
        if 'SC_PHYS_PAGES' not in getattr(os, 'sysconf_names', ()):
            return 0
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
    room = memory_room()
    return free if room is None else min(free, room)


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
