"""The data of a training run: training and validation set, and their dataloaders."""

import argparse
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from utils.data import dataloader
from utils.data.augmentation import Augmented
from utils.data.cache.placement import cached
from utils.data.class_values import describe_foreground
from utils.data.consistency import describe_duplicates
from utils.data.context import with_context
from utils.data.dataset import SegmentationDataset
from utils.data.network_limits import check_tile, check_variance
from utils.data.splits import describe_groups, describe_percent, split_pairs
from utils.data.suggestions import check_classes_at_scale
from utils.data.training_tiles import in_tiles
from utils.images.arrays import ImageRange
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE
from utils.images.pixel_range import check_range_option, describe_range, range_of_data
from utils.inference.checkpoint import Checkpoint
from utils.masks.background import describe_background
from utils.masks.classes import MaskOptions
from utils.masks.encoding import MaskEncoding
from utils.runtime.devices import default_workers
from utils.runtime.distributed import (
    broadcast_object,
    is_main_process,
    local_main_process_first,
    rank,
    shard,
    world_size,
)
from utils.runtime.errors import UserError
from utils.training.optimization.recipes import RECIPES

STATISTICS_IMAGES = 16  # for BatchNorm's statistics; 12 were enough where it was measured
SHEET_IMAGES = 4


def decode_path(args: argparse.Namespace, source: Checkpoint | None) -> str:
    """Return how images are decoded: as the recipe says, or as in the run to resume."""
    if source and source.training:
        return PILLOW_DECODE if source.decode == PILLOW_DECODE else DECODE_PATH
    return RECIPES[args.recipe].decode


def check_needs_no_validation(args: argparse.Namespace) -> None:
    """Raise UserError for options that end a run by its validation Dice; there is none."""
    option, remedy = '--early-stop', 'Leave --early-stop out'
    if args.epochs == 'auto':
        option, remedy = '--epochs auto', 'Give a number of epochs (-e 5)'
    elif not args.early_stop:
        return
    if args.resume is None:  # a resumed run keeps its data
        remedy += ', or ask for a set with --validation (-v)'
    raise UserError(
        f'{option} ends a run when validation Dice no longer rises, and there is no validation '
        f'set. {remedy}.'
    )


class TrainingData:
    """The data of a run: dataset, split, cache, augmentation and dataloaders.

    padding: the network's, 'same' or 'valid'.
    source: the checkpoint to start from.
    masks: the encoding of the mask files; by default that of the run to resume, or found in them.

    `training` and `validation` are positions in `dataset`, and in `items`, its cached view.
    Raises UserError for everything that could not work.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        padding: str,
        device: torch.device,
        source: Checkpoint | None,
        masks: MaskEncoding | None = None,
    ):
        recipe = RECIPES[args.recipe]
        self.mask_options = MaskOptions.from_args(args)
        self.device, self.padding = device, padding
        batch_size = args.batch_size or recipe.batch_size
        tile = args.tile or recipe.tile
        if tile and padding == 'valid':
            check_tile(tile)
        channels = source.model['n_channels'] if source else None
        asked = None if args.channels == 'auto' else args.channels
        if asked and channels and asked != channels:
            raise UserError(
                f'--channels is {asked} but the weights to start from take {channels}. '
                'Leave --channels out.'
            )
        with local_main_process_first():
            self.dataset = SegmentationDataset(
                args.images, args.masks, args.scale, args.mask_suffix, channels=asked or channels,
                mask_values=masks or (source.masks if source and source.training else None),
                wanted=self.mask_options, resize_masks=args.resize_masks, skip_bad=args.skip_bad,
                weight_map=recipe.weight_map if args.weight_map is None else args.weight_map,
                validation_dirs=(args.val_images, args.val_masks) if args.val_images else None,
                lists=(args.list, args.val_list), decode=decode_path(args, source),
            )  # fmt: skip
        self.training, self.validation = split_pairs(self.dataset.pairs, args)
        if not self.validation:
            check_needs_no_validation(args)
        self.range_note = self._set_range(args, source)
        self.scale_notes = check_classes_at_scale(
            self.dataset.scan, self.dataset.masks, args.scale, self.training
        )
        self.split_notes = self._describe_split(args)
        workers = default_workers(device) if args.workers is None else args.workers
        loads_to = device
        if args.cache == 'device':  # batches are formed there: nothing to do for workers, or to pin
            workers, loads_to = 0, torch.device('cpu')
        epochs = 2 if args.epochs == 'auto' else args.epochs
        self.items, self.cache_note = cached(
            self.dataset, args.cache, epochs, workers, device, lasting=not args.dry_run
        )
        self.sampler = dataloader.ShuffledBatchSampler(
            self.training, batch_size, args.seed, args.accumulate, rank(), world_size()
        )
        self.dataset.check_sizes(self.sampler.smallest_batch())
        if tile and padding == 'same':
            check_variance(tile, self.sampler.smallest_batch())
        self.plain = in_tiles(Augmented(self.items, args.seed, 'none'), args.seed, tile, padding)
        augmented = Augmented(self.items, args.seed, args.augment or recipe.augment)
        cropped = in_tiles(augmented, args.seed, tile, padding)
        self.loader = dataloader.training_dataloader(cropped, self.sampler, workers, loads_to)
        scored = dataloader.same_size_batches(self.validation, self.dataset.sizes, batch_size)
        scorer = dataloader.make_dataloader(self.items, shard(scored), workers, loads_to)
        self.validation_loader = scorer if self.validation else None

    def _set_range(self, args: argparse.Namespace, source: Checkpoint | None) -> str:
        """Set the range of deep images, the same on all ranks; return a line that tells it.

        It is that of the run to resume, of --image-range, of --load, or else it is measured.
        """
        self.dataset.image_range, note = self._choose_range(args, source)
        self.dataset.check_values()
        return note

    def _choose_range(
        self, args: argparse.Namespace, source: Checkpoint | None
    ) -> tuple[ImageRange | None, str]:
        check_range_option(args.image_range, self.dataset.decode)
        known = source.image_range if source else None
        if self.dataset.decode == PILLOW_DECODE:
            return None, ''
        if source and (source.training or (known and not args.image_range)):
            if not known or not self.dataset.float_images:
                return known, ''
            return known, describe_range(known, f'of {args.load or "the run"}')
        images = [(pair.image, image) for pair, image, _ in self.dataset.scan.metadata]
        channels, asked = self.dataset.channels, args.image_range
        return broadcast_object(
            range_of_data(images, self.training, channels, asked) if is_main_process() else None
        )

    def _describe_split(self, args: argparse.Namespace) -> list[str]:
        scan, masks = self.dataset.scan, self.dataset.masks
        return [
            *describe_groups(scan.pairs, self.training, args),
            *describe_percent(args, len(self.validation), len(scan.pairs)),
            *describe_foreground(scan, masks, self.training, self.validation),
        ]

    def steps(self, epoch: int, start: int) -> Iterator[list[dict[str, Tensor]]]:
        """Yield the micro-batches of each step of an epoch (from 0), beginning at step `start`."""
        self.sampler.epoch, self.sampler.start = epoch + 1, start
        yield from self.loader

    def fingerprint(self) -> str:
        """Return a hash of the training ids, by which a resumed run recognises its data."""
        names = '\n'.join(self.dataset.ids[position] for position in self.training)
        return hashlib.sha256(names.encode(errors='surrogatepass')).hexdigest()

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
            describe_background(masks, self.mask_options),
            *self.split_notes,
            *self.dataset.notes(),
            *([self.range_note] if self.range_note else []),
            *self.scale_notes,
            *describe_duplicates(
                *([images[k] for k in side] for side in (self.training, self.validation))
            ),
            self.cache_note,
        ]
        return '\n'.join(lines)

    def statistics_batches(self) -> Iterator[Tensor]:
        """Yield a few of this rank's training batches, unaugmented, for BatchNorm's statistics."""
        stride = max(1, len(self.training) // STATISTICS_IMAGES)
        positions = self.training[::stride][:STATISTICS_IMAGES]
        count = self.sampler.batch_size
        batches = [positions[first : first + count] for first in range(0, len(positions), count)]
        if len(batches) > 1 and len(batches[-1]) < count:
            del batches[-1]  # one small image alone has no variance, and would count as a batch
        for batch in shard(batches):
            items = dataloader.pad_batch([self.plain[0, position] for position in batch])
            images, masks = dataloader.to_device(items, self.device)
            if self.padding == 'valid' and images.shape[2:] == masks.shape[1:]:
                images = with_context(images, 0, 0, (masks.shape[1], masks.shape[2]))
            yield images

    def close(self) -> None:
        """Shut the worker processes down."""
        dataloader.shut_down_workers(self.loader)
        dataloader.shut_down_workers(self.validation_loader)

    def samples(self) -> Iterator[dict[str, Tensor]]:
        """Yield the items of the sample sheet, from the validation set where there is one."""
        for position in (self.validation or self.training)[:SHEET_IMAGES]:
            yield {name: tensor.cpu() for name, tensor in self.items[position].items()}
