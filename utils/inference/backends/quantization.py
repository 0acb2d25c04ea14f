"""8-bit quantization with NNCF and OpenVINO, refused if it loses too much Dice.

NNCF (https://github.com/openvinotoolkit/nncf) calibrates the ranges of all feature maps on a few
labelled images, and OpenVINO computes the network. The Dice of both networks is measured on other
labelled images. The quantized network and both Dice are kept in the user's cache.
"""

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import openvino

from utils.data.dataset import SegmentationDataset
from utils.images.pages import file_of, resolved
from utils.images.resizing import to_unit_range
from utils.inference.logits import LogitsFunction
from utils.inference.predictor import Predictor
from utils.masks.joined import mask_sources
from utils.runtime.errors import UserError
from utils.runtime.files import user_cache, whole_file

from .openvino import OpenVinoNetwork, convert
from .selection import fold_batchnorm

CACHE_VERSION = 1  # increase it when the results for the same network and images change
CALIBRATED, SCORED = 8, 24  # number of images
ALLOWED_DROP = 0.002  # of Dice

# Dice of a network on the images at some positions of a dataset.
DiceFunction = Callable[[LogitsFunction, SegmentationDataset, list[int]], float]


def quantize(predictor: Predictor, dataset: SegmentationDataset, dice: DiceFunction) -> str:
    """Make the predictor compute in 8 bits on a CPU; return a message with the change of Dice.

    dataset: labelled images like those to predict, at the predictor's scale. Raises UserError if
    the Dice drops by more than ALLOWED_DROP.
    """
    total = CALIBRATED + SCORED
    chosen = list(range(len(dataset)))[:: max(1, len(dataset) // total)][:total]
    calibrated = chosen[:: total // CALIBRATED]
    scored = [k for k in chosen if k not in calibrated] or calibrated
    path = _cache_path(predictor, dataset, chosen)
    scores = path.with_suffix('.json')
    if not scores.is_file():
        counts = f'{len(calibrated)} images, scoring it on {len(scored)}'
        print(f'note: calibrating int8 on {counts}, once')
        source = _prepare(predictor, dataset, calibrated, path)
        both = (OpenVinoNetwork(model, predictor.precision) for model in (source, path))
        with whole_file(scores) as part:
            part.write_text(json.dumps([dice(network, dataset, scored) for network in both]))
    before, after = json.loads(scores.read_text())
    message = (
        f'int8: Dice {after:.4f}, {100 * (after - before):+.2f} points, on {len(scored)} images '
        f'of {dataset.pairs[0].image.parent}'
    )
    if not after >= before - ALLOWED_DROP:  # a NaN too
        raise UserError(
            f'{message}; at most {100 * ALLOWED_DROP:g} points may be lost. Leave --quantize out, '
            'or give the training images with --calibration-images and --calibration-masks.'
        )
    predictor.networks = [OpenVinoNetwork(path, predictor.precision)]
    return message


def _cache_path(predictor: Predictor, dataset: SegmentationDataset, chosen: list[int]) -> Path:
    """Return the cached file of this network, quantized and scored on these images."""
    settings = (CACHE_VERSION, predictor.scale, predictor.decode, predictor.precision.name)
    digest = hashlib.sha256(str(settings).encode())
    digest.update(str(predictor.image_range or '').encode())
    for name, tensor in predictor.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    for k in chosen:
        for source in (dataset.pairs[k].image, *mask_sources(dataset.pairs[k].mask)):
            stat = file_of(source).stat()
            digest.update(str((resolved(source), stat.st_size, stat.st_mtime_ns)).encode())
    return user_cache('int8') / f'{digest.hexdigest()[:16]}.xml'


def _prepare(
    predictor: Predictor, dataset: SegmentationDataset, calibrated: list[int], path: Path
) -> openvino.Model:
    """Write the 8-bit network; return the network in float32."""
    import nncf  # late: a cached network does not need it

    nncf.set_log_level(logging.ERROR)
    source = convert(fold_batchnorm(predictor.model))
    pixels = [to_unit_range(dataset.image(k))[None].numpy() for k in calibrated]
    with contextlib.redirect_stdout(io.StringIO()):  # hides NNCF's progress bars
        quantized = nncf.quantize(source, nncf.Dataset(pixels), subset_size=len(calibrated))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by whole_file: the .xml and .bin file refer to each other by name. The .json comes last.
    openvino.save_model(quantized, path, compress_to_fp16=False)
    return source
