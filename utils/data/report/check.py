"""The contents and problems of a data set, before any training, as --check reports them."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from utils.images.arrays import ImageRange
from utils.images.decoding import PILLOW_DECODE, scaled_size
from utils.images.pages import file_of, page_of
from utils.images.pixel_range import check_range_option, range_of_data
from utils.masks.background import describe_background
from utils.masks.classes import MaskOptions, requested_encoding
from utils.masks.encoding import MaskEncoding
from utils.masks.joined import JoinedMask, mask_sources
from utils.masks.tables.lookup import ClassTable
from utils.masks.values import KINDS, value_to_json
from utils.runtime.errors import Problem, UserError, by_kind, data_error, first_few, proposed

from ..class_values import choose_encoding, describe_foreground, named_by_files, tables_of
from ..consistency import describe_duplicates
from ..network_limits import channels_of, check_sizes
from ..pairing.matching import Matching, Pair
from ..pairing.sets import match_sets
from ..scan import DatasetScan, attempt, read_scan
from ..splits import describe_groups, describe_percent, split_pairs
from ..suggestions import check_classes_at_scale, suggest


@dataclass(frozen=True)
class Contents:
    """What a page shows beside the report: the pairs, and how they are read.

    pairs: unreadable ones too. masks: None if the values of the masks are in no order. training,
    validation: positions in the scan.
    """

    pairs: Sequence[Pair]
    scan: DatasetScan
    masks: MaskEncoding | None = None
    channels: int | None = None
    image_range: ImageRange | None = None
    training: Sequence[int] = ()
    validation: Sequence[int] = ()


def add_data_problems(error: UserError, args: argparse.Namespace, decode: str) -> UserError:
    """Return an error that stopped a run, with all problems of its data if they are errors."""
    if args.skip_bad:
        return error
    try:
        report = data_report(args, decode)
    except UserError:
        return error
    problems = [Problem(**problem) for problem in report['problems']]
    all_problems = data_error(problems, report['proposals'])
    if any(problem.text in str(error) for problem in problems):
        return all_problems
    return UserError(f'{error}\n{all_problems}') if problems else error


def data_report(args: argparse.Namespace, decode: str) -> dict:
    """Return the report as --json writes it; raise UserError for folders and contradictions.

    With --skip-bad, `left_out` has the problems of the pairs that training leaves out.
    """
    return survey(args, decode)[0]


def survey(args: argparse.Namespace, decode: str) -> tuple[dict, Contents]:
    """Return data_report's report, and what a page shows beside it."""
    check_range_option(args.image_range, decode)
    validation = (args.val_images, args.val_masks) if args.val_images else None
    lists = args.list, args.val_list
    matching = match_sets((args.images, args.masks), args.mask_suffix, validation, lists)
    tables = tables_of(matching, args.masks)
    requested = requested_encoding(MaskOptions.from_args(args), tables)
    requested = named_by_files(requested, matching.class_names)
    problems, left_out = matching.problems, []
    report = {'images': str(args.images), 'masks': str(args.masks), 'pairs': len(matching.pairs)}
    report |= {name: str(path) if path else None
               for name, path in zip(('list', 'val_list'), lists, strict=True)}  # fmt: skip
    contents = Contents(matching.pairs, DatasetScan([], decode=decode))
    if matching.pairs:
        scan, problems = read_scan(
            matching, requested, args.resize_masks, args.skip_bad, decode, args.scale
        )
        left_out = scan.left_out
        if args.skip_bad:
            report['pairs'] = len(scan.pairs)
        if scan.pairs:
            found, contents = _contents(scan, requested, args, problems, matching, tables)
            report |= found
    report['rule'], report['proposals'] = matching.rule, matching.proposals
    report['left_out'] = [problem._asdict() for problem in sorted(left_out)]
    report['problems'] = [problem._asdict() for problem in sorted(problems)]
    return report, contents


def _contents(
    scan: DatasetScan, requested: MaskEncoding, args: argparse.Namespace, problems: list[Problem],
    matching: Matching, tables: Sequence[ClassTable],
) -> tuple[dict, Contents]:  # fmt: skip
    """Return the contents of the readable pairs; add the problems of all together to `problems`."""
    options = MaskOptions.from_args(args)
    encoding = partial(choose_encoding, scan, requested, options, tables)
    chosen = attempt(encoding, problems, kind='mask values')
    masks = chosen or MaskEncoding(scan.values(), background=None)
    asked = None if args.channels == 'auto' else args.channels
    channels = attempt(lambda: channels_of(scan, asked, scan.decode), problems, kind='channels')
    images = [image for _, image, _ in scan.metadata]
    sizes = [scaled_size(image.size, args.scale) for image in images]
    attempt(lambda: check_sizes(scan.pairs, sizes, args.scale), problems, kind='too small')
    split = attempt(lambda: split_pairs(scan.pairs, args), problems, kind='split')
    training, validation = split or ([], [])
    measured = attempt(lambda: _range(scan, training, channels, args), problems, kind='values')
    image_range, range_note = measured or (None, '')
    notes = [describe_background(masks, options)] if chosen else []
    notes += scan.notes(masks, channels or 3) + ([range_note] if range_note else [])
    if chosen:
        notes += [f'note: {text}' for text in suggest(scan, masks, options)]
        at_scale = partial(check_classes_at_scale, scan, masks, args.scale, training)
        notes += attempt(at_scale, problems, kind='classes that vanish') or []
    notes += scan.hints
    notes += describe_groups(scan.pairs, training, args) if training else []
    notes += describe_percent(args, len(validation), len(scan.pairs)) if training else []
    notes += describe_foreground(scan, masks, training, validation) if chosen else []
    files = ([scan.pairs[k].image for k in positions] for positions in (training, validation))
    notes += describe_duplicates(*files)
    shown = Contents(matching.pairs, scan, chosen, channels, image_range, training, validation)
    return {
        'training': len(training),
        'validation': len(validation),
        'modes': dict(Counter(image.mode for image in images).most_common()),
        'sizes': dict(Counter('{} x {}'.format(*image.size) for image in images).most_common()),
        'mask_kinds': dict(Counter(KINDS.get(m.mode, '16 bits') for _, _, m in scan.metadata)),
        'image_range': image_range,
        'classes': _classes(scan, masks),
        'ignore': [value_to_json(value) for value in masks.ignore],
        'binarize': masks.threshold,
        'mask_divisor': masks.divisor,
        'background': masks.background,
        'notes': notes,
        'items': _items(scan, set(training), matching.class_names) if split else [],
    }, shown


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
    shares, at_scale = scan.shares(), scan.pixels(range(len(scan.metadata)), at_scale=True)
    rows: list[dict] = []
    for k, (value, name) in enumerate(zip(masks.values, masks.titles, strict=True)):
        # Beside colours, a grey mask counts as one of the colours with R = G = B.
        same = {value, value[0]} if isinstance(value, tuple) and len(set(value)) == 1 else {value}
        count = sum(not same.isdisjoint(mask.counts) for _, _, mask in scan.metadata)
        row: dict = {'class': k, 'index': k, 'value': value_to_json(value), 'name': name}
        row |= {'values': [row['value']], 'share': shares.get(value, 0), 'masks': count}
        rows.append(row | {'share_at_scale': at_scale.get(value, 0) / sum(at_scale.values())})
    return rows


def _items(scan: DatasetScan, training: set[int], class_names: list[str]) -> list[dict]:
    """Return the files of each item, and its part of the split; pages count from 0."""
    items = []
    for k, pair in enumerate(scan.pairs):
        joined = pair.mask.values if isinstance(pair.mask, JoinedMask) else ()
        names = [class_names[value - 1] for value in joined] if class_names else []
        masks = [
            {'path': str(file_of(source)), 'page': page_of(source), 'class': name}
            for source, name in zip_longest(mask_sources(pair.mask), names)
        ]
        split = 'training' if k in training else 'validation'
        items.append({'id': pair.id, 'image': str(file_of(pair.image)),
                      'page': page_of(pair.image), 'masks': masks, 'split': split})  # fmt: skip
    return items


def format_report(report: dict) -> str:
    """Return the report as text: contents, notes, then the problems by kind."""
    source = report['list'] or f'{report["images"]} and {report["masks"]}'
    lines = [f'{source}: {report["pairs"]} pairs']
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
    if report['left_out']:
        lines.append(f'left out for {len(report["left_out"])} problems:')
        lines += by_kind(Problem(**problem) for problem in report['left_out'])
    lines += by_kind(Problem(**problem) for problem in report['problems'])
    lines += proposed(report['proposals'])
    count = len(report['problems'])
    right = 'nothing else is wrong' if report['left_out'] else 'nothing is wrong'
    lines.append(f'{count} problems' if count else right)
    return '\n'.join(lines)
