"""Score a checkpoint on labelled images.

    python evaluate.py -m checkpoints/best.pth
    python evaluate.py -m checkpoints/best.pth --images test/imgs --masks test/masks --json s.json
    python evaluate.py -m checkpoints/best.pth --report scores --threshold-sweep
    python evaluate.py -m MODEL.pth --scale 0.1 --amp --at-scale --csv per_image.csv
    torchrun --nproc-per-node=4 evaluate.py -m checkpoints/best.pth      # the same scores

Dice, IoU, precision and recall from exact counts of pixels, at the masks' own size: what predict.py
writes is compared with the file. "Dataset" is the ratio over all pixels of all images, "per image"
the mean of the images' ratios.
"""

import argparse
import sys
from pathlib import Path

from utils.runtime.cli import (
    add_data_options,
    add_debug_option,
    add_device_options,
    number_in,
    run_program,
)
from utils.runtime.errors import UserError


# fmt: off
def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Score a trained U-Net on images and masks')
    add_data_options(parser.add_argument_group('Data'))
    add = parser.add_argument_group('Model').add_argument
    add('--model', '-m', default='MODEL.pth', metavar='FILE',
        help='the model file (default: %(default)s)')
    group = parser.add_argument_group('Evaluation')
    add = group.add_argument
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), metavar='SCALE',
        help="scale factor of the images (default: the checkpoint's, else 0.5)")
    add('--batch-size', '-b', type=number_in(int, 1), default=1, metavar='B',
        help='images at a time; changes no score but dice_reference (default: %(default)s)')
    add('--at-scale', action='store_true',
        help='score at --scale, as training does (default: at the size of the mask files)')
    add('--mask-threshold', '-t', type=number_in(float, 0, 1), metavar='T',
        help='minimum probability of the foreground, with 1 or 2 classes (default: 0.5)')
    add('--threshold-sweep', action='store_true',
        help='score at thresholds of 0.05 to 0.95 too, with 1 or 2 classes')
    # Two pixels: by so much do two people differ who draw one outline.
    add('--boundary-tolerance', type=number_in(int, 0), default=2, metavar='PIXELS',
        help='how far outlines may be apart for the boundary F-score (default: %(default)s)')
    add_device_options(group)
    add = parser.add_argument_group('Output').add_argument
    add('--worst', type=number_in(int, 0), default=5, metavar='N',
        help='how many of the worst images to list and to show (default: %(default)s)')
    add('--report', type=Path, metavar='DIR',
        help='write a page with tables and pictures, DIR/index.html')
    add('--json', type=Path, metavar='FILE', help='write all scores')
    add('--csv', type=Path, metavar='FILE', help='write counts and scores of each image and class')
    add_debug_option(parser)
    return parser
# fmt: on


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    return make_parser().parse_args(argv)


if __name__ == '__main__':
    get_args()  # -h and wrong arguments answer here, before the seconds that torch takes

import json
import shlex

from utils.data.dataloader import make_dataloader, same_size_batches, shut_down_workers
from utils.data.dataset import SegmentationDataset
from utils.evaluation.report import Shown, write_page
from utils.evaluation.scoring import (
    Counts,
    FullSizeMasks,
    count_images,
    full_size_batch,
    predict_item,
)
from utils.evaluation.summary import Conditions, csv_rows, format_scores, summarize_all
from utils.inference.checkpoint import load_checkpoint
from utils.inference.predictor import Predictor
from utils.runtime.devices import default_workers
from utils.runtime.distributed import (
    is_main_process,
    local_main_process_first,
    shard,
)
from utils.runtime.files import append_csv, whole_file


def score(args: argparse.Namespace) -> None:
    """Evaluate as the command line says, each process its share; the main one reports on all."""
    check_outputs(args.json, args.csv, folder=args.report)
    predictor = Predictor.load(args.model, args.scale, args.device, args.amp)
    model, threshold = predictor.model, predictor.threshold(args.mask_threshold)
    if args.threshold_sweep and model.n_classes > 2:
        raise UserError(
            f'--threshold-sweep acts on 1 or 2 classes; the model has {model.n_classes}, of which '
            'the most probable is taken. Leave it out.'
        )
    with local_main_process_first():
        dataset = SegmentationDataset(
            args.images, args.masks, predictor.scale, args.mask_suffix,
            channels=model.n_channels, mask_values=predictor.masks, resize_masks=args.resize_masks,
        )  # fmt: skip
    dataset.check_sizes()
    batches = same_size_batches(list(range(len(dataset))), dataset.sizes, args.batch_size)
    device = predictor.precision.device
    workers = default_workers(device) if args.workers is None else args.workers
    items = dataset if args.at_scale else FullSizeMasks(dataset)
    loader = make_dataloader(items, shard(batches), workers, device, full_size_batch)
    conditions = Conditions(
        args.model, predictor.scale, args.at_scale, args.batch_size, threshold,
        args.boundary_tolerance,
    )  # fmt: skip
    tolerance, sweep = args.boundary_tolerance, args.threshold_sweep
    try:
        counts = count_images(predictor, loader, threshold, tolerance, sweep)
    finally:
        shut_down_workers(loader)
    if is_main_process():
        order = [position for batch in batches for position in batch]
        scores = report(args, conditions, dataset, counts, order)
        if args.report:
            write_report(args, scores, conditions, predictor, items, dataset)


def report(
    args: argparse.Namespace,
    conditions: Conditions,
    dataset: SegmentationDataset,
    counts: Counts,
    order: list[int],
) -> dict:
    """Print the scores of N images, write the files asked for, and return the scores.

    order: the positions in the dataset of the N images.
    """
    ids = [dataset.ids[position] for position in order]
    scores = summarize_all(counts, conditions, dataset.masks, ids)
    print(conditions.describe(len(ids)))
    for note in dataset.scan.notes(dataset.masks, dataset.channels):
        print(note)
    print(format_scores(scores, args.worst))
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps(scores, indent=1) + '\n', encoding='utf-8')
    if args.csv:
        with whole_file(args.csv) as part:
            append_csv(part, csv_rows(counts, ids, dataset.masks.names))
    return scores


def write_report(
    args: argparse.Namespace,
    scores: dict,
    conditions: Conditions,
    predictor: Predictor,
    items: SegmentationDataset | FullSizeMasks,
    dataset: SegmentationDataset,
) -> None:
    """Write the page of --report; its images, the worst and the median ones, are predicted anew."""

    def shown(row: dict) -> Shown:
        """An image of the ranking with its masks."""
        item = items[dataset.ids.index(row['image'])]
        image, truth, predicted = predict_item(predictor, item, conditions.threshold)
        return Shown(f'{row["image"]}: Dice {row["dice"]:.4f}', image, truth, predicted)

    ranking = scores['ranking']
    middle = slice((len(ranking) - 1) // 2, len(ranking) // 2 + 1)
    chosen = {'Worst images': ranking[: args.worst], 'Median images': ranking[middle]}
    pictures = {title: map(shown, rows) for title, rows in chosen.items() if rows}
    settings = {'command': args.command, 'images': args.images, 'masks': args.masks}
    settings |= conditions.settings() | {'precision': predictor.precision.name}
    settings |= load_checkpoint(args.model).settings()
    args.report.mkdir(exist_ok=True)
    page = args.report / 'index.html'
    with whole_file(page) as part:
        text = write_page(scores, settings, dataset.masks.titles, pictures)
        part.write_text(text, encoding='utf-8')
    print(f'report: {page}')


def check_outputs(*files: Path | None, folder: Path | None = None) -> None:
    """Raise UserError, before anything is computed, for what could not be written.

    Files whose folder is not there, and a folder that is a file or in none.
    """
    for path in (*files, folder):
        if path and not path.parent.is_dir():
            raise UserError(f'{path} cannot be written: no folder {path.parent}. Make it first.')
        if path and path != folder and path.is_dir():
            raise UserError(f'{path} is a folder; name a file to write')
    if folder and folder.exists() and not folder.is_dir():
        raise UserError(f'{folder} is a file; name a folder to write the report into')


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    args = get_args(argv)
    args.command = shlex.join(['python', 'evaluate.py', *(sys.argv[1:] if argv is None else argv)])
    return run_program(score, args)


if __name__ == '__main__':
    sys.exit(main())
