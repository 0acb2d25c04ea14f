"""ONNX files of networks, and the ONNX Runtime backend on a CPU (https://onnxruntime.ai)."""

import json
import logging
import tempfile
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from unet import UNet

OPSET = 18  # of 2022, supported by current runtimes


def write_onnx(model: UNet, path: Path, metadata: dict | None = None) -> None:
    """Write the network as one ONNX file for images of any size, with metadata as JSON values."""
    dim = torch.export.Dim
    axes = {0: dim('batch'), 2: dim('height', min=16), 3: dim('width', min=16)}
    images = torch.zeros(2, model.n_channels, 64, 48)
    with warnings.catch_warnings():  # about the exporter's internals
        warnings.simplefilter('ignore')
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        # The result is None only without dynamo.
        program: torch.onnx.ONNXProgram = torch.onnx.export(  # type: ignore[assignment]
            model, (images,), dynamo=True, dynamic_shapes=(axes,), opset_version=OPSET,
            input_names=['images'], output_names=['logits'], verbose=False,
        )  # fmt: skip
    for name, value in (metadata or {}).items():
        program.model.metadata_props[name] = json.dumps(value)
    program.save(path, external_data=False)


class OnnxNetwork:
    """A LogitsFunction that computes float32 logits on the CPU.

    source: a network, which is exported first (8 s at width 64), or its ONNX file.
    """

    def __init__(self, source: UNet | Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory() as folder:
            path = source if isinstance(source, Path) else Path(folder) / 'network.onnx'
            if isinstance(source, UNet):
                write_onnx(source, path)
            self.session = onnxruntime.InferenceSession(path, options, ['CPUExecutionProvider'])

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits, see LogitsFunction."""
        pixels = images.float().contiguous().numpy()
        return torch.from_numpy(self.session.run(None, {'images': pixels})[0])
