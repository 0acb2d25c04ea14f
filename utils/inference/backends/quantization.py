"""Networks in 8-bit whole numbers, found by what they see in labelled images, and what that costs.

NNCF (https://github.com/openvinotoolkit/nncf) finds the ranges of all maps on a few images, and
OpenVINO computes. On others of the labelled images the Dice with and without are compared, and a
network that loses more than ALLOWED_DROP is refused. What came out is remembered in the user's
cache.

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from utils.data.dataset import SegmentationDataset
from utils.images.resizing import to_unit_range
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError
from utils.runtime.files import user_cache, whole_file

from .openvino import OpenVinoNetwork, converted
from .selection import Network, folded

CACHE_VERSION = 1  # raise it when the same network and images would give other numbers

CALIBRATED, SCORED = 8, 24  # images

ALLOWED_DROP = 0.002  # of Dice

# Dice of a network on images of a dataset, by position: scoring is evaluation's.
DiceOf = Callable[[Network, SegmentationDataset, list[int]], float]


def quantize(predictor: Predictor, dataset: SegmentationDataset, dice: DiceOf) -> str:
    """Let the predictor compute in 8 bits, on a CPU; returns what to tell of it.

    dataset: labelled images like those to come, at the predictor's scale. dice: scores a network
    on positions of it. Raises UserError where the Dice drops by more than ALLOWED_DROP.
    """
    chosen = range(0, len(dataset), max(1, len(dataset) // (CALIBRATED + SCORED)))
    chosen = list(chosen)[: CALIBRATED + SCORED]
    calibrated = chosen[:: (CALIBRATED + SCORED) // CALIBRATED]
    scored = [k for k in chosen if k not in calibrated] or calibrated
    path = _kept_path(predictor, dataset, chosen)
    facts = path.with_suffix('.json')
    if not facts.is_file():
        _prepare(predictor, dataset, calibrated, scored, path, dice)
    before, after = json.loads(facts.read_text())
    told = (
        f'int8: Dice {after:.4f}, {100 * (after - before):+.2f} points, on {len(scored)} images '
        f'of {dataset.pairs[0].image.parent}'
    )
    if not after >= before - ALLOWED_DROP:  # a NaN too
        raise UserError(
            f'{told}, and more than {100 * ALLOWED_DROP:g} are lost. Leave --quantize out, or name '
            'the training images in --calibration-images and --calibration-masks.'
        )
    predictor.networks = [OpenVinoNetwork(path, predictor.precision)]
    return told


def _kept_path(predictor: Predictor, dataset: SegmentationDataset, chosen: list[int]) -> Path:
    """Where the 8-bit form of this network by these images is remembered."""
    settings = (CACHE_VERSION, predictor.scale, predictor.precision.name)
    digest = hashlib.sha256(str(settings).encode())
    for name, tensor in predictor.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    for k in chosen:
        for path in (dataset.pairs[k].image, dataset.pairs[k].mask):
            stat = path.stat()
            digest.update(str((path.resolve(), stat.st_size, stat.st_mtime_ns)).encode())
    return user_cache('int8') / f'{digest.hexdigest()[:16]}.xml'


def _prepare(
    predictor: Predictor,
    dataset: SegmentationDataset,
    calibrated: list[int],
    scored: list[int],
    path: Path,
    dice: DiceOf,
) -> None:
    """Write the 8-bit network and, last, both Dice beside it."""
    print(f'note: int8 is prepared on {len(calibrated)} images and scored on {len(scored)}, once')
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    source = converted(folded(predictor.model))
    images = nncf.Dataset([_pixels(dataset, k) for k in calibrated], lambda x: x.numpy())
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        quantized = nncf.quantize(source, images, subset_size=len(calibrated))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Each file has the other's name inside or beside it, so both are written where they stay.
    openvino.save_model(quantized, path, compress_to_fp16=False)
    before = dice(OpenVinoNetwork(source, predictor.precision), dataset, scored)
    after = dice(OpenVinoNetwork(path, predictor.precision), dataset, scored)
    with whole_file(path.with_suffix('.json')) as part:
        part.write_text(json.dumps([before, after]))


def _pixels(dataset: SegmentationDataset, index: int) -> torch.Tensor:
    return to_unit_range(dataset.image(index))[None]
