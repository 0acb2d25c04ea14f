"""Where --cache keeps decoded items, and whether there is room."""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

import PIL
import torch
from torch.utils.data import Dataset

from .data_loading import BasicDataset
from .decoding import DECODE_PATH
from .distributed import local_size
from .errors import UserError
from .files import user_cache
from .item_store import DeviceItems, FileStore, MemoryStore, StoredItems, record_ends

CACHE_VERSION = 1  # raise it when the same file and settings would give other items
SHARED_MEMORY = Path('/dev/shm')  # Linux; elsewhere it is bounded by memory alone
CONTAINER = Path('/sys/fs/cgroup')


def cached(
    dataset: BasicDataset, kind: str, epochs: int, workers: int, device: torch.device
) -> tuple[Dataset, str]:
    """The dataset as --cache `kind` gives it, and a line that says so.

    epochs: how many are to come. Never more than half of what is free is taken. Raises UserError
    where the items do not fit into what was asked for.
    """
    if kind == 'device' and device.type == 'cpu':
        kind = 'ram'  # the CPU's memory
    size = record_ends(dataset)[-1]
    path = cache_path(dataset, user_cache('items'))
    rooms = {
        'ram': lambda: memory_room(workers),
        'disk': lambda: disk_room(path),
        'device': lambda: device_room(device),
    }
    asked = kind != 'auto'
    if not asked:
        kind, why = choose(size, path, epochs, rooms)
    elif kind in rooms and size > (room := rooms[kind]()):
        raise UserError(
            f'--cache {kind}: the decoded images take {_size(size)}, and half of what is free '
            f'there is {_size(room)}. Use another --cache (auto finds one), or a smaller --scale.'
        )
    else:
        why = 'as asked'
    if kind == 'device':
        return DeviceItems(dataset, device), f'images: decoded once, {_size(size)} on the {device}'
    if kind == 'ram':
        store = MemoryStore(size, shared=workers > 0)
        return StoredItems(dataset, store), f'images: decoded once, {_size(size)} kept in memory'
    if kind == 'disk':
        return _on_disk(dataset, path, size, asked)
    return dataset, f'images: decoded anew in each epoch ({why})'


def _on_disk(dataset: BasicDataset, path: Path, size: int, asked: bool) -> tuple[Dataset, str]:
    """The dataset with its store in a file; without one where that fails and was not asked for."""
    found = 'read from' if path.is_file() else 'decoded once, kept in'
    try:
        remove_others(path, size)
        store = FileStore(path, size)
    except OSError as error:
        why = f'{path} cannot be written: {error.strerror}'
        if asked:
            raise UserError(
                f'--cache disk: {why}. Set XDG_CACHE_HOME to a folder that can.'
            ) from error
        return dataset, f'images: decoded anew in each epoch ({why})'
    return StoredItems(dataset, store), f'images: {found} {path}, {_size(size)}'


def choose(size: int, path: Path, epochs: int, rooms: dict) -> tuple[str, str]:
    """What 'auto' means here: a kind, and why where it is 'none'.

    What an earlier run has left is read. Else memory, since it leaves nothing behind, then the
    disk. Never the device: what the network will need of it is not known yet.
    """
    if path.is_file():
        return 'disk', ''
    if epochs == 1:
        return 'none', 'one epoch is to come'
    for kind in ('ram', 'disk'):
        if size <= rooms[kind]():
            return kind, ''
    return 'none', f'no room for {_size(size)} in half of the free memory or disk'


def cache_path(dataset: BasicDataset, folder: Path) -> Path:
    """The file of these files (name, size, time of change) and all else that decides the items.

    Its name begins with what a changed data set keeps: its place and the settings.
    """
    first = dataset.pairs[0]
    place = [str(first.image.parent.resolve()), str(first.mask.parent.resolve())]
    settings = [dataset.scale, dataset.channels, dataset.deep, dataset.sizes, repr(dataset.masks)]
    if dataset.weight_map:
        settings.append('border')
    versions = [CACHE_VERSION, DECODE_PATH, PIL.__version__, torch.__version__]
    files = [
        (path.name, stat.st_size, stat.st_mtime_ns)
        for pair in dataset.pairs
        for path in (pair.image, pair.mask)
        if (stat := path.stat())
    ]
    return folder / f'{_hash(place + settings[:2])}-{_hash([settings, versions, files])}.items'


def memory_room(workers: int) -> int:
    """Bytes that this process may take of the memory: its part of half of what is free."""
    free = free_memory()
    if workers and SHARED_MEMORY.is_dir():  # workers see shared memory only, 64 MB in Docker
        free = min(free, shutil.disk_usage(SHARED_MEMORY).free)
    return free // 2 // local_size()


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


def disk_room(path: Path) -> int:
    """Bytes that caches may take of the disk: half of what would be free without them."""
    there = next(parent for parent in path.parents if parent.is_dir())
    held = sum(_taken(stat) for _, stat in _caches(path.parent))
    return (shutil.disk_usage(there).free + held) // 2


def remove_others(path: Path, size: int) -> None:
    """Remove earlier states of this data set, and of others those not used for longest, to fit."""
    room = disk_room(path)
    for other, stat in sorted(_caches(path.parent), key=lambda c: c[1].st_mtime, reverse=True):
        if other == path:
            continue
        stale = other.name.split('-')[0] == path.name.split('-')[0]
        if stale or size + stat.st_size > room:
            other.unlink(missing_ok=True)
        else:
            size += stat.st_size


def _caches(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The files of all caches; another process may be removing some."""
    found = []
    for path in folder.glob('*.items'):
        with contextlib.suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


def _taken(stat: os.stat_result) -> int:
    """Bytes that a file has of the disk, without its holes where the system tells them."""
    return stat.st_blocks * 512 if hasattr(stat, 'st_blocks') else stat.st_size


def _hash(content: list) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _size(count: int) -> str:
    """Bytes for a person."""
    unit, name = (2**30, 'GiB') if count >= 2**30 else (2**20, 'MiB')
    return f'{count / unit:.2g} {name}'
