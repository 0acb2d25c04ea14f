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

from utils.data.dataset import SegmentationDataset
from utils.images.decoding import DECODE_PATH
from utils.runtime.errors import UserError
from utils.runtime.files import user_cache
from utils.runtime.memory import device_room, memory_room

from .stores import DeviceItems, FileStore, MemoryStore, StoredItems, record_ends

CACHE_VERSION = 1  # raise it when the same file and settings would give other items


def cached(
    dataset: SegmentationDataset, kind: str, epochs: int, workers: int, device: torch.device
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


def _on_disk(
    dataset: SegmentationDataset, path: Path, size: int, asked: bool
) -> tuple[Dataset, str]:
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


def cache_path(dataset: SegmentationDataset, folder: Path) -> Path:
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
