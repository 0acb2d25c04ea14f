"""Dataloaders: items to batches, in an order that depends on the seed and the epoch.

Axis letters: B batch, C channels, H and W pixels.
"""

from collections import defaultdict
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
    """Collate items to {'image': (B, C, H, W), 'mask': uint8 (B, H, W)} of the largest H and W.

    And 'border' like 'mask', if items have it. Smaller items are padded below and to the right:
    images with 0, masks with IGNORE. Images are channels last in memory, as in the items, so that
    they are copied only once. They are larger than masks if the network has no padding.
    """
    images = _stack_padded([item['image'].permute(1, 2, 0) for item in items], 0)
    batch = {'image': images.permute(0, 3, 1, 2)}
    for name, padding in (('mask', IGNORE), ('border', 0)):
        if name in items[0]:
            batch[name] = _stack_padded([item[name] for item in items], padding)
    return batch


def _stack_padded(planes: list[Tensor], value: int) -> Tensor:
    """Return tensors (H, W, …) as one (B, H, W, …) of the largest H and W, padded with `value`."""
    height, width = (max(plane.shape[axis] for plane in planes) for axis in (0, 1))
    if all(plane.shape[:2] == (height, width) for plane in planes):
        return torch.stack(planes)  # half the time of padding
    batch = planes[0].new_full((len(planes), height, width, *planes[0].shape[2:]), value)
    for k, plane in enumerate(planes):
        batch[k, : plane.shape[0], : plane.shape[1]] = plane
    return batch


class ShuffledBatchSampler:
    """A batch sampler of shuffled steps: yields this rank's (epoch, position) pairs of each step.

    positions: of the dataset's items, each drawn once an epoch, in an order of (seed, epoch).
    batch_size: images of one rank in one micro-batch. accumulate: micro-batches in one step.

    A step takes the next accumulate x world_size x batch_size positions; the last step of an epoch
    takes the rest. The ranks take batch_size images of each micro-batch in turn, as one process
    does that accumulates as many. Where the rest ends before a rank's turn, the rank repeats rank
    0's images as a filler, which must not count (`ends_with_filler`): so all ranks have equally
    many micro-batches.

    Set `epoch` before iterating, and `start` to the number of steps already done.
    """

    def __init__(
        self,
        positions: list[int],
        batch_size: int,
        seed: int,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.positions, self.batch_size, self.seed = positions, batch_size, seed
        self.accumulate, self.rank, self.world_size = accumulate, rank, world_size
        self.images_per_micro_batch = batch_size * world_size  # of all ranks
        self.images_per_step = self.images_per_micro_batch * accumulate
        self.epoch, self.start = 1, 0

    def __len__(self) -> int:
        return -(-len(self.positions) // self.images_per_step)

    def describe(self) -> str:
        """Return the batch size in words: '2 x 4 processes x 3 accumulated'."""
        ranks = f' x {self.world_size} processes' if self.world_size > 1 else ''
        steps = f' x {self.accumulate} accumulated' if self.accumulate > 1 else ''
        return f'{self.batch_size}{ranks}{steps}'

    def images_in_step(self, step: int) -> int:
        """Return the number of images of all ranks in a step, counted from 0."""
        return min(self.images_per_step, len(self.positions) - step * self.images_per_step)

    def smallest_batch(self) -> int:
        """Return the fewest images in a micro-batch of any rank."""
        return len(self.positions) % self.batch_size or self.batch_size

    def ends_with_filler(self, step: int) -> bool:
        """Return whether this rank's last micro-batch of a step, counted from 0, is a filler."""
        rest = self.images_in_step(step) % self.images_per_micro_batch
        return 0 < rest <= self.rank * self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.positions)
        size = self.images_per_micro_batch
        for first in range(self.start * self.images_per_step, len(order), self.images_per_step):
            step = order[first : first + self.images_per_step]
            micro_batches = [step[start : start + size] for start in range(0, len(step), size)]
            own = [position for batch in micro_batches for position in self._own(batch)]
            yield [(self.epoch, int(position)) for position in own]

    def _own(self, micro_batch: np.ndarray) -> np.ndarray:
        first = self.rank * self.batch_size
        first = first if first < len(micro_batch) else 0  # a filler
        return micro_batch[first : first + self.batch_size]


def same_size_batches(
    positions: list[int], sizes: list[tuple[int, int]], batch_size: int
) -> list[list[int]]:
    """Return batches of images of one size each, so that padding changes no scores."""
    by_size = defaultdict(list)
    for position in positions:
        by_size[sizes[position]].append(position)
    return [
        group[first : first + batch_size]
        for group in by_size.values()
        for first in range(0, len(group), batch_size)
    ]


def pad_micro_batches(items: list[dict[str, Tensor]], batch_size: int) -> list[dict[str, Tensor]]:
    """Collate the items of one step to micro-batches of `batch_size` items each."""
    starts = range(0, len(items), batch_size)
    return [pad_batch(items[start : start + batch_size]) for start in starts]


def training_dataloader(
    dataset: Dataset, sampler: ShuffledBatchSampler, workers: int, device: torch.device
) -> DataLoader:
    """Return a DataLoader that yields the list of micro-batches of each step."""
    collate = partial(pad_micro_batches, batch_size=sampler.batch_size)
    return make_dataloader(dataset, sampler, workers, device, collate)


def make_dataloader(
    dataset: Dataset,
    batches: ShuffledBatchSampler | list[list[int]],
    workers: int,
    device: torch.device,
    collate: Callable = pad_batch,
) -> DataLoader:
    """Return a DataLoader of collated batches. Its workers live until shut_down_workers."""
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
    """Shut the workers of a dataloader down, if any. Call it on every way out.

    Otherwise the garbage collector waits 5 seconds for each worker, or interpreter exit hangs,
    because the workers ignore its SIGTERM.
    """
    # `is not None`, because a loader of no batches is false.
    if loader is not None and loader.num_workers and loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]  # of the subclass


def to_device(batch: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return images (B, C, H, W) float32 in [0, 1], channels last, and masks (B, H, W) uint8."""
    images = batch['image'].to(device, non_blocking=True, memory_format=torch.channels_last)
    return to_unit_range(images), batch['mask'].to(device, non_blocking=True)
