"""Score a checkpoint on labelled images.

    python evaluate.py -m checkpoints/best.pth
    python evaluate.py -m checkpoints/best.pth --images test/imgs --masks test/masks --json s.json
    python evaluate.py -m checkpoints/best.pth --report scores --threshold-sweep
    python evaluate.py -m checkpoints/best.pth --instances         # objects, such as cells
    python evaluate.py -m MODEL.pth --scale 0.1 --amp --at-scale --csv per_image.csv
    python evaluate.py --compare old.pth new.pth --report comparison    # is new.pth better?
    torchrun --nproc-per-node=4 evaluate.py -m checkpoints/best.pth      # the same scores

Scores compare predict.py's output with the masks at full resolution. "Dataset" is the ratio over
the pixels of all images, "per image" the mean of the images' ratios.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from utils.runtime import cli
from utils.runtime.cli import number_in
from utils.runtime.errors import UserError
from utils.runtime.files import append_csv, check_output_file, check_output_folder, whole_file

if TYPE_CHECKING:  # importing torch takes seconds: -h and argument errors come first
    import torch

    from utils.data.dataset import SegmentationDataset
    from utils.evaluation.scoring import Conditions
    from utils.inference.predictor import Predictor


# fmt: off
def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ProgramParser('Score a trained U-Net on images and masks')
    cli.add_data_options(parser.add_argument_group('Data'))
    add = parser.add_argument_group('Model').add_mutually_exclusive_group().add_argument
    add('--model', '-m', default='MODEL.pth', metavar='FILE',
        help='the model file (default: %(default)s)')
    add('--compare', nargs='+', metavar='FILE',
        help='instead of --model: model files to compare on the same images, each with the first')
    group = parser.add_argument_group('Evaluation')
    add = group.add_argument
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), metavar='SCALE',
        help="scale factor of the images (default: the checkpoint's, else 0.5)")
    add('--batch-size', '-b', type=number_in(int, 1), default=1, metavar='B',
        help='batch size; only dice_reference depends on it (default: %(default)s)')
    add('--at-scale', action='store_true',
        help='score at --scale, as training does (default: at the resolution of the mask files)')
    add('--mask-threshold', '-t', type=number_in(float, 0, 1), metavar='T',
        help='minimum probability of the foreground, with 1 or 2 classes (default: 0.5)')
    add('--threshold-sweep', action='store_true',
        help='score at thresholds from 0.05 to 0.95 too, with 1 or 2 classes; with --instances '
        'also by adapted Rand')
    # Two pixels: two people who draw the same outline differ by about that much.
    add('--boundary-tolerance', type=number_in(int, 0), default=2, metavar='PIXELS',
        help='distance within which outlines match, for the boundary F-score '
        '(default: %(default)s)')
    add('--instances', type=cli.value_list, nargs='?', const=[], metavar='VALUE,VALUE',
        help='score objects such as cells: precision, panoptic quality, adapted Rand, merged and '
        'split ones; of classes with these mask values (default: all but the background)')
    add('--surface-distances', type=cli.pixel_size, nargs='?', const=(), metavar='MM',
        help='score Hausdorff 95 and average surface distance, in pixels or, if MM or ROW,COLUMN '
        'is the size of a pixel, in millimetres')
    cli.add_device_options(group)
    add = parser.add_argument_group('Output').add_argument
    add('--worst', type=number_in(int, 0), default=5, metavar='N',
        help='number of worst images to list, and to show in the report; with --compare, those '
        'that differ most (default: %(default)s)')
    add('--report', type=Path, metavar='DIR',
        help='write an HTML page with tables and images, DIR/index.html')
    add('--json', type=Path, metavar='FILE', help='write all scores')
    add('--csv', type=Path, metavar='FILE',
        help='write the counts and scores of each image and class')
    cli.add_debug_option(parser)
    return parser
# fmt: on


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `command` of the result is the command line as text."""
    args = make_parser().parse_args(argv)
    args.command = shlex.join(['python', 'evaluate.py', *(sys.argv[1:] if argv is None else argv)])
    return args


def conditions_of(args: argparse.Namespace, model: str, predictor: 'Predictor') -> 'Conditions':
    """Return the conditions of the scores but classes of objects; raise UserError for a mistake."""
    from utils.evaluation.scoring import Conditions

    threshold, classes = predictor.threshold(args.mask_threshold), predictor.model.n_classes
    if args.threshold_sweep and classes > 2:
        raise UserError(
            f'--threshold-sweep acts on 1 or 2 classes; the model has {classes}, of which the most '
            'probable is taken. Leave it out.'
        )
    if args.surface_distances and args.at_scale:
        raise UserError(
            '--surface-distances in millimetres measures masks at their own size, and --at-scale '
            'scales them. Leave --at-scale out, or the size of a pixel.'
        )
    return Conditions(
        model, predictor.scale, args.at_scale, args.batch_size, threshold,
        args.boundary_tolerance, args.threshold_sweep,
        spacing=None if args.surface_distances is None else args.surface_distances or (1.0, 1.0),
        unit='mm' if args.surface_distances else 'pixels',
    )  # fmt: skip


def open_model(
    args: argparse.Namespace, model: str
) -> tuple['Predictor', 'SegmentationDataset', 'Conditions']:
    """Return a network, the images to score it on, checked, and the conditions of the scores."""
    from utils.data.dataset import SegmentationDataset
    from utils.evaluation.true_objects import object_classes
    from utils.inference.predictor import Predictor
    from utils.runtime.distributed import local_main_process_first

    predictor = Predictor.load(model, args.scale, args.device, args.amp)
    conditions = conditions_of(args, model, predictor)
    with local_main_process_first():
        dataset = SegmentationDataset(
            args.images, args.masks, predictor.scale, args.mask_suffix,
            channels=predictor.model.n_channels, mask_values=predictor.masks,
            resize_masks=args.resize_masks, decode=predictor.decode,
            image_range=predictor.image_range, lists=(args.list, None),
        )  # fmt: skip
    dataset.check_sizes()
    dataset.check_values()
    if args.instances is not None:
        classes = object_classes(dataset.masks, args.instances)
        conditions = conditions._replace(instances=classes)
    return predictor, dataset, conditions


def open_named(
    args: argparse.Namespace, model: str
) -> tuple['Predictor', 'SegmentationDataset', 'Conditions']:
    """Do as open_model; an error names the model, because there are several."""
    try:
        return open_model(args, model)
    except UserError as error:
        text = str(error)
        raise UserError(text if model in text else f'with {model}: {text}') from error


def evaluate_checkpoint(args: argparse.Namespace) -> None:
    """Score the checkpoint on this rank's shard of the images; rank 0 reports the scores of all."""
    from utils.evaluation.report import write_report
    from utils.evaluation.scoring import RESOLUTION, count_dataset
    from utils.evaluation.summary import csv_rows, format_scores, summarize_evaluation
    from utils.runtime.distributed import is_main_process

    check_outputs(args)
    predictor, dataset, conditions = open_model(args, args.model)
    counts = count_dataset(predictor, dataset, conditions, args.workers)
    if not is_main_process():
        return
    scores = summarize_evaluation(counts, conditions, dataset.masks)
    where = f'at scale {predictor.scale:g}, scored at {RESOLUTION[args.at_scale]}'
    print(f'{args.model}: {len(counts.ids)} images {where}')
    for note in dataset.notes():
        print(note)
    print(format_scores(scores, args.worst))
    write_files(args, scores, csv_rows(counts, dataset.masks.names))
    if args.report:
        write_report(args, scores, predictor, dataset)


def compare_checkpoints(args: argparse.Namespace) -> None:
    """Score the checkpoints of --compare on the same images; rank 0 reports the differences."""
    from utils.evaluation.comparison.command import (
        Candidate,
        check_options,
        check_same_classes,
        compare,
    )
    from utils.evaluation.comparison.page import write_comparison
    from utils.evaluation.comparison.summary import format_comparison

    check_options(args)
    check_outputs(args)
    candidates = [Candidate(*open_named(args, model)) for model in args.compare]
    check_same_classes(candidates)
    result = compare(candidates, args.workers)
    if result is None:  # not the first rank
        return
    scores, rows = result
    for note in candidates[0].dataset.notes():
        print(note)
    print(format_comparison(scores, args.worst))
    write_files(args, scores, rows)
    if args.report:
        write_comparison(args, scores, candidates)


def check_outputs(args: argparse.Namespace) -> None:
    """Raise UserError if a file or folder of the results could not be written."""
    for file in filter(None, (args.json, args.csv)):
        check_output_file(file)
    if args.report:
        check_output_folder(args.report)


def write_files(args: argparse.Namespace, scores: dict, rows: list[dict]) -> None:
    """Write the files of --json and --csv, if asked for."""
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps(scores, indent=1) + '\n', encoding='utf-8')
    if args.csv:
        with whole_file(args.csv) as part:
            append_csv(part, rows)


def evaluate(
    net: 'torch.nn.Module',
    dataloader: Iterable[dict[str, 'torch.Tensor']],
    device: 'torch.device',
    amp: bool,
) -> 'torch.Tensor':
    """Return the score that scripts for the original call; see dice.mean_batch_dice."""
    from utils.evaluation.dice import mean_batch_dice

    return mean_batch_dice(net, dataloader, device, amp)


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    args = get_args(argv)
    work = compare_checkpoints if args.compare else evaluate_checkpoint
    return cli.run_program(work, args, 'utils.evaluation.scoring')


if __name__ == '__main__':
    sys.exit(main())
