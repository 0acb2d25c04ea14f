"""Where --cache keeps decoded items: choice, free space, name and eviction of cache files."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import PIL
import torch
from torch.utils.data import Dataset

from utils.images.decoding import PILLOW_DECODE
from utils.images.pages import Page, file_of, is_compressed
from utils.masks.joined import mask_files, mask_sources
from utils.runtime.errors import UserError
from utils.runtime.files import container_note, user_cache
from utils.runtime.memory import available_device_memory, available_memory

from .stores import DeviceItems, FileStore, MemoryStore, StoredItems, record_ends

if TYPE_CHECKING:
    from utils.data.dataset import SegmentationDataset
    from utils.data.pairing.matching import Pair

CACHE_VERSION = 2  # increase it when the same files and settings give other items


def cached(
    dataset: 'SegmentationDataset',
    kind: str,
    epochs: int,
    workers: int,
    device: torch.device,
    lasting: bool = True,
) -> tuple[Dataset, str]:
    """Return the dataset with the cache of --cache `kind`, and a line that describes it.

    epochs: that are left. lasting: whether a new file may be left on the disk. At most half of the
    free memory or disk is used. Raises UserError if the items do not fit into what was asked for.
    """
    if kind == 'device' and device.type == 'cpu':
        kind = 'ram'
    size = record_ends(dataset)[-1]
    path = cache_path(dataset, user_cache('items'))
    available = {
        'ram': lambda: available_memory(workers),
        'disk': lambda: available_disk(path),
        'device': lambda: available_device_memory(device),
    }
    if not lasting and not path.is_file():
        kind, available['disk'] = 'auto' if kind == 'disk' else kind, lambda: 0
    asked, reason, in_words = kind != 'auto', 'as asked', _in_words(size)
    in_order = any(map(_is_compressed_page, dataset.pairs))
    if not asked:
        # Compressed volumes are decompressed once for a cache, and else for nearly each slice.
        kind, reason = choose_kind(size, path, 2 if in_order else epochs, available)
    elif kind in available and size > (limit := available[kind]()):
        raise UserError(
            f'--cache {kind}: the decoded images take {in_words}, but half of the free space is '
            f'{_in_words(limit)}. Use another --cache, such as auto, or a smaller --scale.'
        )
    if kind == 'device':
        return DeviceItems(dataset, device), f'images: decoded once, {in_words} on the {device}'
    if kind == 'ram':
        store = MemoryStore(size, shared=workers > 0)
        stored = StoredItems(dataset, store, in_order)
        return stored, f'images: decoded once, {in_words} in memory'
    if kind == 'disk':
        found = 'read from' if path.is_file() else 'decoded once, kept in'
        try:
            evict(path, size)
            items = StoredItems(dataset, FileStore(path, size), in_order)
            return items, f'images: {found} {path}, {in_words}{container_note(path)}'
        except OSError as error:
            reason = f'{path} cannot be written: {error.strerror}'
            if asked:
                raise UserError(
                    f'--cache disk: {reason}. Set XDG_CACHE_HOME to a writable folder.'
                ) from error
    return dataset, f'images: decoded in each epoch ({reason})'


def _is_compressed_page(pair: 'Pair') -> bool:
    """Return whether a picture of the pair is one of several in a compressed file."""
    sources = pair.image, *mask_sources(pair.mask)
    return any(isinstance(one, Page) and is_compressed(one.path) for one in sources)


def choose_kind(
    size: int, path: Path, epochs: int, available: dict[str, Callable[[], int]]
) -> tuple[str, str]:
    """Return the kind that 'auto' stands for, and the reason if it is 'none'.

    Memory comes before the disk, because it leaves nothing behind. The device is never chosen,
    because it is not known how much of it the network will need.
    """
    if path.is_file():
        return 'disk', ''
    if epochs == 1:
        return 'none', 'only one epoch'
    for kind in ('ram', 'disk'):
        if size <= available[kind]():
            return kind, ''
    return 'none', f'{_in_words(size)} do not fit into half of the free memory or disk'


def cache_path(dataset: 'SegmentationDataset', folder: Path) -> Path:
    """Return the cache file for these files (name, size, mtime), settings and library versions.

    The first hash is of folders, scale, channels and decode path: evict recognises earlier states
    by it.
    """
    first = dataset.pairs[0]
    folders = [str(first.image.parent.resolve()), str(mask_files(first.mask)[0].parent.resolve())]
    settings = [dataset.scale, dataset.channels, dataset.float_images, dataset.sizes]
    settings += [repr(dataset.masks)] + ['border'] * dataset.weight_map
    settings += [dataset.image_range] if dataset.image_range else []
    versions = [CACHE_VERSION, dataset.decode, PIL.__version__, torch.__version__]
    sources = (one for pair in dataset.pairs for one in (pair.image, *mask_sources(pair.mask)))
    files = [(one.name, s.st_size, s.st_mtime_ns) for one in sources if (s := file_of(one).stat())]
    kind = folders + settings[:2] + [PILLOW_DECODE] * (dataset.decode == PILLOW_DECODE)
    return folder / f'{_hash(kind)}-{_hash([settings, versions, files])}.items'


def available_disk(path: Path) -> int:
    """Return the bytes of disk that caches may use: half of what is free without any cache."""
    existing = next(parent for parent in path.parents if parent.is_dir())
    # Blocks, because the files have holes; Windows does not tell them.
    sizes = ((stat.st_size, getattr(stat, 'st_blocks', None)) for _, stat in _caches(path.parent))
    used = sum(size if blocks is None else 512 * blocks for size, blocks in sizes)
    return (shutil.disk_usage(existing).free + used) // 2


def evict(path: Path, size: int) -> None:
    """Remove caches of earlier states of this data set, and others, least recently used first."""
    limit = available_disk(path)
    for other, stat in sorted(_caches(path.parent), key=lambda c: c[1].st_mtime, reverse=True):
        if other == path:
            continue
        stale = other.name.split('-')[0] == path.name.split('-')[0]
        if stale or size + stat.st_size > limit:
            other.unlink(missing_ok=True)
        else:
            size += stat.st_size


def _caches(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob('*.items'):
        with contextlib.suppress(FileNotFoundError):  # another process may remove some
            found.append((path, path.stat()))
    return found


def _hash(content: list) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _in_words(count: int) -> str:
    """Return '1.5 GiB' for a number of bytes."""
    return f'{count / 2**30:.2g} GiB' if count >= 2**30 else f'{count / 2**20:.2g} MiB'
