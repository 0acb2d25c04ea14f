"""train.py --check: the contents and problems of a data set, before any training."""

import argparse
import json
from collections import Counter
from functools import partial

from utils.images.arrays import ImageRange
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE, scaled_size
from utils.images.pixel_range import check_range_option, range_of_data
from utils.masks.classes import MaskOptions, requested_encoding
from utils.masks.encoding import MaskEncoding
from utils.masks.values import KINDS, value_to_json
from utils.runtime.errors import Problem, UserError, by_kind, data_error, first_few
from utils.runtime.files import check_output_file, whole_file

from ..class_values import choose_encoding
from ..consistency import describe_duplicates
from ..network_limits import channels_of, check_sizes
from ..pairing import match_sets
from ..scan import DatasetScan, attempt, read_pairs
from ..splits import describe_groups, split_pairs


def check_data(args: argparse.Namespace, decode: str = DECODE_PATH) -> int:
    """Print the report on the data that train.py's options name; return 2 for problems, else 0.

    decode: of the recipe.
    """
    if args.json:
        check_output_file(args.json)
    report = data_report(args, decode)
    print(format_report(report))
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return 2 if report['problems'] else 0


def add_data_problems(error: UserError, args: argparse.Namespace, decode: str) -> UserError:
    """Return an error that stopped a run, with all problems of its data if they are errors."""
    if args.skip_bad:
        return error
    try:
        problems = [Problem(**problem) for problem in data_report(args, decode)['problems']]
    except UserError:
        return error
    all_problems = data_error(problems)
    if any(problem.text in str(error) for problem in problems):
        return all_problems
    return UserError(f'{error}\n{all_problems}') if problems else error


def data_report(args: argparse.Namespace, decode: str) -> dict:
    """Return the report as --json writes it; raise UserError for folders and contradictions."""
    check_range_option(args.image_range, decode)
    requested = requested_encoding(MaskOptions.from_args(args), args.masks)
    validation = (args.val_images, args.val_masks) if args.val_images else None
    pairs, problems = match_sets((args.images, args.masks), args.mask_suffix, validation)
    report = {'images': str(args.images), 'masks': str(args.masks), 'pairs': len(pairs)}
    if pairs:
        readable, wrong = read_pairs(pairs, requested, args.resize_masks, decode)
        problems += wrong
        if readable:
            report |= _contents(DatasetScan(readable, decode=decode), requested, args, problems)
    report['problems'] = [problem._asdict() for problem in sorted(problems)]
    return report


def _contents(
    scan: DatasetScan, requested: MaskEncoding, args: argparse.Namespace, problems: list[Problem]
) -> dict:
    """Return the contents of the readable pairs; add the problems of all together to `problems`."""
    encoding = partial(choose_encoding, scan, requested, args.classes)
    masks = attempt(encoding, problems, kind='mask values') or MaskEncoding(scan.values())
    asked = None if args.channels == 'auto' else args.channels
    channels = attempt(lambda: channels_of(scan, asked, scan.decode), problems, kind='channels')
    images = [image for _, image, _ in scan.metadata]
    sizes = [scaled_size(image.size, args.scale) for image in images]
    attempt(lambda: check_sizes(scan.pairs, sizes, args.scale), problems, kind='too small')
    split = attempt(lambda: split_pairs(scan.pairs, args), problems, kind='split')
    training, validation = split or ([], [])
    measured = attempt(lambda: _range(scan, training, channels, args), problems, kind='values')
    image_range, range_note = measured or (None, '')
    notes = scan.notes(masks, channels or 3) + ([range_note] if range_note else [])
    notes += describe_groups(scan.pairs, training, args) if training else []
    files = ([scan.pairs[k].image for k in positions] for positions in (training, validation))
    notes += describe_duplicates(*files)
    return {
        'training': len(training),
        'validation': len(validation),
        'modes': dict(Counter(image.mode for image in images).most_common()),
        'sizes': dict(Counter('{} x {}'.format(*image.size) for image in images).most_common()),
        'mask_kinds': dict(Counter(KINDS.get(m.mode, '16 bits') for _, _, m in scan.metadata)),
        'image_range': image_range,
        'classes': _classes(scan, masks),
        'notes': notes,
    }


def _range(
    scan: DatasetScan, training: list[int], channels: int | None, args: argparse.Namespace
) -> tuple[ImageRange | None, str]:
    """Return what range_of_data does; nothing where images are read as the original does."""
    if scan.decode == PILLOW_DECODE or not channels:
        return None, ''
    images = [(pair.image, image) for pair, image, _ in scan.metadata]
    return range_of_data(images, training, channels, args.image_range)


def _classes(scan: DatasetScan, masks: MaskEncoding) -> list[dict]:
    """Return a row for each class; share: of all pixels, masks: their number."""
    shares = scan.shares()
    rows = []
    for k, (value, name) in enumerate(zip(masks.values, masks.titles, strict=True)):
        # Beside colours, a grey mask counts as one of the colours with R = G = B.
        same = {value, value[0]} if isinstance(value, tuple) and len(set(value)) == 1 else {value}
        count = sum(not same.isdisjoint(mask.counts) for _, _, mask in scan.metadata)
        row = {'class': k, 'value': value_to_json(value), 'name': name}
        rows.append(row | {'share': shares.get(value, 0), 'masks': count})
    return rows


def format_report(report: dict) -> str:
    """Return the report as text: contents, notes, then the problems by kind."""
    lines = [f'{report["images"]} and {report["masks"]}: {report["pairs"]} pairs']
    if 'classes' in report:
        lines[0] += f', {report["training"]} to train on, {report["validation"]} to validate on'
        for title in ('modes', 'sizes', 'mask_kinds'):
            kinds = (f'{kind} ({count})' for kind, count in report[title].items())
            lines.append(f'{title.replace("_", " ")}: {first_few(kinds, 5)}')
        for row in report['classes']:
            name = '' if row['name'] == str(row['value']) else f' {row["name"]}'
            lines.append(
                f'class {row["class"]}{name}: value {row["value"]}, {100 * row["share"]:.3g} % of '
                f'the pixels, in {row["masks"]} masks'
            )
        lines += report['notes']
    lines += by_kind(Problem(**problem) for problem in report['problems'])
    count = len(report['problems'])
    lines.append(f'{count} problems' if count else 'nothing is wrong')
    return '\n'.join(lines)
