"""8-bit quantization with NNCF and OpenVINO, refused if it loses too much Dice.

NNCF (https://github.com/openvinotoolkit/nncf) calibrates the ranges of all feature maps on a few
labelled images, and OpenVINO computes the network. The Dice of both networks is measured on other
labelled images. If too much is lost, the layers at full resolution are computed in float32. The
quantized network and its Dice are kept in the user's cache.
"""

import contextlib
import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13

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

CACHE_VERSION = 2  # increase it when the results for the same network and images change
CALIBRATED, SCORED = 8, 24  # number of images
ALLOWED_DROP = 0.002  # of Dice

# Always in float32: with 8 bits for the image, 0.049 points were lost, without 0.001, for 3 % of
# the time. The layers at full resolution follow if more than ALLOWED_DROP is lost (dev/LOG.md).
FIRST = 'inc.double_conv.0'
IN_FLOAT: tuple[tuple[str, ...], ...] = ((), ('inc', 'up4', 'outc'))

LEVELS = 256
KEEPING = ('Pad', 'Interpolate')  # operations whose results have their input's range

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
        source = convert(fold_batchnorm(predictor.model))
        pixels = [to_unit_range(dataset.image(k))[None].numpy() for k in calibrated]

        def score(model: openvino.Model | Path) -> float:
            return dice(OpenVinoNetwork(model, predictor.precision), dataset, scored)

        before = score(source.clone())  # which is fixed to the shape of the images
        for in_float in IN_FLOAT:
            _write_quantized(source, pixels, in_float, path)
            after = score(path)
            if after >= before - ALLOWED_DROP:
                break
            print(f'note: {_describe(before, after, in_float)}: too much is lost')
        with whole_file(scores) as part:
            part.write_text(json.dumps({'float32': before, 'int8': after, 'in_float': in_float}))
    kept = json.loads(scores.read_text())
    before, after = kept['float32'], kept['int8']
    message = (
        f'{_describe(before, after, kept["in_float"])}, on {len(scored)} images of '
        f'{dataset.pairs[0].image.parent}'
    )
    if not after >= before - ALLOWED_DROP:  # a NaN too
        raise UserError(
            f'{message}; at most {100 * ALLOWED_DROP:g} points may be lost. Leave --quantize out, '
            'or give the training images with --calibration-images and --calibration-masks.'
        )
    predictor.networks = [OpenVinoNetwork(path, predictor.precision)]
    return message


def _describe(before: float, after: float, in_float: Sequence[str]) -> str:
    """Return the change of Dice as text, and which layers are not in 8 bits."""
    layers = f' with {", ".join(in_float)} in float32' if in_float else ''
    return f'int8{layers}: Dice {after:.4f}, {100 * (after - before):+.2f} points'


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


def _write_quantized(
    source: openvino.Model, pixels: list[np.ndarray], in_float: Sequence[str], path: Path
) -> None:
    """Write the network in 8 bits, but for FIRST and some other submodules.

    pixels: images (1, C, h, w) float32 in [0, 1], to calibrate on.
    """
    import nncf  # late: a cached network does not need it

    nncf.set_log_level(logging.ERROR)
    # Operations have the names that torch's tracing gave them.
    names = map(re.escape, (FIRST, *in_float))
    scope = nncf.IgnoredScope(patterns=[rf'__module\.{name}[./].*' for name in names])
    with contextlib.redirect_stdout(io.StringIO()):  # hides NNCF's progress bars
        quantized = nncf.quantize(
            source, nncf.Dataset(pixels), subset_size=len(pixels), ignored_scope=scope
        )
    quantize_concatenations(quantized)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by whole_file: the .xml and .bin file refer to each other by name. The .json comes last.
    openvino.save_model(quantized, path, compress_to_fp16=False)


def quantize_concatenations(model: openvino.Model) -> None:
    """Quantize the results of concatenations whose inputs are quantized, in their range.

    The inputs have one range, so no value changes. But without it OpenVINO 2026.4 computes the
    convolution that follows, the largest of each block of the decoder, in float32: 1.35 s instead
    of 0.58 s for an image of 959 x 640 at width 32 (dev/LOG.md, 2026-11-26).
    """
    for operation in model.get_ordered_ops():
        # Others compute sizes.
        if not operation.get_friendly_name().endswith('/aten::cat/Concat'):
            continue
        ranges = [_range_of(operation.input_value(k).get_node()) for k in range(2)]
        known = [ends for ends in ranges if ends is not None]
        if len(known) < len(ranges):
            continue
        low, high = (
            opset13.constant(np.float32(end))
            for end in (min(low for low, _ in known), max(high for _, high in known))
        )
        readers = list(operation.output(0).get_target_inputs())
        result = opset13.fake_quantize(operation.output(0), low, high, low, high, LEVELS)
        for reader in readers:
            reader.replace_source_output(result.output(0))
    model.validate_nodes_and_infer_types()


def _range_of(node: openvino.Node) -> tuple[float, float] | None:
    """Return the range in which an operation's result was quantized, None if it was not."""
    while node.get_type_name() in KEEPING:
        node = node.input_value(0).get_node()
    if node.get_type_name() != 'FakeQuantize':
        return None
    low, high = (node.input_value(k).get_node().get_data() for k in (3, 4))  # of its output
    return float(low.min()), float(high.max())
