"""Export a trained network to ONNX, for programs and devices without torch.

    python -m utils.export checkpoints/best.pth model.onnx

The file's input is 'images' (B, C, H, W), float32 in [0, 1], of at least 16 x 16 pixels; its output
is 'logits' (B, K, H, W), for softmax over K, or sigmoid if K is 1. Its metadata, JSON values, are
'scale' (factor of the images' width and height), 'mask_values', 'class_names' and 'image_range',
if known: [low, high] of each channel, the values of 16-bit and float images that become 0 and 1,
beyond which they are clipped.
"""

import argparse
from pathlib import Path

import torch

from unet import UNet
from utils.inference.checkpoint import Checkpoint, load_checkpoint
from utils.runtime.errors import UserError
from utils.runtime.files import check_output_file, whole_file

from .selection import PACKAGES, check_padded, fold_batchnorm, missing_packages

# Largest allowed difference of logits, for rounding. A trained network's differed by 2e-6.
TOLERANCE = 1e-3
SIZES = ((1, 64, 64), (2, 47, 83))  # batch, height and width of the images to compare on


def export_metadata(checkpoint: Checkpoint) -> dict:
    """Return the known settings that a program needs beside the network."""
    settings = {
        'scale': checkpoint.scale,
        'mask_values': checkpoint.mask_values,
        'class_names': checkpoint.mask_encoding.get('names'),
        'image_range': checkpoint.image_range,
    }
    return {name: value for name, value in settings.items() if value is not None}


def largest_difference(model: UNet, path: Path) -> float:
    """Return the largest difference between the logits of file and network, on noise."""
    from .onnx import OnnxNetwork  # late, because its packages are optional

    network, differences = OnnxNetwork(path), []
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in SIZES:
        images = torch.rand(batch, model.n_channels, height, width, generator=generator)
        with torch.inference_mode():
            differences.append((network(images) - model(images)).abs().max().item())
    return max(differences)


def export(args: argparse.Namespace) -> None:
    """Write args.target from the checkpoint args.source, if its logits are the network's."""
    if missing := missing_packages('onnx'):
        needed = ' '.join(PACKAGES['onnx'])
        raise UserError(f'ONNX export needs {" and ".join(missing)}: pip install {needed}')
    if args.target.suffix != '.onnx':
        raise UserError(f'cannot write {args.target}; expected a name that ends in .onnx')
    check_output_file(args.target)
    checkpoint = load_checkpoint(args.source)
    model = checkpoint.build_model()
    check_padded(model, 'ONNX export')
    from .onnx import write_onnx

    with whole_file(args.target) as part:
        write_onnx(fold_batchnorm(model), part, export_metadata(checkpoint))
        difference = largest_difference(model, part)
        if not difference <= TOLERANCE:  # a NaN too
            raise UserError(
                f'{args.source}: the logits of its ONNX file differ by {difference:g}; expected at '
                f'most {TOLERANCE:g}. Nothing was written. Try another version of onnxruntime.'
            )
    print(f'{args.target} written; its logits differ from torch by at most {difference:.1g}')
