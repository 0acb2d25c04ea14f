"""Networks as ONNX files, and computed by ONNX Runtime on a CPU (https://onnxruntime.ai).

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

import json
import logging
import tempfile
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from unet import UNet

OPSET = 18  # of 2022, which the runtimes of today read


def write_onnx(model: UNet, path: Path, facts: dict | None = None) -> None:
    """Write the network as one ONNX file for images of any size; facts go into its metadata."""
    dim = torch.export.Dim
    axes = {0: dim('batch'), 2: dim('height', min=16), 3: dim('width', min=16)}
    images = torch.zeros(2, model.n_channels, 64, 48)
    with warnings.catch_warnings():  # of the exporter's own ways
        warnings.simplefilter('ignore')
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        program = torch.onnx.export(
            model, (images,), dynamo=True, dynamic_shapes=(axes,), opset_version=OPSET,
            input_names=['images'], output_names=['logits'], verbose=False,
        )  # fmt: skip
    for name, value in (facts or {}).items():
        program.model.metadata_props[name] = json.dumps(value)
    program.save(path, external_data=False)


class OnnxNetwork:
    """Logits (B, K, H, W) float32 of images (B, C, H, W), float in [0, 1], on the CPU.

    source: a network, which is exported first (8 s at width 64), or an ONNX file of one.
    """

    def __init__(self, source: UNet | Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory() as folder:
            path = source
            if isinstance(source, UNet):
                path = Path(folder) / 'network.onnx'
                write_onnx(source, path)
            self.session = onnxruntime.InferenceSession(path, options, ['CPUExecutionProvider'])

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W) float."""
        pixels = images.float().contiguous().numpy()
        return torch.from_numpy(self.session.run(None, {'images': pixels})[0])
