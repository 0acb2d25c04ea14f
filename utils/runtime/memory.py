"""Where --cache keeps decoded items, and whether there is room."""

import os
import shutil
from pathlib import Path

import torch

from .distributed import local_world_size

SHARED_MEMORY = Path('/dev/shm')  # Linux; elsewhere it is bounded by memory alone

CONTAINER = Path('/sys/fs/cgroup')


def memory_room(workers: int) -> int:
    """Bytes that this process may take of the memory: its part of half of what is free."""
    free = free_memory()
    if workers and SHARED_MEMORY.is_dir():  # workers see shared memory only, 64 MB in Docker
        free = min(free, shutil.disk_usage(SHARED_MEMORY).free)
    return free // 2 // local_world_size()


def free_memory() -> int:
    """Bytes of memory that are free, to the container where there is one; 0 if nobody can tell."""
    try:
        lines = Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvail'))
    except OSError:  # macOS has no such file and tells the whole memory only; Windows neither
        if 'SC_PHYS_PAGES' not in getattr(os, 'sysconf_names', ()):
            return 0
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
    try:
        limit = (CONTAINER / 'memory.max').read_text(encoding='ascii').strip()
        used = int((CONTAINER / 'memory.current').read_text(encoding='ascii'))
    except OSError:
        return free
    return free if limit == 'max' else max(0, min(free, int(limit) - used))


def device_room(device: torch.device) -> int:
    """Bytes that may be taken of the device's memory, half of what is free."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0] // 2
    return memory_room(0)  # Apple's devices share the machine's


def predicting_room(device: torch.device) -> int:
    """Bytes that predicting may take; 0 where nobody can tell."""
    if device.type != 'cuda':
        return memory_room(0)
    # What torch keeps for later counts as taken with the driver.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
