"""Scoring loops: predict labelled images and count pixels, at full resolution or at scale.

Axis letters: B batch, N images, C channels, H and W pixels, h and w pixels at scale, K classes (2
for a binary network), T thresholds.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from unet import UNet
from utils.data.dataloader import make_dataloader, pad_batch, same_size_batches, shut_down_workers
from utils.images.decoding import DECODE_PATH
from utils.images.resizing import to_unit_range
from utils.inference.logits import LogitsFunction, class_indices, class_probabilities
from utils.inference.predictor import Predictor
from utils.masks.encoding import IGNORE, resize_mask
from utils.runtime.console import progress
from utils.runtime.devices import default_workers
from utils.runtime.distributed import all_reduce_sum, gather_shards, shard
from utils.runtime.precision import MixedPrecision

from .boundary import count_boundary
from .instances import InstanceCounts, count_instances, sweep_rand
from .metrics import (
    THRESHOLDS,
    class_counts,
    confusion_matrix,
    count_pixels,
    count_thresholds,
    summarize,
)
from .surfaces import surface_distances
from .true_objects import TrueObjects

if TYPE_CHECKING:  # keeps the chain of imports short
    from utils.data.dataset import SegmentationDataset

RESOLUTION = {True: 'that scale', False: "the masks' own size"}  # to score at, by at_scale


class Conditions(NamedTuple):
    """The conditions under which scores hold."""

    model: str  # its file
    scale: float
    at_scale: bool  # score at `scale`, not at the masks' own size
    batch_size: int
    threshold: float  # a pixel of higher probability is foreground
    tolerance: int  # of the boundary F-score, in pixels
    sweep: bool  # score at metrics.THRESHOLDS too
    instances: tuple[int, ...] | None = None  # classes of objects to score, with --instances
    spacing: tuple[float, float] | None = None  # of rows and columns, with --surface-distances
    unit: str = 'pixels'  # of the spacing


class Counts(NamedTuple):
    """Counts of N images in the order of `ids`, int64 on the CPU unless said."""

    ids: list[str]
    confusion: Tensor  # (K, K) of all images, see metrics.confusion_matrix
    pixels: Tensor  # (N, K, 3) of metrics.count_pixels at the resolution that is scored at
    scaled: Tensor  # the same at scale
    boundary: Tensor  # (N, K, 4) of boundary.count_boundary
    ceiling: Tensor | None = None  # (N, K, 3) of the true masks scaled down and up, unless at scale
    sweep: Tensor | None = None  # (N, T, 3) of metrics.count_thresholds, with --threshold-sweep
    rand: Tensor | None = None  # (N, T, 2) of instances.sweep_rand, with both these options
    instances: InstanceCounts | None = None  # with --instances
    surfaces: Tensor | None = None  # (N, K, 2) of surface_distances, with --surface-distances


class ScoredItems(Dataset):
    """A data set's items with 'full': the mask at the resolution to score at, (H, W) uint8.

    With `classes` of objects, also 'objects': what TrueObjects.label returns, as tensors.
    """

    def __init__(
        self,
        dataset: 'SegmentationDataset',
        at_scale: bool,
        classes: tuple[int, ...] | None = None,
    ):
        self.dataset, self.at_scale = dataset, at_scale
        self.objects = None if classes is None else TrueObjects(dataset, classes)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        dataset = self.dataset
        if self.at_scale:
            item = dataset[index]
            full = item['mask']
        else:
            full = dataset.mask(index)
            mask = torch.from_numpy(resize_mask(full.numpy(), dataset.sizes[index]))
            item = {'image': dataset.image(index), 'mask': mask}
        objects = None
        if self.objects:
            labels, numbered = self.objects.label(index, full.numpy())
            objects = torch.from_numpy(labels), torch.tensor(numbered)
        return item | {'full': full, 'objects': objects}


def _collate(items: list[dict]) -> dict:
    """Return pad_batch of the items, with lists of 'full' and 'objects', whose sizes may differ."""
    return pad_batch(items) | {name: [item[name] for item in items] for name in ('full', 'objects')}


@torch.inference_mode()
def count_at_scale(
    model: UNet, loader: Iterable[dict], precision: MixedPrecision, decode: str = DECODE_PATH
) -> Tensor:
    """Return pixel counts (N, K, 3) int64 of the loader's N images, in its order and resolution.

    decode: how its images were decoded. On several ranks, each has a loader of its shard of the
    batches, and all get the counts of all. The model keeps its mode.
    """
    training, n_classes = model.training, max(2, model.n_classes)
    predictor = Predictor(model, 1.0, list(range(n_classes)), precision, decode)
    try:
        counts = [
            count_pixels(predictor.class_indices(outputs), masks, n_classes)
            for _, outputs, masks in _predict_batches(predictor, loader)
        ]
    finally:
        model.train(training)
    return torch.cat(gather_shards([part.cpu() for part in counts]))


@torch.inference_mode()
def count_dataset(
    predictor: Predictor,
    dataset: 'SegmentationDataset',
    conditions: Conditions,
    workers: int | None,
) -> Counts:
    """Predict as predict.py does, and count all that evaluate.py scores.

    workers: None chooses for the device. Each rank predicts its shard, and all get all counts.
    """
    batches = same_size_batches(list(range(len(dataset))), dataset.sizes, conditions.batch_size)
    device, k = predictor.precision.device, max(2, predictor.model.n_classes)
    workers = default_workers(device) if workers is None else workers
    items = ScoredItems(dataset, conditions.at_scale, conditions.instances)
    loader = make_dataloader(items, list(shard(batches)), workers, device, _collate)
    confusion, parts = torch.zeros(k, k, dtype=torch.int64, device=device), []
    try:
        for batch, outputs, masks in _predict_batches(predictor, loader):
            images = zip(outputs, masks, batch['full'], batch['objects'], strict=True)
            counts = [_count_image(predictor, conditions, *image) for image in images]
            part = {name: torch.stack([found[name] for found in counts]) for name in counts[0]}
            confusion += part.pop('confusion').sum(dim=0)
            parts.append({name: values.cpu() for name, values in part.items()})
    finally:
        shut_down_workers(loader)
    confusion = confusion.cpu()
    all_reduce_sum([confusion])
    parts = gather_shards(parts)
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    ids = [dataset.ids[position] for batch in batches for position in batch]
    instances = None
    if conditions.instances is not None:
        fields = InstanceCounts._fields[1:]
        instances = InstanceCounts(conditions.instances, *(joined.pop(name) for name in fields))
    return Counts(ids, confusion, **joined, instances=instances)


def _predict_batches(predictor: Predictor, loader: Iterable[dict]) -> Iterator[tuple]:
    """Yield each batch, its outputs (B, K, h, w) and its masks (B, h, w) on the device."""
    device = predictor.precision.device
    for batch in progress(loader, 'Evaluation', unit='batch'):
        images = batch['image'].to(device, non_blocking=True, memory_format=torch.channels_last)
        masks = batch['mask'].to(device, non_blocking=True)
        yield batch, predictor.predict_fitting(images), masks


def _count_image(
    predictor: Predictor,
    conditions: Conditions,
    outputs: Tensor,
    scaled: Tensor,
    truth: Tensor,
    objects: tuple[Tensor, Tensor] | None,
) -> dict[str, Tensor]:
    """Count outputs (K, h, w) with masks (h, w) and (H, W); return what Counts has, by name.

    objects: of the truth, see ScoredItems.
    """
    threshold, truth = conditions.threshold, truth.to(outputs.device)
    n_classes, background = max(2, predictor.model.n_classes), predictor.masks.background
    full = F.interpolate(outputs[None], truth.shape, mode='bilinear')  # as predict.py does
    predicted = predictor.class_indices(full, threshold)  # (1, H, W)
    confusion = confusion_matrix(predicted, truth[None], n_classes)[0]
    at_scale = predictor.class_indices(outputs[None], threshold)
    counts = {
        'confusion': confusion,
        'pixels': class_counts(confusion),
        'scaled': count_pixels(at_scale, scaled[None], n_classes)[0],
        'boundary': count_boundary(
            predicted[0], truth, n_classes, conditions.tolerance, background
        ),
    }
    if not conditions.at_scale:
        best = rescaled_truth(scaled, truth, n_classes)
        counts['ceiling'] = count_pixels(best, truth[None], n_classes)[0]
    if conditions.sweep:
        foreground = torch.where(truth == IGNORE, IGNORE, (truth != (background or 0)).byte())
        probability = predictor.to_probabilities(full[0])[-1]
        counts['sweep'] = count_thresholds(probability, foreground)
    if not objects and not conditions.spacing:
        return counts
    found, true = (each.to(torch.uint8).cpu().numpy() for each in (predicted[0], truth))
    if objects and conditions.instances is not None:
        labels, counts['numbered'] = objects
        counts |= count_instances(found, true, labels.numpy(), conditions.instances, n_classes)
        if conditions.sweep:
            masks = (predictor.class_indices(full, t, torch.uint8)[0] for t in THRESHOLDS)
            arrays = (mask.cpu().numpy() for mask in masks)
            counts['rand'] = sweep_rand(arrays, true, labels.numpy(), conditions.instances)
    if conditions.spacing:
        distances = surface_distances(found, true, n_classes, conditions.spacing, background)
        counts['surfaces'] = torch.from_numpy(distances)
    return counts


def rescaled_truth(mask: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Scale a mask (h, w) up to `truth` (H, W) as a prediction of certain classes, (1, H, W).

    That is the ceiling of the scale: a network that is uncertain along outlines may score slightly
    higher. Where the mask is IGNORE, it may predict any class: that of most of the pixels of
    `truth` there that count, and none beside them.
    """
    ignored = mask == IGNORE
    labels, known = torch.where(ignored, 0, mask).long(), ~ignored
    if ignored.any():
        votes = _count_cells(truth, mask.shape, n_classes)  # (h, w, K)
        labels = torch.where(ignored, votes.argmax(dim=2), labels)
        known = known | (votes.sum(dim=2) > 0)
    certain = (F.one_hot(labels, n_classes) * known[..., None]).permute(2, 0, 1)[None].float()
    return F.interpolate(certain, truth.shape, mode='bilinear').argmax(dim=1)


def _count_cells(truth: Tensor, size: Sequence[int], n_classes: int) -> Tensor:
    """Count the pixels of each class in each of h x w cells of `truth` (H, W): (h, w, K) int64."""
    (height, width), (h, w), device = truth.shape, size, truth.device
    rows = (2 * torch.arange(height, device=device) + 1) * h // (2 * height)
    columns = (2 * torch.arange(width, device=device) + 1) * w // (2 * width)
    labels = torch.where(truth == IGNORE, n_classes, truth.long())
    places = ((rows[:, None] * w + columns) * (n_classes + 1) + labels).flatten()
    counts = torch.zeros(h * w * (n_classes + 1), dtype=torch.int64, device=device)
    counts.scatter_add_(0, places, torch.ones_like(places))
    return counts.view(h, w, n_classes + 1)[..., :n_classes]


@torch.inference_mode()
def pooled_dice(
    network: LogitsFunction, dataset: 'SegmentationDataset', positions: list[int]
) -> float:
    """Return the Dice over all pixels of these images, at scale, the mean over the classes.

    network: gives logits (1, K, h, w) for images (1, C, h, w), float in [0, 1] on the CPU.
    """
    counts = []
    for position in positions:
        item = dataset[position]
        logits = network(to_unit_range(item['image'])[None])
        predicted = class_indices(class_probabilities(logits))
        counts.append(count_pixels(predicted, item['mask'][None], len(dataset.mask_values)))
    return summarize(torch.cat(counts), dataset.masks)['dice_dataset'] or 0.0
