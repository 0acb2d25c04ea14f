"""Which images train, which validate, and in which batches."""

import argparse
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .caching import cached
from .data_loading import (
    BasicDataset,
    ShuffledBatches,
    make_loader,
    pad_batch,
    same_size_batches,
    to_device,
    training_loader,
)
from .device import default_workers
from .distributed import local_main_first, rank, share, size
from .errors import UserError
from .mask_values import Value
from .splits import split_ids
from .transforms import Augmented

STATISTICS_IMAGES = 16  # to re-estimate BatchNorm from; 12 were enough where it was measured
SHEET_IMAGES = 4


class TrainingData:
    """The data of a run, from its command line; UserError for anything that could not work.

    channels, mask_values: those of the weights to start from, None for new ones. `training` and
    `validation` are positions in `dataset`, and in `items`, which are its own as --cache keeps
    them.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        batch_size: int,
        augment: str,
        device: torch.device,
        channels: int | None = None,
        mask_values: list[Value] | None = None,
    ):
        self.device = device
        asked = None if args.channels == 'auto' else int(args.channels)
        if asked and channels and asked != channels:
            raise UserError(
                f'--channels is {asked} but the weights to start from take {channels}. '
                'Leave --channels out.'
            )
        with local_main_first():
            self.dataset = BasicDataset(
                args.images,
                args.masks,
                args.scale,
                args.mask_suffix,
                classes=args.classes,
                channels=asked or channels,
                mask_values=mask_values,
            )
        ids = self.dataset.ids
        self.training, self.validation = split_ids(ids, args.validation, args.split, args.seed)
        if not self.training:
            raise UserError(
                f'--validation {args.validation:g} leaves none of {len(ids)} images to train on. '
                'Use a smaller percentage, 10 for instance, or 0 for no validation.'
            )
        workers = default_workers(device) if args.workers is None else args.workers
        loads_to = device
        if args.cache == 'device':  # batches are formed there: nothing to do for workers, or to pin
            workers, loads_to = 0, torch.device('cpu')
        self.items, self.cache = cached(self.dataset, args.cache, args.epochs, workers, device)
        self.batches = ShuffledBatches(
            self.training, batch_size, args.seed, args.accumulate, process=(rank(), size())
        )
        self.dataset.check_sizes(self.batches.smallest_batch())
        augmented = Augmented(self.items, args.seed, augment)
        self.loader = training_loader(augmented, self.batches, workers, loads_to)
        self.validation_loader = self._validation_loader(workers, loads_to)

    def fingerprint(self) -> str:
        """A hash of which images are trained on, to recognise the data of a resumed run."""
        names = [self.dataset.ids[position] for position in self.training]
        return hashlib.sha256('\n'.join(names).encode()).hexdigest()

    def describe(self) -> str:
        """The data in three lines for the terminal."""
        width, height = self.dataset.sizes[0]
        kinds = len(set(self.dataset.sizes))
        sizes = f'{width} x {height}' + (f' and {kinds - 1} other sizes' if kinds > 1 else '')
        shares = [f'{v} {100 * share:.3g} %' for v, share in self.dataset.scan.shares().items()]
        return (
            f'{len(self.training)} images to train on, {len(self.validation)} to validate on, '
            f'{sizes} at scale {self.dataset.scale:g}\n'
            f'mask values, with their share of the pixels: {", ".join(shares)}\n'
            f'{self.cache}'
        )

    def statistics_batches(self) -> Iterator[Tensor]:
        """A few batches of training images, as they are, on the device, for BatchNorm.

        Each process gets its share of them.
        """
        stride = max(1, len(self.training) // STATISTICS_IMAGES)
        positions = self.training[::stride][:STATISTICS_IMAGES]
        count = self.batches.batch_size
        batches = [positions[first : first + count] for first in range(0, len(positions), count)]
        if len(batches) > 1 and len(batches[-1]) < count:
            del batches[-1]  # one small image alone has no variance, and would weigh like the rest
        for batch in share(batches):
            items = pad_batch([self.items[position] for position in batch])
            yield to_device(items, self.device)[0]

    def samples(self) -> Iterator[dict[str, Tensor]]:
        """Items to look at, from the validation set where there is one."""
        for position in (self.validation or self.training)[:SHEET_IMAGES]:
            yield {name: tensor.cpu() for name, tensor in self.items[position].items()}

    def _validation_loader(self, workers: int, device: torch.device) -> DataLoader | None:
        """This process's share of the validation batches, None without a validation set."""
        sizes = self.dataset.sizes
        scored = same_size_batches(self.validation, sizes, self.batches.batch_size)
        return make_loader(self.items, share(scored), workers, device) if scored else None
