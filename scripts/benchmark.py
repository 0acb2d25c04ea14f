"""Time the parts of training on this machine: network steps and the data path.

    python scripts/benchmark.py                                 # everything, about two minutes
    python scripts/benchmark.py step --size 191x128 --batch-size 1 2 4
    python scripts/benchmark.py data --images data/imgs --masks data/masks --scale 0.5

Prints the minimum, median and maximum of several runs after a warm-up. The variants take turns, run
by run, so that a machine whose speed drifts favours none of them.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.runtime.cli import add_data_options, add_debug_option, number_in, run_program

Variants = dict[str, tuple[Callable[[], object], int]]  # by name: work, images in it

ORIGINAL = "pair to batch, the original's way"


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of 'WxH'; an argparse type."""
    try:
        width, height = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r}: expected WxH, as 191x128') from None
    return width, height


# fmt: off
def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Time network steps and the data path')
    add = parser.add_argument
    add('what', nargs='?', choices=['all', 'step', 'predict', 'data'], default='all',
        help='what to time (default: all)')
    add('--size', type=parse_size, default=(191, 128), metavar='WxH',
        help='of the images (default: 191x128)')
    add('--batch-size', type=number_in(int, 1), nargs='+', default=[1, 2, 4], metavar='B')
    add('--base-channels', type=number_in(int, 1), default=64, metavar='N')
    add('--runs', type=number_in(int, 1), default=5, metavar='N', help='default: 5')
    add('--device', choices=['auto', 'cpu', 'cuda', 'mps'], default='auto')
    add('--scale', type=number_in(float, 0, 1, above=True), default=0.5, help='of the data path')
    add_data_options(parser.add_argument_group('Data'))
    add_debug_option(parser)
    return parser.parse_args(argv)
# fmt: on


def compare(
    variants: Variants, runs: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time the variants in turns; print and return their milliseconds per image."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in range(runs + 1):
        for name, (work, images) in variants.items():
            started = clock()
            work()
            if run:  # the first is the warm-up
                times[name].append((clock() - started) / images * 1e3)
    for name, taken in times.items():
        print_row(name, taken)
    return times


def print_row(name: str, values: list[float]) -> None:
    """Print the minimum, median and maximum of the values."""
    print(f'{name:44}{min(values):9.1f}{statistics.median(values):9.1f}{max(values):9.1f}')


def print_ratios(times: dict[str, list[float]], base: str) -> None:
    """Print how many times faster than `base` the variants of the same task were."""
    print(f'\n{"times the rate of " + base:44}{"min":>9}{"median":>9}{"max":>9}')
    for name in times:
        if name != base and name.startswith(base.split(',')[0]):
            print_row(name, [a / b for a, b in zip(times[base], times[name], strict=True)])


def network_variants(args: argparse.Namespace, part: str) -> Variants:
    """Return a step or a prediction (part: step or predict) for each batch size and precision."""
    import torch

    from unet import UNet
    from utils.images.resizing import to_unit_range
    from utils.runtime.precision import MixedPrecision
    from utils.training.optimization.deep_supervision import DeepSupervision
    from utils.training.optimization.guard import StepGuard
    from utils.training.optimization.loss import segmentation_loss
    from utils.training.optimization.recipes import RECIPES
    from utils.training.step import TrainStep

    width, height = args.size

    def make_call(batch: int, name: str) -> Callable[[], object]:
        """Return a step or a prediction in this precision."""
        model = UNet(3, 2, base_channels=args.base_channels).to(args.device)
        model = model.to(memory_format=torch.channels_last).train(part == 'step')
        precision = MixedPrecision(args.device, amp=True, name=name)
        pictures = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
        pictures = pictures.to(args.device, memory_format=torch.channels_last)
        masks = torch.randint(0, 2, (batch, height, width), device=args.device)
        optimizer = RECIPES['fast'].optimizer(model, 1e-4)
        train_step = TrainStep(model, optimizer, precision, StepGuard(model))
        train_step.supervision = DeepSupervision(model, segmentation_loss)

        def step() -> float:
            loss, _ = train_step([(to_unit_range(pictures), masks)], batch)
            return loss.item()  # waits for the device

        @torch.inference_mode()
        def predict() -> float:
            with precision.autocast():
                return model(to_unit_range(pictures)).sum().item()  # waits for the device

        return step if part == 'step' else predict

    return {
        f'{part} {width}x{height} batch {batch} {name}': (make_call(batch, name), batch)
        for batch in args.batch_size
        for name in ('fp32', 'bf16')
    }


def data_variants(args: argparse.Namespace, folder: Path) -> Variants:
    """Return ways from up to 16 pairs to batches, a pair at a time; folder: an empty one."""
    import torch

    from utils.data.cache.stores import FileStore, MemoryStore, StoredItems, record_ends
    from utils.data.dataloader import pad_batch, to_device
    from utils.data.dataset import SegmentationDataset
    from utils.images.resizing import load_image
    from utils.masks.encoding import load_mask

    dataset = SegmentationDataset(args.images, args.masks, args.scale, args.mask_suffix, channels=3)
    pairs = dataset.pairs = dataset.pairs[:16]
    dataset.sizes = dataset.sizes[: len(pairs)]
    # As many files in two folders as Carvana has, so that searching them takes as long.
    for kind, paths in (('imgs', [p.image for p in pairs]), ('masks', [p.mask for p in pairs])):
        (folder / kind).mkdir()
        names = [f'other{k:04}{paths[0].suffix}' for k in range(5088 - len(paths))]
        for name in (*names, *(path.name for path in paths)):
            (folder / kind / name).touch()
    size, values, scale = record_ends(dataset)[-1], dataset.mask_values, args.scale
    encoding, memory = dataset.masks, StoredItems(dataset, MemoryStore(size, shared=False))
    disk = StoredItems(dataset, FileStore(folder / 'a.items', size))

    def make_batches(items: SegmentationDataset | StoredItems) -> None:
        for position in range(len(items)):
            to_device(pad_batch([items[position]]), torch.device('cpu'))

    works: dict[str, Callable[[], object]] = {
        ORIGINAL: lambda: [original_batch(p.image, p.mask, folder, values, scale) for p in pairs],
        'pair to batch, first epoch': lambda: make_batches(dataset),
        'pair to batch, kept on the disk': lambda: make_batches(disk),
        'pair to batch, kept in memory': lambda: make_batches(memory),
        f'image to scale {scale:g}': lambda: [load_image(p.image, 3, scale) for p in pairs],
        f'mask to scale {scale:g}': lambda: [load_mask(p.mask, encoding, scale) for p in pairs],
    }
    return {name: (work, len(pairs)) for name, work in works.items()}


def original_batch(
    image_path: Path, mask_path: Path, searched: Path, values: list[int], scale: float
) -> tuple:
    """Return image (1, C, H, W) float32 and mask (1, H, W) int64, made in the original's steps."""
    import numpy as np
    import torch
    from PIL import Image

    from utils.images.decoding import scaled_size

    list((searched / 'imgs').glob(f'{image_path.stem}.*'))
    list((searched / 'masks').glob(f'{mask_path.stem}.*'))
    image, mask = Image.open(image_path), Image.open(mask_path)
    target = scaled_size(image.size, scale)
    pixels = np.asarray(image.resize(target, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    if (pixels > 1).any():
        pixels = pixels / 255.0
    labels = np.asarray(mask.resize(target, Image.Resampling.NEAREST))
    classes = np.zeros(labels.shape, dtype=np.int64)
    for index, value in enumerate(values):
        classes[labels == value] = index
    item = [torch.as_tensor(pixels.copy()).float().contiguous(), torch.as_tensor(classes.copy())]
    images, masks = (torch.stack([tensor]) for tensor in item)
    return images.to(memory_format=torch.channels_last), masks


def benchmark(args: argparse.Namespace) -> None:
    """Time what the command line names and print a line for each variant."""
    import torch

    from utils.runtime.devices import choose_device
    from utils.runtime.precision import cpu_bf16_speedup

    args.device = choose_device(args.device)
    print(f'torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads')
    if args.device.type == 'cpu':
        print(f'bfloat16 matrix product: {cpu_bf16_speedup():.2f} times the speed of float32')
    print(f'{"ms an image":44}{"min":>9}{"median":>9}{"max":>9}')
    for part in ('step', 'predict'):
        if args.what in ('all', part):
            compare(network_variants(args, part), args.runs)
    if args.what in ('all', 'data'):
        torch.set_num_threads(1)
        print('the data path, in milliseconds of one core:')
        with tempfile.TemporaryDirectory() as folder:
            times = compare(data_variants(args, Path(folder)), args.runs, time.process_time)
            print_ratios(times, ORIGINAL)


if __name__ == '__main__':
    sys.exit(run_program(benchmark, get_args()))
