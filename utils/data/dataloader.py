"""Items to batches, in an order that seed and epoch decide.

Axis letters: B batch, C channels, H and W pixels.

Images and masks from files to batches.

    pair_files -> scan_pairs -> BasicDataset item -> pad_batch -> to_unit_range on the device

Axis letters: B batch, C channels, H and W pixels. Items stay uint8, a quarter of float32's bytes,
until they are on the device; those of images over 8 bits are float32 in [0, 1].
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils.images.resizing import to_unit_range
from utils.masks.encoding import IGNORE
from utils.runtime.signals import prepare_worker


def pad_batch(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Items to {'image': (B, C, H, W), 'mask': uint8 (B, H, W)} of the largest H and W.

    And 'border' like 'mask', where items have one. An image may be larger than its mask by the
    context that a network without padding must see.
    Smaller images get black below and to the right, and a mask that says IGNORE there. Channels
    are last in memory, as decoded and as the network wants them: each image is copied once.
    """
    images = _padded([item['image'].permute(1, 2, 0) for item in items], 0)
    fillers = {'mask': IGNORE, 'border': 0}
    planes = {
        name: _padded([item[name] for item in items], filler)
        for name, filler in fillers.items()
        if name in items[0]
    }
    return {'image': images.permute(0, 3, 1, 2), **planes}


def _padded(planes: list[Tensor], filler: int) -> Tensor:
    """Tensors (H, W, …) as one (B, H, W, …) of the largest H and W, filled below and right."""
    height, width = (max(plane.shape[axis] for plane in planes) for axis in (0, 1))
    if all(plane.shape[:2] == (height, width) for plane in planes):
        return torch.stack(planes)  # half the time of filling first
    batch = planes[0].new_full((len(planes), height, width, *planes[0].shape[2:]), filler)
    for k, plane in enumerate(planes):
        batch[k, : plane.shape[0], : plane.shape[1]] = plane
    return batch


class ShuffledBatchSampler:
    """Steps of (epoch, position) for one epoch after another, in an order of (seed, epoch).

    positions: what to draw from, each once an epoch. A step takes the next batch_size x processes
    x accumulate of them, the last step of an epoch what is left. Each of its `accumulate` batches
    is dealt out evenly: `process` (rank, processes) gets its part, in the last batch perhaps one
    image less than another process or none, but it takes part in every step. Set `epoch` before
    iterating, and `start` to the number of steps that are done already; the length counts these
    too.
    """

    def __init__(
        self,
        positions: list[int],
        batch_size: int,
        seed: int,
        accumulate: int = 1,
        process: tuple[int, int] = (0, 1),
    ):
        self.positions, self.batch_size, self.seed = positions, batch_size, seed
        self.rank, self.processes = process
        self.whole_batch = batch_size * self.processes
        self.whole_step = self.whole_batch * accumulate
        self.epoch, self.start = 1, 0

    def __len__(self) -> int:
        return -(-len(self.positions) // self.whole_step)

    def describe(self) -> str:
        """The batch size in words: '2 x 4 processes x 3 accumulated'."""
        accumulate = self.whole_step // self.whole_batch
        factors = [f' x {self.processes} processes'] * (self.processes > 1)
        factors += [f' x {accumulate} accumulated'] * (accumulate > 1)
        return f'{self.batch_size}{"".join(factors)}'

    def images_in_step(self, step: int) -> int:
        """How many images all processes see in a step, counted from 0."""
        return min(self.whole_step, len(self.positions) - step * self.whole_step)

    def smallest_batch(self) -> int:
        """The fewest images in any process's batch, those without an image left out."""
        last_batch = len(self.positions) % self.whole_batch or self.whole_batch
        return max(1, last_batch // self.processes)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.positions)
        for first in range(self.start * self.whole_step, len(order), self.whole_step):
            step, size = order[first : first + self.whole_step], self.whole_batch
            batches = [step[start : start + size] for start in range(0, len(step), size)]
            mine = [np.array_split(batch, self.processes)[self.rank] for batch in batches]
            yield [(self.epoch, int(i)) for batch in mine for i in batch]


def same_size_batches(
    positions: list[int], sizes: list[tuple[int, int]], batch_size: int
) -> list[list[int]]:
    """Batches in which all images have one size, so that no score depends on the batch size.

    Padding would change what the network sees at an image's border. `sizes` is by position.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for position in positions:
        by_size.setdefault(sizes[position], []).append(position)
    return [
        group[first : first + batch_size]
        for group in by_size.values()
        for first in range(0, len(group), batch_size)
    ]


def pad_micro_batches(items: list[dict[str, Tensor]], batch_size: int) -> list[dict[str, Tensor]]:
    """The batches of one step, pad_batch of `batch_size` items each; no items, no batches."""
    starts = range(0, len(items), batch_size)
    return [pad_batch(items[start : start + batch_size]) for start in starts]


def training_dataloader(
    dataset: Dataset, steps: ShuffledBatchSampler, workers: int, device: torch.device
) -> DataLoader:
    """A DataLoader that gives a list of batches a step."""
    collate = partial(pad_micro_batches, batch_size=steps.batch_size)
    return make_dataloader(dataset, steps, workers, device, collate)


def make_dataloader(
    dataset: Dataset,
    batches: ShuffledBatchSampler | list[list[int]],
    workers: int,
    device: torch.device,
    collate: Callable = pad_batch,
) -> DataLoader:
    """A DataLoader of pad_batch batches; with workers they live until `end_workers`."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=prepare_worker,
        pin_memory=device.type == 'cuda',
        persistent_workers=workers > 0,
    )


def shut_down_workers(loader: DataLoader | None) -> None:
    """End a loader's worker processes, if it has any.

    To be called whatever happens. The garbage collector waits 5 seconds for each, where it closes
    the queue to them first, and leaves them; a program that ends with them sends SIGTERM, which
    they ignore, and waits for them for ever.
    """
    # A loader of no batches is false.
    if loader is not None and loader.num_workers and loader._iterator is not None:
        loader._iterator._shutdown_workers()


def to_device(batch: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) float in [0, 1], channels last, and masks (B, H, W) of a batch there."""
    images = batch['image'].to(device, non_blocking=True, memory_format=torch.channels_last)
    return to_unit_range(images), batch['mask'].to(device, non_blocking=True)
