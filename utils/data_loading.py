"""Images and masks from files to batches.

    pair_files -> scan_pairs -> BasicDataset item -> pad_batch -> to_unit_range on the device

Axis letters: B batch, C channels, H and W pixels. Items stay uint8, a quarter of float32's bytes,
until they are on the device.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from unet import MIN_SIZE

from .decoding import open_picture, open_reduced, scaled_size, to_channels
from .dice_score import IGNORE
from .errors import UserError, first_few
from .mask_values import Value, mask_array, to_indices
from .pairing import pair_files
from .scan import check_classes, match_values, scan_pairs
from .signals import ignore_in_worker


class BasicDataset(Dataset):
    """Images and masks of two folders, as items at training scale.

    images_dir, mask_dir: folders; an image ID.* belongs to the mask ID<mask_suffix>.*.
    scale: factor of width and height, in (0, 1].
    mask_suffix: None finds it from the names.
    classes: how many are expected; None takes as many as the masks hold values.
    channels: 1 (grey) or 3 (RGB); None takes 1 where every image is grey.
    mask_values: those a network was trained on, to which the masks here are held.

    Item i is {'image': uint8 (C, H, W), 'mask': uint8 (H, W) class indices}; `ids` names it.
    Raises UserError with all that is wrong with the files.
    """

    def __init__(
        self,
        images_dir: str | Path,
        mask_dir: str | Path,
        scale: float = 1.0,
        mask_suffix: str | None = '',
        *,
        classes: int | None = None,
        channels: int | None = None,
        mask_values: list[Value] | None = None,
    ):
        if not 0 < scale <= 1:
            raise UserError(f'scale {scale}: expected over 0, at most 1')
        self.pairs = pair_files(Path(images_dir), Path(mask_dir), mask_suffix)
        self.ids = [pair.id for pair in self.pairs]
        self.scale = scale
        self.scan = scan_pairs(self.pairs)
        self.mask_values = (
            match_values(self.scan, mask_values)
            if mask_values
            else check_classes(self.scan, classes)
        )
        grey = all(fact.image_mode in ('1', 'L', 'LA') for fact in self.scan.facts)
        self.channels = channels or (1 if grey else 3)
        self.sizes = [scaled_size(fact.image_size, scale) for fact in self.scan.facts]

    def check_sizes(self, smallest_batch: int | None = None) -> None:
        """Raise UserError, naming files, for images too small for the network at this scale.

        smallest_batch: of training, where BatchNorm needs two values a channel at the deepest
            level; None for prediction.
        """
        small = [i for i, size in enumerate(self.sizes) if min(size) < MIN_SIZE]
        if smallest_batch == 1 and not small:
            small = [i for i, (w, h) in enumerate(self.sizes) if max(w, h) < 2 * MIN_SIZE]
        if small:
            names = first_few(
                f'{self.pairs[i].image.name} ({self.sizes[i][0]} x {self.sizes[i][1]})'
                for i in small
            )
            raise UserError(
                f'{len(small)} images are too small at scale {self.scale:g}: {names}. The network '
                f'needs {MIN_SIZE} x {MIN_SIZE} pixels, and {2 * MIN_SIZE} one way to train on '
                'one image at a time. Use a larger --scale (-s), up to 1, or larger images.'
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pair = self.pairs[index]
        image = load_image(pair.image, self.channels, self.scale)
        mask = load_mask(pair.mask, self.mask_values, self.scale)
        return {'image': image, 'mask': mask}


class CarvanaDataset(BasicDataset):
    """Kaggle's Carvana set: masks named as their images plus '_mask', 16 views a car, ID_VV."""

    def __init__(
        self, images_dir: str | Path, mask_dir: str | Path, scale: float = 1.0, **options: object
    ):
        super().__init__(images_dir, mask_dir, scale, mask_suffix='_mask', **options)


def load_image(path: Path, channels: int, scale: float) -> Tensor:
    """A picture file as uint8 (C, H, W) at `scale`; UserError names a file that cannot be read."""
    return read_image(path, channels, scale)[0]


def read_image(path: Path, channels: int, scale: float) -> tuple[Tensor, tuple[int, int]]:
    """load_image, and the file's own (width, height)."""
    picture, size, times = open_reduced(path, scale)
    # A view, not a copy: all that follows is fastest on pixels with their channels together.
    image = torch.from_numpy(to_channels(picture, channels, path)).permute(2, 0, 1)
    extent = (size[0] / times, size[1] / times)
    return resize_image(image, scaled_size(size, scale), extent), size


def resize_image(
    image: Tensor, size: tuple[int, int], extent: tuple[float, float] | None = None
) -> Tensor:
    """uint8 (C, H, W) resized to `size` (width, height), bicubic with antialias.

    extent: the (width, height) of what is to fill `size`, in the image's pixels. A reduced JPEG
        of odd size ends within its last pixel; to stretch that too doubled the error, to 1.1 grey
        levels on average at half size.

    Within one grey level of Pillow's bicubic, in a third of its time.
    """
    height, width = image.shape[1:]
    if size == (width, height):
        return image
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)  # torch sees that channels are last
    if extent in (None, (width, height)):
        target = {'size': (size[1], size[0])}
    else:
        # torch rounds down to the size; the hundredth keeps a product of floats from falling below.
        factors = [(side + 0.01) / length for side, length in zip(size, extent, strict=True)]
        target = {'scale_factor': (factors[1], factors[0])}
    resized = F.interpolate(batch, **target, mode='bicubic', antialias=True)
    return resized.contiguous(memory_format=torch.channels_last)[0]


def load_mask(path: Path, mask_values: list[Value], scale: float) -> Tensor:
    """A mask file as class indices uint8 (H, W) at `scale`, by nearest neighbour."""
    mask = open_picture(path)
    size = scaled_size(mask.size, scale)
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.NEAREST)
    return torch.from_numpy(to_indices(mask_array(mask, path), mask_values, path))


def to_unit_range(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images to floats in [0, 1]: by type, never by looking at one image's values."""
    return images.to(dtype).div_(255)


def to_device(batch: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) float in [0, 1], channels last, and masks (B, H, W) of a batch there."""
    images = batch['image'].to(device, non_blocking=True, memory_format=torch.channels_last)
    return to_unit_range(images), batch['mask'].to(device, non_blocking=True)


def pad_batch(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Items to {'image': uint8 (B, C, H, W), 'mask': uint8 (B, H, W)} of the largest H and W.

    Smaller images get black below and to the right, and a mask that says IGNORE there. Channels
    are last in memory, as decoded and as the network wants them: each image is copied once.
    """
    height = max(item['image'].shape[1] for item in items)
    width = max(item['image'].shape[2] for item in items)
    first = items[0]
    images = first['image'].new_zeros(len(items), height, width, len(first['image']))
    masks = first['mask'].new_full((len(items), height, width), IGNORE)
    for k, item in enumerate(items):
        h, w = item['mask'].shape
        images[k, :h, :w] = item['image'].permute(1, 2, 0)
        masks[k, :h, :w] = item['mask']
    return {'image': images.permute(0, 3, 1, 2), 'mask': masks}


class ShuffledBatches:
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


def pad_batches(items: list[dict[str, Tensor]], batch_size: int) -> list[dict[str, Tensor]]:
    """The batches of one step, pad_batch of `batch_size` items each; no items, no batches."""
    starts = range(0, len(items), batch_size)
    return [pad_batch(items[start : start + batch_size]) for start in starts]


def training_loader(
    dataset: Dataset, steps: ShuffledBatches, workers: int, device: torch.device
) -> DataLoader:
    """A DataLoader that gives a list of batches a step."""
    collate = partial(pad_batches, batch_size=steps.batch_size)
    return make_loader(dataset, steps, workers, device, collate)


def make_loader(
    dataset: Dataset,
    batches: ShuffledBatches | list[list[int]],
    workers: int,
    device: torch.device,
    collate: Callable = pad_batch,
) -> DataLoader:
    """A DataLoader of pad_batch batches; with workers they live from epoch to epoch."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=ignore_in_worker,
        pin_memory=device.type == 'cuda',
        persistent_workers=workers > 0,
    )
