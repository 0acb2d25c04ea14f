"""Decoded items, made once and then read: from memory, from a memory-mapped file, on the device.

A stored item is one record of bytes: the sum of its words, then image (H, W, C), mask (H, W) and,
where the data set has a weight map, the border weights (H, W).
The sum tells a whole record from one that was never written, torn by a power failure or changed,
whichever process wrote it; no lock and no list of what is there are needed. It costs 0.06 ms for
2.4 MB (a CRC 0.5).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from utils.data.dataset import SegmentationDataset
from utils.runtime.files import whole_file

WORD = 8  # bytes; records are whole words


class Store(Protocol):
    """Bytes that all processes of a run read and write; `bytes` is uint8 (size,)."""

    bytes: Tensor

    def write(self, start: int, record: Tensor) -> None:
        """Put the bytes of a record, uint8 (length,), from `start` on."""


class MemoryStore:
    """A store in memory; shared: seen by worker processes as well."""

    def __init__(self, size: int, shared: bool):
        self.bytes = torch.zeros(size, dtype=torch.uint8)
        if shared:
            self.bytes.share_memory_()

    def write(self, start: int, record: Tensor) -> None:
        """Copy the record's bytes."""
        self.bytes[start : start + len(record)] = record


class FileStore:
    """A store in a file, which is there at its full length, with holes, from the start."""

    def __init__(self, path: Path, size: int):
        self.path, self.size, self.writable = path, size, True
        if not path.is_file() or path.stat().st_size != size:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part, part.open('wb') as file:
                file.truncate(size)
        os.utime(path)  # the least recently used file is the first to go
        # Writable, since torch warns of other arrays; what is in memory is shared by all processes.
        self.bytes = torch.from_numpy(np.memmap(path, np.uint8, 'r+'))

    def __reduce__(self) -> tuple:
        return FileStore, (self.path, self.size)  # a pickled map would be a copy of it all

    def write(self, start: int, record: Tensor) -> None:
        """Write the record; through the file, since a full disk kills who writes through a map."""
        if not self.writable:
            return
        try:
            with self.path.open('r+b') as file:
                file.seek(start)
                file.write(record.numpy())
        except OSError as error:
            self.writable = False
            print(f'note: no more items are kept in {self.path}: {error.strerror}')


class StoredItems(Dataset):
    """A view of a dataset that makes an item when it is first asked for, and then reads it.

    Its tensors are parts of the store: not to be written to. Channels are last in memory.
    """

    def __init__(self, dataset: SegmentationDataset, store: Store):
        self.dataset, self.store = dataset, store
        self.ends = record_ends(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        start = self.ends[position - 1] if position else 0
        record = self.store.bytes[start : self.ends[position]]
        if not torch.equal(*_sums(record)):
            item = self.dataset[position]
            made = torch.zeros_like(record)
            if not self._fill(made, position, item):
                return item
            self.store.write(start, made)
            record = made
        image, *planes = self._parts(record, position)
        named = dict(zip(('mask', 'border'), planes, strict=False))
        return {'image': image.permute(2, 0, 1), **named}

    def _parts(self, record: Tensor, position: int) -> list[Tensor]:
        """The image (H, W, C), the mask (H, W) and any border weights (H, W) within a record."""
        width, height = self.dataset.sizes[position]
        middle = WORD + width * height * pixel_bytes(self.dataset)
        image = record[WORD:middle].view(torch.float32 if self.dataset.deep else torch.uint8)
        end = middle + width * height * planes(self.dataset)
        parts = record[middle:end].view(-1, height, width)
        return [image.view(height, width, self.dataset.channels), *parts]

    def _fill(self, record: Tensor, position: int, item: dict[str, Tensor]) -> bool:
        """Write an item into an empty record; False where its file has changed its size."""
        image, *parts = self._parts(record, position)
        pixels = item['image'].permute(1, 2, 0)
        if pixels.shape != image.shape:
            return False
        image.copy_(pixels)
        for part, name in zip(parts, ('mask', 'border'), strict=False):
            part.copy_(item[name])
        record.view(torch.int64)[0] = _sums(record)[1]
        return True


class DeviceItems(Dataset):
    """All items of a dataset on a device, decoded by as many threads as there are cores."""

    def __init__(self, dataset: SegmentationDataset, device: torch.device):
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            made = threads.map(dataset.__getitem__, range(len(dataset)))
            self.items = [
                {name: tensor.to(device) for name, tensor in item.items()}
                for item in tqdm(made, 'Decoding', len(dataset), leave=False, delay=2)
            ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return self.items[position]


def record_ends(dataset: SegmentationDataset) -> list[int]:
    """Where the record of each item ends, in bytes; the last is the size of the whole store."""
    each = pixel_bytes(dataset) + planes(dataset)
    pixels = [width * height * each for width, height in dataset.sizes]
    return list(accumulate(WORD + -(-length // WORD) * WORD for length in pixels))


def pixel_bytes(dataset: SegmentationDataset) -> int:
    """Bytes of one pixel of an image; those of over 8 bits a channel are float32."""
    return dataset.channels * (4 if dataset.deep else 1)


def planes(dataset: SegmentationDataset) -> int:
    """Bytes of one pixel beside the image: of the mask, and of the border weights if any."""
    return 1 + dataset.weight_map


def _sums(record: Tensor) -> tuple[Tensor, Tensor]:
    """The sum that a record names, and that of its words, plus one: zeros are no record."""
    words = record.view(torch.int64)
    return words[0], words[1:].sum() + 1
