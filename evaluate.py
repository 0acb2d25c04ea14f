"""Score a checkpoint on labelled images.

    python evaluate.py -m checkpoints/best.pth
    python evaluate.py -m checkpoints/best.pth --images test/imgs --masks test/masks --json s.json
    python evaluate.py -m MODEL.pth --scale 0.1 --amp --csv per_image.csv
    torchrun --nproc-per-node=4 evaluate.py -m checkpoints/best.pth      # the same scores

Dice, IoU, precision and recall from exact counts of pixels, at the scale of training. "Dataset"
is the ratio over all pixels of all images, "per image" the mean of the images' ratios.
"""

import argparse
import sys
from pathlib import Path

from utils.errors import UserError, run_program
from utils.options import add_data_options, add_debug_option, add_device_options, number_in


# fmt: off
def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Score a trained U-Net on images and masks')
    add_data_options(parser.add_argument_group('Data'))
    add = parser.add_argument_group('Model').add_argument
    add('--model', '-m', default='MODEL.pth', metavar='FILE',
        help='the model file (default: %(default)s)')
    group = parser.add_argument_group('Evaluation')
    add = group.add_argument
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), metavar='SCALE',
        help="scale factor of images and masks (default: the checkpoint's, else 0.5)")
    add('--batch-size', '-b', type=number_in(int, 1), default=1, metavar='B',
        help='images at a time; changes no score but dice_reference (default: %(default)s)')
    add('--mask-threshold', '-t', type=number_in(float, 0, 1), metavar='T',
        help='minimum probability of the foreground, with 1 or 2 classes (default: 0.5)')
    add_device_options(group)
    add = parser.add_argument_group('Output').add_argument
    add('--json', type=Path, metavar='FILE', help='write all scores')
    add('--csv', type=Path, metavar='FILE', help='write counts and scores of each image and class')
    add_debug_option(parser)
    return parser.parse_args(argv)
# fmt: on


if __name__ == '__main__':
    get_args()  # -h and wrong arguments answer here, before the seconds that torch takes

import json

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from unet import UNet
from utils.batches import make_loader, same_size_batches
from utils.data_loading import BasicDataset, to_device
from utils.device import Precision, default_workers
from utils.dice_score import class_indices, class_probabilities
from utils.distributed import gather_shares, is_main, local_main_first, processes, share
from utils.files import whole_file
from utils.inference import Predictor
from utils.metrics import count_pixels, format_table, image_rows, summarize
from utils.tracking import append_csv


@torch.inference_mode()
def evaluate(
    model: UNet, loader: DataLoader, precision: Precision, threshold: float = 0.5
) -> Tensor:
    """Pixel counts (N, K, 3) int64 of the loader's N images in its order, for utils.metrics.

    Of several processes each has a loader of its `share` of the batches, and gets the counts of
    all. The model is left in the mode it was found in. K is 2 for a binary network.
    """
    training, counts = model.training, []
    model.eval()
    try:
        for batch in tqdm(loader, desc='Evaluation', unit='batch', leave=False, disable=None):
            images, masks = to_device(batch, precision.device)
            with precision.autocast():
                logits = model(images)
            predicted = class_indices(class_probabilities(logits), threshold)
            counts.append(count_pixels(predicted, masks, max(2, model.n_classes)))
    finally:
        model.train(training)
    return torch.cat(gather_shares([part.cpu() for part in counts]))


@processes()
def score(args: argparse.Namespace) -> None:
    """Evaluate as the command line says, each process its share; the main one reports on all."""
    check_outputs(args.json, args.csv)
    predictor = Predictor.load(args.model, args.scale, args.device, args.amp)
    model, threshold = predictor.model, predictor.threshold(args.mask_threshold)
    with local_main_first():
        dataset = BasicDataset(
            args.images, args.masks, predictor.scale, args.mask_suffix,
            channels=model.n_channels, mask_values=predictor.masks, resize_masks=args.resize_masks,
        )  # fmt: skip
    dataset.check_sizes()
    batches = same_size_batches(list(range(len(dataset))), dataset.sizes, args.batch_size)
    workers = default_workers(predictor.precision.device) if args.workers is None else args.workers
    loader = make_loader(dataset, share(batches), workers, predictor.precision.device)
    counts = evaluate(model, loader, predictor.precision, threshold)
    if is_main():
        order = [position for batch in batches for position in batch]
        report(args, predictor.scale, dataset, counts, order)


def report(
    args: argparse.Namespace, scale: float, dataset: BasicDataset, counts: Tensor, order: list[int]
) -> None:
    """Print the scores of counts (N, K, 3), and write the files asked for.

    order: the positions in the dataset of the N images.
    """
    scores = {'model': args.model, 'scale': scale}
    scores |= summarize(counts, dataset.mask_values, args.batch_size, dataset.masks.names)
    print(f'{args.model}: {len(order)} images at scale {scale:g}')
    for note in dataset.scan.notes(dataset.masks, dataset.channels):
        print(note)
    print(format_table(scores))
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps(scores, indent=1) + '\n', encoding='utf-8')
    if args.csv:
        ids = [dataset.ids[position] for position in order]
        rows = image_rows(counts, ids, dataset.masks.names)
        with whole_file(args.csv) as part:
            append_csv(part, rows)


def check_outputs(*paths: Path | None) -> None:
    """Raise UserError, before anything is computed, for a file whose folder is not there."""
    for path in paths:
        if path and not path.parent.is_dir():
            raise UserError(f'{path} cannot be written: no folder {path.parent}. Make it first.')
        if path and path.is_dir():
            raise UserError(f'{path} is a folder; name a file to write')


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(score, get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
