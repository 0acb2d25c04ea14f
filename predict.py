"""Masks for new images.

    python predict.py -i img.jpg -o out.jpg                  # with MODEL.pth
    python predict.py -m checkpoints/best.pth -i a.jpg b.jpg # writes a_OUT.png and b_OUT.png
    python predict.py -m checkpoints/best.pth -i imgs/ -o masks/
    python predict.py -m checkpoints/best.pth -i test/ --rle submission.csv
    torchrun --nproc-per-node=4 predict.py -m checkpoints/best.pth -i imgs/ -o masks/

A mask comes in the encoding of the masks the network was trained on: white on black for Carvana.
--format has other forms: class indices, class colours, probabilities, the input tinted.
"""

import argparse
import sys
from pathlib import Path

from utils.inference.options import add_backend_options, add_input_options, add_network_options
from utils.runtime.cli import add_debug_option, add_device_options, number_in, run_program
from utils.runtime.errors import UserError, first_few

FORMS = ('values', 'index', 'color', 'probabilities', 'overlay')
FEW = 3  # pictures that need no progress bar


# fmt: off
def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Predict masks from input images')
    add_input_options(parser.add_argument_group('Data'))
    group = parser.add_argument_group('Model')
    add_network_options(group)
    add_device_options(group, workers=False)
    add_backend_options(group)
    add = parser.add_argument_group('Output').add_argument
    add('--mask-threshold', '-t', type=number_in(float, 0, 1), metavar='T',
        help='minimum probability to consider a mask pixel white (default: 0.5)')
    add('--largest-component', action='store_true',
        help='keep only the largest connected piece of each class')
    add('--format', choices=FORMS, default='values',
        help="what to write: the training masks' values, class indices, class colours, "
        'probabilities (.npy, or 16-bit grey of the foreground), or the input with its mask '
        'tinted (default: %(default)s)')
    add('--rle', type=Path, metavar='FILE',
        help="write a CSV file of run-length encoded masks, Kaggle's Carvana submission; masks as "
        'images then only with -o')
    add('--viz', '-v', action='store_true', help='show the images as they are processed')
    add('--no-save', '-n', action='store_true', help='do not save the masks')
    add_debug_option(parser)
    return parser
# fmt: on


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    return make_parser().parse_args(argv)


if __name__ == '__main__':
    get_args()  # -h and wrong arguments answer here, before the seconds that torch takes

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext

from tqdm import tqdm

from utils.data.dataset import SegmentationDataset
from utils.data.input_checks import check_channels
from utils.evaluation.scoring import pooled_dice
from utils.images.decoding import pictures_of_any_size
from utils.images.metadata import ImageMetadata
from utils.inference.backends.selection import check_int8, choose_backend
from utils.inference.ensemble import average
from utils.inference.pipeline import Outcome, PredictionPipeline, shown
from utils.inference.predictor import Predictor
from utils.inference.tiling import Tiling
from utils.inference.work_list import (
    Job,
    check_places,
    find_pictures,
    place_masks,
    read_all_metadata,
    without_existing,
)
from utils.inference.writer import ARRAY, PICTURES, check_form, default_suffix
from utils.masks.rle import join_submissions, write_submission
from utils.masks.visualize import show_or_save
from utils.runtime.distributed import (
    broadcast_object,
    gather_shards,
    is_main_process,
    local_main_process_first,
    rank,
    shard,
    world_size,
)


def predict(args: argparse.Namespace) -> int:
    """Predict as the command line says; all names are checked before the model is loaded.

    Of several processes each takes its share of the images. Returns the exit code.
    """
    check_options(args)
    jobs = planned_by_main(args)
    if not jobs:
        print('all masks are there already: nothing to do')
        return 0
    with pictures_of_any_size() if args.tile else nullcontext():
        facts = read_all_metadata([job.source for job in jobs])
        prediction = prepare(args, jobs, facts)
        begun = time.perf_counter()
        failures = gather_shards(run(args, prediction, shard(jobs), facts))
    if args.rle and is_main_process() and world_size() > 1:
        join_submissions([own_part(args.rle, k) for k in range(world_size())], args.rle)
    return report(jobs, failures, time.perf_counter() - begun)


def check_options(args: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together."""
    args.model = args.model or ['MODEL.pth']
    args.tiling = Tiling.asked(args.tile, args.overlap) if args.tile else None
    if args.overlap is not None and not args.tile:
        raise UserError('--overlap is of tiles: say --tile N too')
    if args.skip_existing and args.overwrite:
        raise UserError('--skip-existing and --overwrite contradict each other; leave one out')
    if args.skip_existing and args.rle:
        raise UserError('--skip-existing would leave images out of --rle; leave one of them out')
    if args.quantize != 'none' and args.backend not in ('auto', 'openvino'):
        raise UserError(f'--quantize is computed by openvino; leave --backend {args.backend} out')
    if args.quantize != 'none' and len(args.model) > 1:
        raise UserError('--quantize takes one network; leave all -m but one out')
    args.no_save |= bool(args.rle and not args.output)
    if args.rle and not args.rle.parent.is_dir():
        raise UserError(f'no folder {args.rle.parent} to write into; make it first')


def planned_by_main(args: argparse.Namespace) -> list[Job]:
    """plan_jobs of the main process, which alone has standard input; its UserError is all's.

    Else the others would wait for a plan that never comes.
    """
    plan: list[Job] | UserError | None = None
    if is_main_process():
        try:
            plan = plan_jobs(args)
        except UserError as error:
            plan = error
    plan = broadcast_object(plan)
    if isinstance(plan, UserError):
        raise plan
    return plan


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """What to read and where to write; UserError where a name is missing or one would be lost."""
    sources, left_out = find_pictures(args.input, sys.stdin, args.recursive, args.output)
    targets = place_masks(sources, args.output, default_suffix(args.format))
    kept = [] if args.no_save else targets
    unknown = [path for path in kept if path.suffix.lower() not in (*PICTURES, ARRAY)]
    if unknown:
        raise UserError(
            f'cannot write {first_few(unknown)}; expected a name in {", ".join((*PICTURES, ARRAY))}'
        )
    inputs = [source.path for source in sources]
    shown = targets if args.viz else []
    sheets = [path.with_name(f'{path.stem.removesuffix("_OUT")}_VIZ.png') for path in shown]
    written = kept + sheets + ([args.rle] if args.rle else [])
    check_places(inputs, written)
    names = Counter(path.name for path in inputs if args.rle)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(f'--rle names images without folders, and {first_few(twice)} comes twice')
    wanted = [True] * len(sources)
    if not args.no_save and not args.overwrite:
        wanted = without_existing(sources, targets, args.output, args.skip_existing)
    if left_out:
        print(f'note: {len(left_out)} files left out: {first_few(left_out)}')
    if not all(wanted):
        print(f'note: {wanted.count(False)} masks are there already and are left as they are')
    nothing = [None] * len(inputs)
    jobs = zip(inputs, kept or nothing, sheets or nothing, strict=True)
    return [Job(*job) for job, take in zip(jobs, wanted, strict=True) if take]


def prepare(
    args: argparse.Namespace, jobs: list[Job], facts: list[ImageMetadata | None]
) -> PredictionPipeline:
    """The networks, loaded and ready; UserError for outputs and inputs that do not fit them."""
    predictors = [
        Predictor.load(path, args.scale, args.device, args.amp, args.classes, args.bilinear)
        for path in args.model
    ]
    predictor = average(predictors, args.model)
    predictor.tiling, predictor.mirrored = args.tiling, args.tta == 'flip'
    threshold = predictor.threshold(args.mask_threshold)
    if not args.no_save:
        check_form(args.format, [job.target for job in jobs], predictor.masks)
    if args.rle and len(predictor.masks.values) > 2:
        raise UserError(
            f'--rle is of one foreground; {args.model[0]} has {len(predictor.masks.values)} classes'
        )
    known = [(job.source, fact) for job, fact in zip(jobs, facts, strict=True) if fact]
    check_channels(known, predictor.model.n_channels)
    seen = [predictor.size_seen(fact.size, str(path)) for path, fact in known]
    width, height = max(seen, key=lambda size: size[0] * size[1], default=(1, 1))
    tiling = None if predictor.tiling else predictor.tiling_for((height, width))
    if tiling:
        print(f'note: memory does not hold {width} x {height} pixels at once: taken by {tiling}')
    set_backend(args, predictor, sum(w * h for w, h in seen) * (1 + predictor.mirrored))
    return PredictionPipeline(
        predictor, threshold, args.format, args.batch_size, args.largest_component, bool(args.rle)
    )


def set_backend(args: argparse.Namespace, predictor: Predictor, pixels: int) -> None:
    """Let the back end asked for compute the networks, or the best one for so many pixels."""
    if args.quantize == 'none':
        device = predictor.precision.device
        backend = choose_backend(args.backend, device, pixels, predictor.model)
        if backend != 'torch':
            print(f'note: computed by {backend}')
        predictor.use_backend(backend)
        return
    check_int8(predictor.precision.device, predictor.model)
    with local_main_process_first():
        dataset = SegmentationDataset(
            args.calibration_images, args.calibration_masks, predictor.scale, None,
            channels=predictor.model.n_channels, mask_values=predictor.masks,
        )  # fmt: skip
        dataset.check_sizes()
        from utils.inference.backends.quantization import (
            quantize,  # which needs packages of its own
        )

        print(quantize(predictor, dataset, pooled_dice))


def run(
    args: argparse.Namespace,
    prediction: PredictionPipeline,
    jobs: list[Job],
    facts: list[ImageMetadata | None],
) -> list[str | None]:
    """Predict and write each image; returns, for each, why it could not be read, or None."""
    pixels = {
        job: fact.size[0] * fact.size[1]
        for job, fact in zip(jobs, shard(facts), strict=True)
        if fact
    }
    outcomes = prediction.outcomes(jobs, lambda job: pixels.get(job, 0))
    failures: list[str | None] = []

    def finished() -> Iterator[Outcome]:
        """Each outcome, once it is told."""
        with tqdm(
            total=len(jobs), desc='Predicting', unit='img', leave=False,
            disable=None if len(jobs) > FEW else True,
        ) as bar:  # fmt: skip
            for outcome in outcomes:
                failures.append(None if outcome.failure is None else str(outcome.failure))
                bar.update()
                if outcome.failure is None:
                    tell(outcome, prediction.predictor)
                    yield outcome

    if args.rle:
        rows = ((outcome.job.source.name, outcome.runs) for outcome in finished())
        write_submission(rows, own_part(args.rle, rank()))
    else:
        for _ in finished():
            pass
    return failures


def tell(outcome: Outcome, predictor: Predictor) -> None:
    """Print an image's shares of the classes, and show it where that was asked for."""
    job = outcome.job
    tqdm.write(f'{job.source}{f" -> {job.target}" if job.target else ""}: {outcome.shares}')
    if job.sheet:
        show_or_save(shown(job.source, predictor), outcome.indices, job.source.name, job.sheet)


def own_part(path: Path, process: int) -> Path:
    """The submission that a process writes: the file itself where there is one process."""
    return path if world_size() == 1 else path.with_name(f'{path.stem}.{process}{path.suffix}')


def report(jobs: list[Job], failures: list[str | None], seconds: float) -> int:
    """Say how it went; the exit code is 1 where some images of many could not be read."""
    reasons = [reason for reason in failures if reason]
    if reasons and len(jobs) == 1:
        raise UserError(reasons[0])
    if len(jobs) > FEW:
        done = len(jobs) - len(reasons)
        print(f'{done} images in {seconds:.1f} s, {done / seconds:.3g} a second')
    if reasons:
        print(f'error: {len(reasons)} of {len(jobs)} images could not be read:', file=sys.stderr)
        print('\n'.join(reasons), file=sys.stderr)
    return 1 if reasons else 0


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_program(predict, get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
