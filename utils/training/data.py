"""The data of a training run: training and validation set, and their dataloaders."""

import argparse
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from utils.data.augmentation import Augmented
from utils.data.cache.placement import cached
from utils.data.consistency import describe_duplicates
from utils.data.dataloader import (
    ShuffledBatchSampler,
    make_dataloader,
    pad_batch,
    same_size_batches,
    shut_down_workers,
    to_device,
    training_dataloader,
)
from utils.data.dataset import SegmentationDataset
from utils.data.input_checks import check_tile, check_variance
from utils.data.splits import describe_groups, split_pairs
from utils.data.tiles import in_tiles, with_context
from utils.masks.classes import MaskOptions
from utils.masks.encoding import MaskEncoding
from utils.runtime.devices import default_workers
from utils.runtime.distributed import local_main_process_first, rank, shard, world_size
from utils.runtime.errors import UserError
from utils.training.optimization.recipes import Recipe

STATISTICS_IMAGES = 16  # for BatchNorm's statistics; 12 were enough where it was measured

SHEET_IMAGES = 4


class TrainingData:
    """The data of a run: dataset, split, cache, augmentation and dataloaders.

    padding: the network's, 'same' or 'valid'.
    channels: of the weights to start from; None for a new network.
    masks: the mask encoding of the run to resume; None for a new run.

    `training` and `validation` are positions in `dataset`, and in `items`, its cached view.
    Raises UserError for everything that could not work.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        recipe: Recipe,
        padding: str,
        device: torch.device,
        channels: int | None = None,
        masks: MaskEncoding | None = None,
    ):
        self.device, self.padding = device, padding
        batch_size = args.batch_size or recipe.batch_size
        tile = args.tile or recipe.tile
        if tile and padding == 'valid':
            check_tile(tile)
        asked = None if args.channels == 'auto' else args.channels
        if asked and channels and asked != channels:
            raise UserError(
                f'--channels is {asked} but the weights to start from take {channels}. '
                'Leave --channels out.'
            )
        with local_main_process_first():
            self.dataset = SegmentationDataset(
                args.images,
                args.masks,
                args.scale,
                args.mask_suffix,
                channels=asked or channels,
                mask_values=masks,
                wanted=MaskOptions.from_args(args),
                resize_masks=args.resize_masks,
                skip_bad=args.skip_bad,
                weight_map=recipe.weight_map if args.weight_map is None else args.weight_map,
                validation_dirs=(args.val_images, args.val_masks) if args.val_images else None,
            )
        self.training, self.validation = split_pairs(self.dataset.pairs, args)
        if args.early_stop and not self.validation:
            raise UserError(
                '--early-stop counts validations without a better Dice, and there is no validation '
                'set. Leave --early-stop out, or ask for a set with --validation (-v).'
            )
        self.groups = describe_groups(self.dataset.pairs, self.training, args)
        workers = default_workers(device) if args.workers is None else args.workers
        loads_to = device
        if args.cache == 'device':  # batches are formed there: nothing to do for workers, or to pin
            workers, loads_to = 0, torch.device('cpu')
        self.items, self.cache_note = cached(self.dataset, args.cache, args.epochs, workers, device)
        self.sampler = ShuffledBatchSampler(
            self.training, batch_size, args.seed, args.accumulate, rank(), world_size()
        )
        self.dataset.check_sizes(self.sampler.smallest_batch())
        if tile and padding == 'same':
            check_variance(tile, self.sampler.smallest_batch())
        self.plain = in_tiles(Augmented(self.items, args.seed, 'none'), args.seed, tile, padding)
        augmented = Augmented(self.items, args.seed, args.augment or recipe.augment)
        cropped = in_tiles(augmented, args.seed, tile, padding)
        self.loader = training_dataloader(cropped, self.sampler, workers, loads_to)
        self.validation_loader = self._validation_loader(workers, loads_to)

    def steps(self, epoch: int, start: int) -> Iterator[list[dict[str, Tensor]]]:
        """Yield the micro-batches of each step of an epoch (from 0), beginning at step `start`."""
        self.sampler.epoch, self.sampler.start = epoch + 1, start
        yield from self.loader

    def fingerprint(self) -> str:
        """Return a hash of the training ids, by which a resumed run recognises its data."""
        names = [self.dataset.ids[position] for position in self.training]
        return hashlib.sha256('\n'.join(names).encode()).hexdigest()

    def describe(self) -> str:
        """Return the data in a few lines for the terminal."""
        width, height = self.dataset.sizes[0]
        kinds = len(set(self.dataset.sizes))
        sizes = f'{width} x {height}' + (f' and {kinds - 1} other sizes' if kinds > 1 else '')
        scan, masks = self.dataset.scan, self.dataset.masks
        images = [pair.image for pair in scan.pairs]
        titles = {
            v: f'{v} ({name})' for v, name in zip(masks.values, masks.names or [], strict=False)
        } | {v: f'{v} (ignored)' for v in masks.ignore}
        shares = [f'{titles.get(v, v)} {100 * s:.3g} %' for v, s in scan.shares().items()]
        lines = [
            f'{len(self.training)} images to train on, {len(self.validation)} to validate on, '
            f'{sizes} at scale {self.dataset.scale:g}',
            f'mask values, with their share of the pixels: {", ".join(shares)}',
            *self.groups,
            *scan.notes(masks, self.dataset.channels),
            *describe_duplicates(
                *([images[k] for k in side] for side in (self.training, self.validation))
            ),
            self.cache_note,
        ]
        return '\n'.join(lines)

    def statistics_batches(self) -> Iterator[Tensor]:
        """Yield a few batches of training images, from which to re-estimate BatchNorm's statistics.

        On the device, not augmented; each rank has its shard of them.
        """
        stride = max(1, len(self.training) // STATISTICS_IMAGES)
        positions = self.training[::stride][:STATISTICS_IMAGES]
        count = self.sampler.batch_size
        batches = [positions[first : first + count] for first in range(0, len(positions), count)]
        if len(batches) > 1 and len(batches[-1]) < count:
            del batches[-1]  # one small image alone has no variance, and would count as a batch
        for batch in shard(batches):
            items = pad_batch([self.plain[0, position] for position in batch])
            yield self._with_context(*to_device(items, self.device))

    def close(self) -> None:
        """Shut the worker processes down."""
        shut_down_workers(self.loader)
        shut_down_workers(self.validation_loader)

    def _with_context(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images with the context that a network without padding needs."""
        if self.padding == 'same' or images.shape[2:] != masks.shape[1:]:
            return images
        return with_context(images, 0, 0, (masks.shape[1], masks.shape[2]))

    def samples(self) -> Iterator[dict[str, Tensor]]:
        """Yield the items of the sample sheet, from the validation set where there is one."""
        for position in (self.validation or self.training)[:SHEET_IMAGES]:
            yield {name: tensor.cpu() for name, tensor in self.items[position].items()}

    def _validation_loader(self, workers: int, device: torch.device) -> DataLoader | None:
        """Return a dataloader of this rank's shard, None without a validation set."""
        sizes = self.dataset.sizes
        scored = same_size_batches(self.validation, sizes, self.sampler.batch_size)
        return make_dataloader(self.items, shard(scored), workers, device) if scored else None
