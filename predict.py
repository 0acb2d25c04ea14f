"""Predict masks for new images.

    python predict.py -i img.jpg -o out.jpg                  # with MODEL.pth
    python predict.py -m checkpoints/best.pth -i a.jpg b.jpg # writes a_OUT.png and b_OUT.png
    python predict.py -m checkpoints/best.pth -i imgs/ -o masks/
    python predict.py -m checkpoints/best.pth -i test/ --rle submission.csv
    torchrun --nproc-per-node=4 predict.py -m checkpoints/best.pth -i imgs/ -o masks/

Masks have the encoding of the training masks: white on black for Carvana. --format chooses another
form: class indices, class colours, probabilities, or the input with its mask tinted.
"""

import argparse
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from utils.inference import options
from utils.runtime.cli import ProgramParser, add_debug_option, run_program
from utils.runtime.errors import UserError

if TYPE_CHECKING:  # importing torch takes seconds: -h and argument errors come first
    import numpy as np
    import torch
    from PIL import Image

    from utils.inference.predictor import Predictor


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = ProgramParser('Predict masks from input images', options.ORIGINAL)
    options.add_input_options(parser.add_argument_group('Data'))
    options.add_model_options(parser.add_argument_group('Model'))
    options.add_output_options(parser.add_argument_group('Output'))
    add_debug_option(parser)
    return parser


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args(argv)


def predict(args: argparse.Namespace) -> int:
    """Predict masks for all inputs, each rank its shard of them; return the exit code.

    Options and names are checked before the network is loaded, and all headers before it is used.
    """
    from utils.images.decoding import pictures_of_any_size
    from utils.inference.outputs.formats import check_output_format
    from utils.inference.pipeline import PredictionPipeline
    from utils.inference.results import predict_jobs, summarize
    from utils.inference.work_list import check_inputs, plan_jobs, read_all_metadata

    options.check_options(args)
    jobs = plan_jobs(args)
    if not jobs:
        print('all masks exist already: nothing to do')
        return 0
    with pictures_of_any_size() if args.tile else nullcontext():
        metadata = read_all_metadata(jobs)
        predictor = load_predictor(args)
        device, names = predictor.precision.device, ', '.join(args.model)
        print(f'Using device {device}. Model loaded! {names} at scale {predictor.scale:g}')
        threshold = predictor.threshold(args.mask_threshold)
        targets = [job.target for job in jobs if job.target]
        check_output_format(args.format, targets, predictor.masks)
        if args.rle and (classes := len(predictor.masks.values)) > 2:
            raise UserError(
                f'--rle needs one foreground class; {args.model[0]} has {classes} classes'
            )
        use_backend(args, predictor, check_inputs(jobs, metadata, predictor))
        pipeline = PredictionPipeline(
            predictor, threshold, args.format, args.batch_size, args.largest_component,
            rle=bool(args.rle),
        )  # fmt: skip
        started = time.perf_counter()
        failures = predict_jobs(pipeline, jobs, metadata, args.rle)
    return summarize(jobs, failures, time.perf_counter() - started)


def load_predictor(args: argparse.Namespace) -> 'Predictor':
    """Load the networks of --model as one predictor."""
    from utils.images.decoding import PILLOW_NOTE
    from utils.inference.ensemble import average_predictors
    from utils.inference.predictor import Predictor

    settings = (args.scale, args.device, args.amp, args.classes, args.bilinear)
    predictor = average_predictors([Predictor.load(m, *settings) for m in args.model], args.model)
    predictor.tiling, predictor.mirrored = args.tiling, args.tta == 'flip'
    if predictor.as_original:
        print(PILLOW_NOTE)
    return predictor


def use_backend(args: argparse.Namespace, predictor: 'Predictor', pixels: int) -> None:
    """Use the backend of --backend or --quantize, or the best one for so many pixels."""
    from utils.inference.backends.selection import choose_backend

    asked = args.backend if args.quantize == 'none' else args.quantize
    backend = choose_backend(
        asked, predictor.precision.device, pixels, *predictor.models,
        as_original=predictor.as_original,
    )  # fmt: skip
    if backend not in ('int8', 'torch', 'unfolded'):
        print(f'note: using the {backend} backend')
    if backend != 'int8':
        predictor.use_backend(backend)
        return
    from utils.data.dataset import SegmentationDataset
    from utils.data.pairing.patterns import is_pattern
    from utils.evaluation.scoring import pooled_dice
    from utils.inference.backends.quantization import quantize  # needs its own packages
    from utils.runtime.distributed import local_main_process_first

    for source in (args.calibration_images, args.calibration_masks):
        if not source.exists() and not is_pattern(source):
            raise UserError(
                f'--quantize int8 measures on pictures and masks like those of the training, and '
                f'{source} does not exist. Name them with --calibration-images and '
                '--calibration-masks.'
            )
    with local_main_process_first():
        dataset = SegmentationDataset(
            args.calibration_images, args.calibration_masks, predictor.scale, None,
            channels=predictor.model.n_channels, mask_values=predictor.masks,
            decode=predictor.decode, image_range=predictor.image_range,
        )  # fmt: skip
        dataset.check_sizes()
        dataset.check_values()
        print(quantize(predictor, dataset, pooled_dice))


def predict_img(
    net: 'torch.nn.Module',
    full_img: 'Image.Image',
    device: 'torch.device',
    scale_factor: float = 1,
    out_threshold: float = 0.5,
) -> 'np.ndarray':
    """Return class indices (H, W) int64 of a picture, as the original predicts them.

    net: on `device`; it is left in evaluation mode. The picture is not turned by EXIF, and has to
    have the network's channels. Of one class, the foreground is where the probability is over
    `out_threshold`. For the fast path, see docs/python.md.
    """
    import torch
    from torch.nn import functional as F

    from utils.images.original import image_array
    from utils.inference.logits import logits_of

    net.eval()
    images = torch.from_numpy(image_array(full_img, scale_factor))[None]
    with torch.inference_mode():
        logits = logits_of(net, images.to(device, torch.float32)).cpu()
        logits = F.interpolate(logits, full_img.size[::-1], mode='bilinear')
        one = logits.shape[1] == 1
        classes = logits[:, 0].sigmoid() > out_threshold if one else logits.argmax(dim=1)
    return classes[0].long().numpy()


def mask_to_image(mask: 'np.ndarray', mask_values: list) -> 'Image.Image':
    """Return class indices (H, W), or scores (K, H, W), as a picture of the mask values.

    One bit for values [0, 1], 8-bit grey for others, RGB for [R, G, B]. Indices without a value
    become 0. masks.encoding.to_image gives palettes, too, in the form of the training masks.
    """
    import numpy as np
    from PIL import Image

    mask = np.asarray(mask)
    classes = mask.argmax(axis=0) if mask.ndim == 3 else mask.astype(np.int64)
    values = np.array(mask_values, dtype=bool if list(mask_values) == [0, 1] else np.uint8)
    table = np.zeros((max(int(classes.max()) + 1, len(values)), *values.shape[1:]), values.dtype)
    table[: len(values)] = values
    return Image.fromarray(table[classes])


def get_output_filenames(args: argparse.Namespace) -> list[str]:
    """Return --output, or NAME_OUT.png for each of --input."""
    return args.output or [f'{name.removesuffix(Path(name).suffix)}_OUT.png' for name in args.input]


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_program(predict, get_args(argv), 'utils.inference.results')


if __name__ == '__main__':
    sys.exit(main())
