"""Read and write checkpoints, and convert them to the form that milesial/Pytorch-UNet reads.

    python -m utils.checkpoint to-flat checkpoints/last.pth flat.pth
    python -m utils.checkpoint to-safetensors checkpoints/best.pth best.safetensors

Only last.pth and the files of earlier versions need the first: best.pth and checkpoint_epoch{N}.pth
have that form.

This module keeps the import path and the command for users; see utils.inference.checkpoint.
"""

import argparse
import sys
from pathlib import Path

from utils.inference.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    to_flat,
    to_safetensors,
)
from utils.runtime.cli import add_debug_option, run_program
from utils.runtime.files import check_output_file

__all__ = ['Checkpoint', 'load_checkpoint', 'save_checkpoint', 'to_flat', 'to_safetensors']


def _write_safetensors(args: argparse.Namespace) -> None:
    check_output_file(args.target)
    to_safetensors(args.source, args.target)
    print(f'{args.target} written')


def _write_flat(args: argparse.Namespace) -> None:
    check_output_file(args.target)
    unknown = to_flat(args.source, args.target)
    print(f'{args.target} written')
    if unknown:
        print(
            f'note: {args.target} is not for the programs of milesial/Pytorch-UNet, which do not '
            f'know this shape: {"; ".join(unknown)}'
        )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        'python -m utils.checkpoint', description='Convert checkpoints'
    )
    commands = parser.add_subparsers(required=True)
    for name, work, text in (
        ('to-flat', _write_flat, 'write weights and mask_values as one state_dict'),
        ('to-safetensors', _write_safetensors, 'write weights and description as .safetensors'),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument('source', type=Path, metavar='IN', help='a checkpoint')
        command.add_argument('target', type=Path, metavar='OUT', help='the file to write')
        command.set_defaults(work=work)
        add_debug_option(command)
    args = parser.parse_args()
    sys.exit(run_program(args.work, args))
