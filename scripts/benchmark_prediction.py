"""Time prediction from image files to mask files, with each backend and in the original's way.

    python scripts/benchmark_prediction.py -m checkpoints/best.pth --images data/imgs
    python scripts/benchmark_prediction.py -m best.pth --images data/imgs --masks data/masks  # int8
    python scripts/benchmark_prediction.py -m best.pth slim.pth --images data/imgs

Of several networks, the first one is also timed in the original's way, that of
milesial/Pytorch-UNet. Prints the minimum, median and maximum milliseconds per image over several
runs in which the variants take turns, and the percentage of mask pixels equal to those of the
original's way. Loading the network is not timed.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark import Variants, compare, print_ratios

from utils.data.dataset import SegmentationDataset
from utils.evaluation.scoring import pooled_dice
from utils.inference.pipeline import Failure, PredictionPipeline
from utils.inference.predictor import Predictor
from utils.inference.work_list import Job, find_images
from utils.runtime.cli import add_debug_option, number_in, run_program

ORIGINAL = "file to mask, the original's way"


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Time prediction from images to masks')
    add = parser.add_argument
    add('--model', '-m', required=True, nargs='+', metavar='FILE', help='trained networks')
    add('--images', type=Path, required=True, metavar='DIR', help='folder of images')
    add('--masks', type=Path, metavar='DIR', help='folder of their masks, to time int8 as well')
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), help="default: the checkpoint's")
    add('--count', type=number_in(int, 1), default=16, help='images (default: %(default)s)')
    add('--runs', type=number_in(int, 1), default=5, help='default: %(default)s')
    add('--backends', nargs='+', default=['torch', 'openvino', 'onnx'], metavar='BACKEND')
    add_debug_option(parser)
    return parser.parse_args(argv)


@torch.inference_mode()
def predict_like_original(predictor: Predictor, sources: list[Path], folder: Path) -> None:
    """Write masks in the steps of the original's predict.py, image by image."""
    device = predictor.precision.device
    for source in sources:
        picture = Image.open(source)
        width, height = picture.size
        size = (int(width * predictor.scale), int(height * predictor.scale))
        pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        images = torch.from_numpy(pixels / 255.0)[None].to(device, torch.float32).contiguous()
        full = F.interpolate(predictor.model(images), (height, width), mode='bilinear')
        indices = full.cpu().argmax(dim=1)[0].numpy()
        mask = np.zeros(indices.shape, dtype=np.uint8)
        for index, value in enumerate(predictor.masks.values):
            mask[indices == index] = value
        Image.fromarray(mask).save(folder / f'{source.stem}.png')


def predict_like_predict_py(predictor: Predictor, sources: list[Path], folder: Path) -> None:
    """Write masks as predict.py does for a folder."""
    jobs = [Job(source, folder / f'{source.stem}.png', None) for source in sources]
    for outcome in PredictionPipeline(predictor).process(jobs, lambda job: 2**21):
        if isinstance(outcome, Failure):
            raise outcome.error


def agreement(folder: Path, other: Path) -> float:
    """Return the fraction of equal pixels in the masks of two folders."""
    same = []
    for path in folder.iterdir():
        mask, reference = np.asarray(Image.open(path)), np.asarray(Image.open(other / path.name))
        same.append((mask == reference).mean())
    return float(np.mean(same))


def ways_of(args: argparse.Namespace, model: str) -> Iterator[tuple[str, Predictor]]:
    """Yield the backends of a network, by name, and int8 if there are masks."""
    for name in [*args.backends, *(['int8'] if args.masks else [])]:
        predictor = Predictor.load(model, args.scale, 'cpu')
        if name in args.backends:
            predictor.use_backend(name)
        else:
            from utils.inference.backends.quantization import quantize  # needs its own packages

            dataset = SegmentationDataset(args.images, args.masks, predictor.scale, None)
            print(quantize(predictor, dataset, pooled_dice))
        yield name, predictor


def benchmark(args: argparse.Namespace) -> None:
    """Print the times and agreement of each variant."""
    found, _ = find_images([str(args.images)], sys.stdin, False, None)
    sources = [source.path for source in found][: args.count]
    plain = Predictor.load(args.model[0], args.scale, 'cpu')
    # The original uses torch's default memory format.
    plain.model.to(memory_format=torch.contiguous_format)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads, scale {plain.scale:g}')
    works = {ORIGINAL: partial(predict_like_original, plain)}
    for model in args.model:
        for name, predictor in ways_of(args, model):
            title = f'{Path(model).name} {name}' if len(args.model) > 1 else name
            works[f'file to mask, {title}'] = partial(predict_like_predict_py, predictor)
    with tempfile.TemporaryDirectory() as place:
        variants: Variants = {}
        for name, work in works.items():
            (Path(place) / name).mkdir()
            variants[name] = partial(work, sources, Path(place) / name), len(sources)
        times = compare(variants, args.runs)
        print_ratios(times, ORIGINAL)
        for name in list(works)[1:]:
            same = agreement(Path(place) / ORIGINAL, Path(place) / name)
            print(f'{name:44}{100 * same:9.3f} % agree')


if __name__ == '__main__':
    sys.exit(run_program(benchmark, get_args()))
