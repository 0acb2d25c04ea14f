"""Which images train, which validate, and in which batches."""

import argparse
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .data_loading import (
    BasicDataset,
    ShuffledBatches,
    make_loader,
    pad_batch,
    same_size_batches,
    to_device,
)
from .device import default_workers
from .duplicates import describe_duplicates
from .errors import UserError
from .mask_classes import wanted_of
from .mask_values import MaskEncoding
from .splits import split_ids
from .transforms import Augmented

STATISTICS_IMAGES = 16  # to re-estimate BatchNorm from; 12 were enough where it was measured
SHEET_IMAGES = 4


class TrainingData:
    """The data of a run, from its command line; UserError for anything that could not work.

    channels: of the weights to start from, masks: the encoding of the run that goes on; None for
    new ones. `training` and `validation` are positions in `dataset`.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        batch_size: int,
        augment: str,
        device: torch.device,
        channels: int | None = None,
        masks: MaskEncoding | None = None,
    ):
        self.device = device
        asked = None if args.channels == 'auto' else args.channels
        if asked and channels and asked != channels:
            raise UserError(
                f'--channels is {asked} but the weights to start from take {channels}. '
                'Leave --channels out.'
            )
        self.dataset = BasicDataset(
            args.images,
            args.masks,
            args.scale,
            args.mask_suffix,
            channels=asked or channels,
            mask_values=masks,
            wanted=wanted_of(args),
            resize_masks=args.resize_masks,
            skip_bad=args.skip_bad,
        )
        ids = self.dataset.ids
        self.training, self.validation = split_ids(ids, args.validation, args.split, args.seed)
        if not self.training:
            raise UserError(
                f'--validation {args.validation:g} leaves none of {len(ids)} images to train on. '
                'Use a smaller percentage, 10 for instance, or 0 for no validation.'
            )
        self.dataset.check_sizes(smallest_batch=len(self.training) % batch_size or batch_size)
        workers = default_workers(device) if args.workers is None else args.workers
        self.batches = ShuffledBatches(self.training, batch_size, args.seed)
        augmented = Augmented(self.dataset, args.seed, augment)
        self.loader = make_loader(augmented, self.batches, workers, device)
        self.validation_loader = self._validation_loader(workers)

    def fingerprint(self) -> str:
        """A hash of which images are trained on, to recognise the data of a resumed run."""
        names = [self.dataset.ids[position] for position in self.training]
        return hashlib.sha256('\n'.join(names).encode()).hexdigest()

    def describe(self) -> str:
        """The data in a few lines for the terminal."""
        width, height = self.dataset.sizes[0]
        kinds = len(set(self.dataset.sizes))
        sizes = f'{width} x {height}' + (f' and {kinds - 1} other sizes' if kinds > 1 else '')
        scan, masks = self.dataset.scan, self.dataset.masks
        images = [pair.image for pair in scan.pairs]
        titles = {
            tuple(v) if isinstance(v, list) else v: f'{v} ({name})'
            for v, name in zip(masks.values, masks.names or [], strict=False)
        } | {tuple(v) if isinstance(v, list) else v: f'{v} (ignored)' for v in masks.ignore}
        shares = [f'{titles.get(v, v)} {100 * s:.3g} %' for v, s in scan.shares().items()]
        lines = [
            f'{len(self.training)} images to train on, {len(self.validation)} to validate on, '
            f'{sizes} at scale {self.dataset.scale:g}',
            f'mask values, with their share of the pixels: {", ".join(shares)}',
            *scan.notes(masks, self.dataset.channels),
            *describe_duplicates(
                *([images[k] for k in side] for side in (self.training, self.validation))
            ),
        ]
        return '\n'.join(lines)

    def statistics_batches(self) -> Iterator[Tensor]:
        """A few batches of training images, as they are, on the device, for BatchNorm."""
        stride = max(1, len(self.training) // STATISTICS_IMAGES)
        positions = self.training[::stride][:STATISTICS_IMAGES]
        size = self.batches.batch_size
        batches = [positions[first : first + size] for first in range(0, len(positions), size)]
        if len(batches) > 1 and len(batches[-1]) < size:
            del batches[-1]  # one small image alone has no variance, and would weigh like the rest
        for batch in batches:
            items = pad_batch([self.dataset[position] for position in batch])
            yield to_device(items, self.device)[0]

    def samples(self) -> Iterator[dict[str, Tensor]]:
        """Items to look at, from the validation set where there is one."""
        for position in (self.validation or self.training)[:SHEET_IMAGES]:
            yield self.dataset[position]

    def _validation_loader(self, workers: int) -> DataLoader | None:
        sizes = self.dataset.sizes
        scored = same_size_batches(self.validation, sizes, self.batches.batch_size)
        return make_loader(self.dataset, scored, workers, self.device) if scored else None
