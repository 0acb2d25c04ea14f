"""What a prediction costs: parameters, multiply-adds, milliseconds."""

import copy
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unet import UNet, input_side
from utils.inference.predictor import Predictor

if TYPE_CHECKING:  # keeps the chain of imports short
    from utils.data.dataset import SegmentationDataset

ROUNDS = 3


def mean_multiply_adds(model: UNet, sizes: Sequence[tuple[int, int]]) -> int:
    """Return the multiplications for an image, the mean over images of these (width, height)."""
    total = 0
    for (width, height), count in Counter(sizes).items():
        seen = (height, width)
        if model.padding == 'valid':  # which sees context around the image
            seen = input_side(height), input_side(width)
        total += count * model.multiply_adds(seen)
    return round(total / len(sizes))


def prediction_times(networks: Sequence[tuple[Predictor, 'SegmentationDataset']]) -> list[float]:
    """Return the milliseconds in which each predictor predicts its dataset's image of middle size.

    The image is read before, and torch computes as in predict.py. The predictors take turns, so
    that a machine whose speed drifts favours none; the best of ROUNDS after a warm-up.
    """
    works = [(_as_in_predict(predictor), *_middle(dataset)) for predictor, dataset in networks]
    times: list[list[float]] = [[] for _ in works]
    for _ in range(1 + ROUNDS):
        for taken, (predictor, image, size) in zip(times, works, strict=True):
            start = time.perf_counter()
            predictor.classify(predictor.resized_outputs(image, size))  # waits for the device
            taken.append(1000 * (time.perf_counter() - start))
    return [min(taken[1:]) for taken in times]


def _as_in_predict(predictor: Predictor) -> Predictor:
    """Return a copy whose networks have BatchNorm folded, except for a file of the original."""
    timed = copy.copy(predictor)
    timed.use_backend('unfolded' if predictor.as_original else 'torch')
    return timed


def _middle(dataset: 'SegmentationDataset') -> tuple[Tensor, tuple[int, int]]:
    """Return the image (C, h, w) of median size at the network's scale, and its own size."""
    metadata = dataset.scan.metadata
    order = sorted(range(len(dataset)), key=lambda k: metadata[k].image.size)
    position = order[len(order) // 2]
    return dataset.image(position), metadata[position].image.size


def parameter_count(model: torch.nn.Module) -> int:
    """Return the number of weights and biases."""
    return sum(parameter.numel() for parameter in model.parameters())
