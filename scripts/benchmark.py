"""Time the parts of training on this machine: network steps and the data path.

    python scripts/benchmark.py                                 # everything, about two minutes
    python scripts/benchmark.py step --size 191x128 --batch-size 1 2 4
    python scripts/benchmark.py data --images data/imgs --masks data/masks --scale 0.5

Each figure is the minimum, median and maximum of several runs after a warm-up. Variants take
turns, run by run, so that a machine whose speed drifts does not favour one of them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.errors import run_program
from utils.options import add_data_options, add_debug_option, number_in


def size(text: str) -> tuple[int, int]:
    """(width, height) of 'WxH', for argparse, which turns the ValueError into its message."""
    width, height = map(int, text.split('x'))
    return width, height


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Time network steps and the data path')
    add = parser.add_argument
    parts = ['all', 'step', 'predict', 'data']
    add('what', nargs='?', choices=parts, default='all', help='what to time (default: all)')
    add(
        '--size',
        type=size,
        default=(191, 128),
        metavar='WxH',
        help='of the images (default: 191x128)',
    )
    add('--batch-size', type=number_in(int, 1), nargs='+', default=[1, 2, 4], metavar='B')
    add('--base-channels', type=number_in(int, 1), default=64, metavar='N')
    add('--runs', type=number_in(int, 1), default=5, metavar='N', help='default: 5')
    add('--device', choices=['auto', 'cpu', 'cuda', 'mps'], default='auto')
    add('--scale', type=number_in(float, 0, 1, above=True), default=0.5, help='of the data path')
    add_data_options(parser.add_argument_group('Data'))
    add_debug_option(parser)
    return parser.parse_args(argv)


if __name__ == '__main__':
    get_args()  # -h and wrong arguments answer here, before the seconds that torch takes

import torch

from train import train_step
from unet import UNet
from utils.data_loading import load_image, load_mask, to_unit_range
from utils.device import Precision, choose_device, cpu_bf16_speedup
from utils.guard import StepGuard
from utils.mask_classes import check_classes
from utils.pairing import pair_files
from utils.recipes import RECIPES
from utils.scan import scan_pairs


def compare(variants: dict[str, Callable[[], object]], runs: int, images: dict[str, int]) -> None:
    """Print the milliseconds an image of each variant, the variants taking turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in range(runs + 1):
        for name, work in variants.items():
            started = time.perf_counter()
            work()
            if run:  # the first is the warm-up
                times[name].append((time.perf_counter() - started) / images[name] * 1e3)
    for name, taken in times.items():
        low, high = min(taken), max(taken)
        print(f'{name:44}{low:9.1f}{statistics.median(taken):9.1f}{high:9.1f}')


def network_variants(args: argparse.Namespace, device: torch.device, training: bool) -> tuple:
    """Steps or predictions for each batch size, precision and memory format."""
    width, height = args.size
    variants, images = {}, {}
    for batch in args.batch_size:
        for name in ('fp32', 'bf16'):
            model = UNet(3, 2, base_channels=args.base_channels).to(device)
            model = model.to(memory_format=torch.channels_last).train(training)
            precision = Precision(device, amp=True, name=name)
            pictures = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
            pictures = pictures.to(device, memory_format=torch.channels_last)
            masks = torch.randint(0, 2, (batch, height, width), device=device)
            title = f'{"step" if training else "predict"} {width}x{height} batch {batch} {name}'
            variants[title] = _work(model, pictures, masks, precision, training)
            images[title] = batch
    return variants, images


def _work(
    model: UNet, pictures: torch.Tensor, masks: torch.Tensor, precision: Precision, training: bool
) -> Callable[[], object]:
    optimizer, guard = RECIPES['fast'].optimizer(model, 1e-4), StepGuard(model)

    def step() -> float:
        """One training step; reading the loss waits for the device."""
        images = to_unit_range(pictures)
        loss, _ = train_step(model, images, masks, optimizer, precision, guard)
        return loss.item()

    @torch.inference_mode()
    def predict() -> float:
        """One forward pass; reading the sum waits for the device."""
        with precision.autocast():
            return model(to_unit_range(pictures)).sum().item()

    return step if training else predict


def data_variants(args: argparse.Namespace) -> tuple:
    """Image and mask of up to 16 pairs, from file to tensor, in this thread."""
    pairs = pair_files(args.images, args.masks, args.mask_suffix)
    values = check_classes(scan_pairs(pairs), None)
    some = pairs[:16]
    variants = {
        f'image to scale {args.scale:g}': lambda: [
            load_image(p.image, 3, args.scale) for p in some
        ],
        f'mask to scale {args.scale:g}': lambda: [
            load_mask(p.mask, values, args.scale) for p in some
        ],
    }
    return variants, dict.fromkeys(variants, len(some))


def benchmark(args: argparse.Namespace) -> None:
    """Print one line a variant."""
    device = choose_device(args.device)
    print(f'torch {torch.__version__}, {device}, {torch.get_num_threads()} threads')
    if device.type == 'cpu':
        print(f'bfloat16 matrix product: {cpu_bf16_speedup():.2f} times the speed of float32')
    print(f'{"ms an image":44}{"min":>9}{"median":>9}{"max":>9}')
    for part in ('step', 'predict'):
        if args.what in ('all', part):
            variants, images = network_variants(args, device, training=part == 'step')
            compare(variants, args.runs, images)
    if args.what in ('all', 'data'):
        variants, images = data_variants(args)
        compare(variants, args.runs, images)


if __name__ == '__main__':
    sys.exit(run_program(benchmark, get_args()))
