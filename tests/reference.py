"""The formula of the reference's weights and inputs (see fixtures/README.md)."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

FIXTURES = Path(__file__).parent / 'fixtures'


def wave(name, length):
    """Return sin(i * (1 + crc32(name) % 97) * 0.37) for i = 1 … length, float64."""
    i = np.arange(1, length + 1, dtype=np.float64)
    return np.sin(i * (1 + zlib.crc32(name.encode()) % 97) * 0.37)


def fill(model):
    """Fill a model's state_dict by the formula, as float32, and return the model."""
    for name, tensor in model.state_dict().items():
        if name.endswith('num_batches_tracked'):
            continue
        values = wave(name, tensor.numel())
        if tensor.dim() == 4:
            values = values * np.sqrt(2 / np.prod(tensor.shape[1:]))
        elif name.endswith('running_var'):
            values = 1 + 0.2 * values
        elif name.endswith('weight'):
            values = 1 + 0.1 * values
        else:
            values = 0.05 * values
        tensor.copy_(torch.from_numpy(values.reshape(tuple(tensor.shape)).astype(np.float32)))
    return model


def image(name, shape):
    """Return a float32 tensor in [0, 1]."""
    values = (0.5 + 0.5 * wave(name, int(np.prod(shape)))).astype(np.float32)
    return torch.from_numpy(values.reshape(shape))


def labels(name, shape, n):
    """Return an int64 tensor of class indices below n."""
    values = ((wave(name, int(np.prod(shape))) + 1) / 2 * n).astype(np.int64)
    return torch.from_numpy(values.clip(0, n - 1).reshape(shape))


def load_json(name):
    """Return the content of a fixture."""
    return json.loads((FIXTURES / name).read_text(encoding='utf-8'))
