"""Export a trained network to ONNX, for programs and devices without torch.

    python -m utils.export checkpoints/best.pth model.onnx

The file takes 'images' (B, C, H, W), float32 in [0, 1], of any size from 16 x 16 pixels, and gives
'logits' (B, K, H, W): softmax over K, or sigmoid where K is 1. Its metadata has what else is known,
as JSON: 'scale' (of the images' width and height), 'mask_values' and 'class_names'.
"""

import argparse
from pathlib import Path

import torch

from unet import UNet
from utils.inference.checkpoint import Checkpoint, load_checkpoint
from utils.runtime.errors import UserError
from utils.runtime.files import check_output_file, whole_file

from .selection import PACKAGES, check_padded, folded, missing_packages

# Of logits: what another order of adding up may do. A trained network's differed by 2e-6.
TOLERANCE = 1e-3

SIZES = ((1, 64, 64), (2, 47, 83))  # batch, height and width of the images to compare on


def known_facts(checkpoint: Checkpoint) -> dict:
    """What a program needs to know beside the network; left out where the file cannot say."""
    facts = {
        'scale': checkpoint.scale,
        'mask_values': checkpoint.mask_values,
        'class_names': checkpoint.mask_encoding.get('names'),
    }
    return {name: value for name, value in facts.items() if value is not None}


def largest_difference(model: UNet, path: Path) -> float:
    """How far the logits of the file and of the network differ on noise, of several sizes."""
    from .onnx import OnnxNetwork  # imported where wanted: its packages are extras

    network, differences = OnnxNetwork(path), []
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in SIZES:
        images = torch.rand(batch, model.n_channels, height, width, generator=generator)
        with torch.inference_mode():
            differences.append((network(images) - model(images)).abs().max().item())
    return max(differences)


def export(args: argparse.Namespace) -> None:
    """Write the file and compare what it computes with the network."""
    if missing := missing_packages('onnx'):
        needed = ' '.join(PACKAGES['onnx'])
        raise UserError(f'export needs {" and ".join(missing)}: pip install {needed}')
    if args.target.suffix != '.onnx':
        raise UserError(f'cannot write {args.target}; expected a name that ends in .onnx')
    check_output_file(args.target)
    checkpoint = load_checkpoint(args.source)
    model = checkpoint.build_model()
    check_padded(model, 'ONNX export')
    from .onnx import write_onnx

    with whole_file(args.target) as part:
        write_onnx(folded(model), part, known_facts(checkpoint))
        difference = largest_difference(model, part)
        if not difference <= TOLERANCE:  # a NaN too
            raise UserError(
                f'{args.source}: logits of its ONNX form differ by {difference:g}, and more than '
                f'{TOLERANCE:g} is no rounding. Nothing was written; another onnxruntime may help.'
            )
    print(f'{args.target} written; its logits differ from torch by {difference:.1g} at most')
