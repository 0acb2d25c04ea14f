"""Export a trained network to ONNX, for programs and devices without torch.

python -m utils.export checkpoints/best.pth model.onnx
"""

import argparse
import sys
from pathlib import Path

from utils.runtime.cli import add_debug_option, run_program


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(
        'python -m utils.export', description='Export a network to ONNX'
    )
    parser.add_argument('source', type=Path, metavar='MODEL.pth', help='a checkpoint')
    parser.add_argument('target', type=Path, metavar='model.onnx', help='the file to write')
    add_debug_option(parser)
    args = parser.parse_args(argv)
    from utils.inference.backends.export import export  # here, because it imports torch

    return run_program(export, args)


if __name__ == '__main__':
    sys.exit(main())
