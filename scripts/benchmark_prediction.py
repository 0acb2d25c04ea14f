"""Time prediction from picture files to mask files: the original's way, and each back end.

    python scripts/benchmark_prediction.py -m checkpoints/best.pth --images data/imgs
    python scripts/benchmark_prediction.py -m best.pth --images data/imgs --masks data/masks  # int8

Prints milliseconds an image, the least, the middle and the most of several runs in which the ways
take turns, and how many pixels of the masks agree with the first way's. Loading is not counted.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark import compare, print_ratios

from utils.runtime.cli import add_debug_option, number_in, run_program


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Time prediction from pictures to masks')
    add = parser.add_argument
    add('--model', '-m', required=True, metavar='FILE', help='a trained network')
    add('--images', type=Path, required=True, metavar='DIR', help='folder of pictures')
    add('--masks', type=Path, metavar='DIR', help='folder of their masks, to time int8 as well')
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), help="default: the checkpoint's")
    add('--count', type=number_in(int, 1), default=16, help='pictures (default: %(default)s)')
    add('--runs', type=number_in(int, 1), default=5, help='default: %(default)s')
    add('--backends', nargs='+', default=['torch', 'openvino', 'onnx'], metavar='BACKEND')
    add_debug_option(parser)
    return parser.parse_args(argv)


import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from utils.data.dataset import SegmentationDataset
from utils.evaluation.scoring import pooled_dice
from utils.inference.pipeline import PredictionPipeline
from utils.inference.predictor import Predictor
from utils.inference.work_list import Job, find_pictures

ORIGINAL = "file to mask, the original's way"


@torch.inference_mode()
def original_masks(predictor: Predictor, sources: list[Path], folder: Path) -> None:
    """The best-known U-Net's way from pictures to masks, one by one: the same steps, our words."""
    for source in sources:
        picture = Image.open(source)
        size = [int(side * predictor.scale) for side in picture.size]
        pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        images = torch.from_numpy(pixels / 255.0)[None].float().contiguous()
        logits = predictor.model(images)
        full = F.interpolate(logits, picture.size[::-1], mode='bilinear')
        indices = full.argmax(dim=1)[0].numpy()
        mask = np.zeros(indices.shape, dtype=np.uint8)
        for index, value in enumerate(predictor.mask_values):
            mask[indices == index] = value
        Image.fromarray(mask).save(folder / f'{source.stem}.png')


def our_masks(predictor: Predictor, sources: list[Path], folder: Path) -> None:
    """What predict.py does with a folder."""
    jobs = [Job(source, folder / f'{source.stem}.png', None) for source in sources]
    for outcome in PredictionPipeline(predictor).outcomes(jobs, lambda job: 2**21):
        if outcome.failure:
            raise outcome.failure


def agreement(folder: Path, other: Path) -> float:
    """The share of equal pixels in the masks of two folders."""
    same = [
        (np.asarray(Image.open(path)) == np.asarray(Image.open(other / path.name))).mean()
        for path in sorted(folder.iterdir())
    ]
    return float(np.mean(same))


def benchmark(args: argparse.Namespace) -> None:
    """Print one line a way."""
    found, _ = find_pictures([str(args.images)], sys.stdin, False, None)
    sources = [source.path for source in found][: args.count]
    plain = Predictor.load(args.model, args.scale, 'cpu')
    # The original's memory format is torch's default one.
    plain.model.to(memory_format=torch.contiguous_format)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads, scale {plain.scale:g}')
    predictors = {}
    for backend in args.backends:
        predictors[f'file to mask, {backend}'] = found = Predictor.load(
            args.model, args.scale, 'cpu'
        )
        found.use_backend(backend)
    if args.masks:
        from utils.inference.backends.quantization import quantize

        predictors['file to mask, int8'] = found = Predictor.load(args.model, args.scale, 'cpu')
        print(
            quantize(
                found, SegmentationDataset(args.images, args.masks, found.scale, None), pooled_dice
            )
        )
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place) / str(k) for k, name in enumerate([ORIGINAL, *predictors])}
        for folder in folders.values():
            folder.mkdir()
        ways = {ORIGINAL: lambda: original_masks(plain, sources, folders[ORIGINAL])}
        for name, predictor in predictors.items():
            ways[name] = lambda p=predictor, n=name: our_masks(p, sources, folders[n])
        times = compare(ways, args.runs, dict.fromkeys(ways, len(sources)))
        print_ratios(times, ORIGINAL, 'file to mask, ')
        for name in predictors:
            print(f'{name:44}{100 * agreement(folders[ORIGINAL], folders[name]):9.3f} % agree')


if __name__ == '__main__':
    sys.exit(run_program(benchmark, get_args()))
