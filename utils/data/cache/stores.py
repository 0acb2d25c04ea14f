"""Stores of decoded items: in memory, in a file, on the device.

An item is one record of bytes: a checksum, the image (H, W, C), the mask (H, W) and, with a weight
map, the border weights (H, W). The checksum, a sum of the record's words weighted by their places,
tells whether a record is complete, so that no lock or index is needed.
"""

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils.runtime.console import progress
from utils.runtime.distributed import broadcast_tensor, rank, shard, share_of_cores, world_size
from utils.runtime.files import private_folder, whole_file

if TYPE_CHECKING:
    from utils.data.dataset import SegmentationDataset

WORD = 8  # bytes; a record's length is a multiple of it


class MemoryStore:
    """A store in memory: `bytes`, uint8 (size,). shared: with worker processes."""

    def __init__(self, size: int, shared: bool):
        self.bytes = torch.zeros(size, dtype=torch.uint8)
        if shared:
            self.bytes.share_memory_()

    def read(self, start: int, end: int) -> Tensor:
        """Return the record (end - start,) uint8, a view."""
        return self.bytes[start:end]

    def write(self, start: int, record: Tensor) -> None:
        """Write a record at `start`."""
        self.bytes[start : start + len(record)] = record


class FileStore:
    """A store in a file, which has its full size, with holes, from the start."""

    def __init__(self, path: Path, size: int):
        self.path, self.size, self.writable = path, size, True
        if not path.is_file() or path.stat().st_size != size:
            private_folder(path.parent)
            with whole_file(path, private=True) as part, part.open('wb') as file:
                file.truncate(size)
        os.utime(path)  # for eviction of the least recently used file

    # By reading and writing, not by a map: where the file was truncated or the disk is full, a map
    # ends the process by SIGBUS. Reading 2.4 MB takes 0.3 ms more.
    def read(self, start: int, end: int) -> Tensor:
        """Return the record (end - start,) uint8; zeros where the file has none."""
        record = torch.zeros(end - start, dtype=torch.uint8)
        with suppress(OSError), self.path.open('rb') as file:
            file.seek(start)
            file.readinto(record.numpy().data)
        return record

    def write(self, start: int, record: Tensor) -> None:
        """Write a record at `start`."""
        if not self.writable:
            return
        try:
            with self.path.open('r+b') as file:
                file.seek(start)
                file.write(record.numpy().data)
        except OSError as error:
            self.writable = False
            print(f'note: no more items are cached in {self.path}: {error.strerror}')


class StoredItems(Dataset):
    """A view of a dataset that decodes each item once and then reads it from a store.

    Its tensors are views of the store: do not write to them. Channels are last in memory.

    at_once: decode all items now, in their order: slices of a compressed volume, asked for in any
        order, would each decompress it again.
    """

    def __init__(
        self, dataset: 'SegmentationDataset', store: MemoryStore | FileStore, at_once: bool = False
    ):
        self.dataset, self.store = dataset, store
        self.ends = record_ends(dataset)
        if at_once:
            for _ in in_order(self):
                pass

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        start = self.ends[position - 1] if position else 0
        record = self.store.read(start, self.ends[position])
        if not torch.equal(*_checksums(record)):
            item = self.dataset[position]
            record = _filled(torch.zeros_like(record), self.dataset, position, item)
            record.view(torch.int64)[0] = _checksums(record)[1]
            self.store.write(start, record)
        return _views(record, self.dataset, position)


class DeviceItems(Dataset):
    """All items of a dataset on a device, decoded at once.

    Each rank decodes its `shard`, with its share of the cores, and sends it to the others: the
    order of an epoch gives any item to any rank.
    """

    def __init__(self, dataset: 'SegmentationDataset', device: torch.device):
        self.items: list[dict[str, Tensor]] = []
        starts = [0, *record_ends(dataset)]
        own = shard(list(range(len(dataset))))

        def decode(position: int) -> Tensor:
            """Return the item's record (bytes,) uint8, without a checksum."""
            record = torch.zeros(starts[position + 1] - starts[position], dtype=torch.uint8)
            return _filled(record, dataset, position, dataset[position])

        with ThreadPoolExecutor(share_of_cores()) as threads:
            decoded = threads.map(decode, own)
            for position in progress(range(len(dataset)), 'Decoding', len(dataset), delay=2):
                source = position % world_size()
                if source == rank():
                    record = next(decoded).to(device)
                else:
                    length = starts[position + 1] - starts[position]
                    record = torch.empty(length, dtype=torch.uint8, device=device)
                broadcast_tensor(record, source)
                self.items.append(_views(record, dataset, position))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return self.items[position]


def in_order(dataset: Dataset) -> Iterator[dict[str, Tensor]]:
    """Yield all items of a dataset, decoded by one thread per core."""
    count = len(dataset)  # type: ignore[arg-type]  # all of ours have a length
    with ThreadPoolExecutor(share_of_cores()) as threads:
        decoded = threads.map(dataset.__getitem__, range(count))
        yield from progress(decoded, 'Decoding', count, delay=2)


def _filled(
    record: Tensor, dataset: 'SegmentationDataset', position: int, item: dict[str, Tensor]
) -> Tensor:
    """Return the record of zeros with the item at `position` in it."""
    for name, view in _views(record, dataset, position).items():
        view.copy_(item[name])
    return record


def _views(record: Tensor, dataset: 'SegmentationDataset', position: int) -> dict[str, Tensor]:
    """Return the item of a record, as views of it."""
    width, height = dataset.sizes[position]
    image_bytes, planes = _bytes_per_pixel(dataset)
    middle = WORD + width * height * image_bytes
    dtype = torch.float32 if dataset.float_images else torch.uint8
    image = record[WORD:middle].view(dtype).view(height, width, -1).permute(2, 0, 1)
    others = record[middle : middle + width * height * planes].view(planes, height, width)
    return {'image': image} | dict(zip(('mask', 'border'), others, strict=False))


def record_ends(dataset: 'SegmentationDataset') -> list[int]:
    """Return the end of each item's record, in bytes; the last one is the size of the store."""
    each = sum(_bytes_per_pixel(dataset))
    pixels = [width * height * each for width, height in dataset.sizes]
    return list(accumulate(WORD + -(-length // WORD) * WORD for length in pixels))


def _bytes_per_pixel(dataset: 'SegmentationDataset') -> tuple[int, int]:
    """Return those of the image, and those of the mask and the border weights, if any."""
    return dataset.channels * (4 if dataset.float_images else 1), 1 + dataset.weight_map


def _checksums(record: Tensor) -> tuple[Tensor, Tensor]:
    """Return the stored checksum and the computed one, which is not 0 for zeros."""
    words = record.view(torch.int64)
    return words[0], (words[1:] * _weights(len(words) - 1)).sum() + 1


@functools.lru_cache(maxsize=8)  # images of one size share theirs
def _weights(count: int) -> Tensor:
    """Return odd weights (count,), so that each bit of a word counts, and words are in order."""
    return 2 * torch.arange(count) + 1
