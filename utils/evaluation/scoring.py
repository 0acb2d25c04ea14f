"""All that is counted to score a network on labelled images, at the masks' own size or at scale.

Every figure comes from integers that are counted image by image, so that it depends neither on
batches nor on workers or processes.

Axis letters: B batch, N images, C channels, H and W pixels, K classes (2 for a binary network), T
thresholds.

Which threshold of the foreground's probability scores best, all of them from one pass.

Axis letters: H and W pixels, N images, T thresholds.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from unet import UNet
from utils.data.dataloader import pad_batch, to_device
from utils.data.dataset import SegmentationDataset
from utils.images.resizing import to_unit_range
from utils.inference.backends.selection import Network
from utils.inference.logits import class_indices, class_probabilities
from utils.inference.predictor import Predictor
from utils.masks.encoding import IGNORE, load_mask, resize_mask
from utils.runtime.distributed import all_reduce_sum, gather_shards
from utils.runtime.precision import MixedPrecision

from .boundary import count_boundary
from .metrics import class_counts, confusion_matrix, count_pixels, image_dice, ratios, summarize


class FullSizeMasks(Dataset):
    """A data set's items with each mask at its file's own size too: 'full', (H, W) uint8."""

    def __init__(self, dataset: SegmentationDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        dataset = self.dataset
        full = load_mask(dataset.pairs[index].mask, dataset.masks, 1.0)
        mask = torch.from_numpy(resize_mask(full.numpy(), dataset.sizes[index]))
        return {'image': dataset.image(index), 'mask': mask, 'full': full}


def full_size_batch(items: list[dict[str, Tensor]]) -> dict:
    """pad_batch, and the masks at their own sizes as a list, 'full', where items have them."""
    batch = pad_batch(items)
    return batch | {'full': [item['full'] for item in items]} if 'full' in items[0] else batch


@dataclass
class Counts:
    """What was counted in N images, in the order of evaluation; int64 on the CPU.

    pixels: (N, K, 3) as of metrics.count_pixels, at the size scored at; scaled: the same at scale.
    confusion: (K, K) as of metrics.confusion_matrix, of all images. boundary: (N, K, 4) as of
    boundary.count_boundary. ceiling: (N, K, 3) of the masks scaled down and up again, None where
    scored at scale. sweep: (N, T, 3) as of threshold_sweep.count_thresholds, None unless asked for.
    """

    pixels: Tensor
    scaled: Tensor
    confusion: Tensor
    boundary: Tensor
    ceiling: Tensor | None
    sweep: Tensor | None


@torch.inference_mode()
def count_at_scale(
    model: UNet, loader: DataLoader, precision: MixedPrecision, threshold: float = 0.5
) -> Tensor:
    """Return pixel counts (N, K, 3) int64 of the loader's N images in its order, for metrics.

    Count at the loader's resolution only, which makes it fast enough for the validations of
    training. On several ranks, each has a loader of its shard of the batches, and all get the
    counts of all. The model keeps its mode. K is 2 for a binary network.
    """
    training, counts = model.training, []
    predictor = Predictor(model, 1.0, list(range(max(2, model.n_classes))), precision)
    try:
        for batch in tqdm(loader, desc='Evaluation', unit='batch', leave=False, disable=None):
            images, masks = to_device(batch, precision.device)
            predicted = class_indices(predictor.predict_fitting(images), threshold)
            counts.append(count_pixels(predicted, masks, max(2, model.n_classes)))
    finally:
        model.train(training)
    return torch.cat(gather_shards([part.cpu() for part in counts]))


@torch.inference_mode()
def count_images(
    predictor: Predictor, loader: DataLoader, threshold: float, tolerance: int, sweep: bool
) -> Counts:
    """Count the images of the loader, which gives full_size_batch batches of one size each.

    Of several processes each has a loader of its `share` of the batches, and gets the counts of
    all. threshold: of the foreground. tolerance: pixels, of boundary.count_boundary. sweep: count
    at other thresholds as well. What is asked of the network is what predict.py does.
    """
    k, device = max(2, predictor.model.n_classes), predictor.precision.device
    confusion = torch.zeros(k, k, dtype=torch.int64, device=device)
    parts = []
    for batch in tqdm(loader, desc='Evaluation', unit='batch', leave=False, disable=None):
        probabilities = predictor.predict_fitting(batch['image'])
        masks = batch['mask'].to(device)
        part = {'scaled': [count_pixels(class_indices(probabilities, threshold), masks, k)]}
        full = batch.get('full')
        for n in range(len(masks)):
            mask = masks[n] if full is None else full[n].to(device)
            foreground = resized(probabilities[n : n + 1], mask.shape)
            predicted = class_indices(foreground, threshold)
            cells = confusion_matrix(predicted, mask[None], k)
            confusion += cells[0]
            found = {'pixels': class_counts(cells)}
            found['boundary'] = count_boundary(predicted[0], mask, k, tolerance)[None]
            if full is not None:
                limit = at_best(masks[n], mask.shape, k)
                found['ceiling'] = count_pixels(limit, mask[None], k)
            if sweep:
                found['sweep'] = count_thresholds(foreground[0, -1], mask)[None]
            for name, counts in found.items():
                part.setdefault(name, []).append(counts)
        parts.append({name: torch.cat(counts).cpu() for name, counts in part.items()})
    confusion = confusion.cpu()
    all_reduce_sum([confusion])
    parts = gather_shards(parts)
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    ceiling, others = joined.pop('ceiling', None), joined.pop('sweep', None)
    return Counts(confusion=confusion, ceiling=ceiling, sweep=others, **joined)


def resized(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities (1, K, H, W) at `size` (H, W), as predict.py makes masks of its images.

    Of two classes the foreground's alone, (1, 1, H, W), which says it all in half the work.
    """
    if probabilities.shape[1] == 2:
        probabilities = probabilities[:, 1:]
    return F.interpolate(probabilities, tuple(size), mode='bilinear')


def at_best(mask: Tensor, size: tuple[int, int], n_classes: int) -> Tensor:
    """What a network that is right and certain at scale would predict at `size`: (1, H, W).

    mask: (H, W) class indices at scale. It is scaled up as probabilities are; one that is unsure
    along outlines may do a little better. Pixels of IGNORE are taken as class 0.
    """
    labels = torch.where(mask == IGNORE, 0, mask).long()
    certain = F.one_hot(labels, n_classes).permute(2, 0, 1)[None].float()
    return class_indices(resized(certain, size))


@torch.inference_mode()
def pooled_dice(network: Network, dataset: SegmentationDataset, positions: list[int]) -> float:
    """Return the Dice of all pixels of these images together, the mean over the classes.

    network: gives logits (1, K, H, W) of images (1, C, H, W) float in [0, 1] on the CPU.
    """
    counts = []
    for k in positions:
        item = dataset[k]
        logits = network(to_unit_range(item['image'])[None])
        predicted = class_indices(class_probabilities(logits))
        counts.append(count_pixels(predicted, item['mask'][None], len(dataset.mask_values)))
    return summarize(torch.cat(counts), dataset.mask_values)['dice_dataset'] or 0.0


@torch.inference_mode()
def predict_item(
    predictor: Predictor, item: dict[str, Tensor], threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An item's image (H, W, C), and truth and prediction (H, W) at the size scored at, to show."""
    truth = item.get('full', item['mask'])
    probabilities = predictor.predict_fitting(item['image'][None])
    predicted = class_indices(resized(probabilities, truth.shape), threshold)[0]
    return item['image'].permute(1, 2, 0).numpy(), truth.numpy(), predicted.cpu().numpy()


THRESHOLDS = tuple(k / 20 for k in range(1, 20))  # 0.05 to 0.95


def count_thresholds(probability: Tensor, truth: Tensor) -> Tensor:
    """True positives, false positives and false negatives at each threshold, (T, 3) int64.

    probability: of the foreground, (H, W) float32; truth: (H, W) of 0, 1 and IGNORE.
    """
    bounds = torch.tensor(THRESHOLDS, device=probability.device)
    # A pixel passes as many thresholds as are below its probability.
    passed = torch.bucketize(probability.contiguous(), bounds)
    cells = torch.where(truth == IGNORE, 2, truth.long()) * (len(bounds) + 1) + passed
    pixels = torch.zeros(3 * (len(bounds) + 1), dtype=torch.int64, device=bounds.device)
    pixels.scatter_add_(0, cells.flatten(), torch.ones_like(cells).flatten())
    background, foreground, _ = pixels.view(3, -1)
    fp, tp = (part.flip(0).cumsum(0).flip(0)[1:] for part in (background, foreground))
    return torch.stack([tp, fp, foreground.sum() - tp], dim=1)


def sweep_table(counts: Tensor) -> list[dict]:
    """A row a threshold: its Dice over all pixels and as the mean over images, None for neither.

    counts: (N, T, 3).
    """
    pooled = ratios(counts.sum(dim=0))['dice']
    rows = []
    for k, threshold in enumerate(THRESHOLDS):
        one = counts[:, k : k + 1]
        # As of two classes, of which the first is the background.
        per_image = image_dice(one.expand(-1, 2, -1)).nanmean().item()
        pair = {'dice_dataset': pooled[k].item(), 'dice_per_image': per_image}
        plain = {name: None if value != value else value for name, value in pair.items()}
        rows.append({'threshold': threshold} | plain)
    return rows


def best_threshold(rows: list[dict]) -> float | None:
    """The threshold of the highest Dice over all pixels, of equals that nearest to one half."""
    scored = [row for row in rows if row['dice_dataset'] is not None]
    if not scored:
        return None
    best = max(scored, key=lambda row: (row['dice_dataset'], -abs(row['threshold'] - 0.5)))
    return best['threshold']
