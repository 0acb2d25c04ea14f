"""train.py --check: what a data set holds and all that is wrong with it, before any training."""

import argparse
import json
from collections import Counter
from collections.abc import Callable

from utils.data.class_values import choose_encoding
from utils.data.consistency import describe_duplicates
from utils.data.input_checks import channels_of, check_sizes
from utils.data.metadata import KINDS
from utils.data.pairing import match_sets
from utils.data.scan import Scan, make_scan, read_pairs
from utils.data.splits import describe_groups, split_pairs
from utils.images.decoding import scaled_size
from utils.images.metadata import ImageMetadata
from utils.masks.classes import asked_encoding, wanted_of
from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import Problem, UserError, by_kind, data_error
from utils.runtime.files import check_output_file, whole_file


def check(args: argparse.Namespace) -> int:
    """Print the report of the data that train.py's options name; 2 where something is wrong."""
    if args.json:
        check_output_file(args.json)
    report = inspect_data(args)
    print(format_report(report))
    if args.json:
        with whole_file(args.json) as part:
            part.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return 2 if report['problems'] else 0


def with_all_else(error: UserError, args: argparse.Namespace) -> UserError:
    """An error that stops a run, with all else that is wrong with its data and not skipped."""
    if args.skip_bad:
        return error
    try:
        problems = [Problem(**problem) for problem in inspect_data(args)['problems']]
    except UserError:
        return error
    all_problems = data_error(problems)
    if any(problem.text in str(error) for problem in problems):
        return all_problems
    return UserError(f'{error}\n{all_problems}') if problems else error


def inspect_data(args: argparse.Namespace) -> dict:
    """The report as plain values: counts, classes, notes and problems, as --json writes it.

    Raises UserError for folders that are missing or empty and options that contradict themselves.
    """
    asked = asked_encoding(wanted_of(args), args.masks)
    held_out = (args.val_images, args.val_masks) if args.val_images else None
    matched = match_sets((args.images, args.masks), args.mask_suffix, held_out)
    report: dict = {'images': str(args.images), 'masks': str(args.masks)}
    report['pairs'] = len(matched.pairs)
    problems = list(matched.problems)
    if matched.pairs:
        facts, wrong = read_pairs(matched.pairs, masks=asked, resize_masks=args.resize_masks)
        problems += wrong
        readable = [k for k, fact in enumerate(facts) if fact]
        if readable:
            scan = make_scan([matched.pairs[k] for k in readable], [facts[k] for k in readable])
            report |= _contents(scan, asked, args, problems)
    report['problems'] = [problem._asdict() for problem in sorted(problems)]
    return report


def _contents(
    scan: Scan, asked: MaskEncoding, args: argparse.Namespace, problems: list[Problem]
) -> dict:
    """What the readable pairs hold; what is wrong with them together is added to `problems`."""

    def attempt(kind: str, work: Callable[[], object]) -> object | None:
        """What `work` returns; its UserError is a problem, and gives None."""
        try:
            return work()
        except UserError as error:
            problems.append(Problem(kind, str(error)))
            return None

    masks = attempt('mask values', lambda: choose_encoding(scan, asked, args.classes))
    channels = None if args.channels == 'auto' else args.channels
    channels = attempt('channels', lambda: channels_of(scan, channels))
    sizes = [scaled_size(fact.image.size, args.scale) for fact in scan.facts]
    attempt('too small', lambda: check_sizes(scan.pairs, sizes, args.scale))
    training, validation = attempt('split', lambda: split_pairs(scan.pairs, args)) or ([], [])
    masks = masks or MaskEncoding(scan.values())
    images = [pair.image for pair in scan.pairs]
    notes = scan.notes(masks, channels or 3)
    notes += describe_groups(scan.pairs, training, args) if training else []
    notes += describe_duplicates([images[k] for k in training], [images[k] for k in validation])
    return {
        'training': len(training),
        'validation': len(validation),
        'modes': _counted(scan, lambda image: image.mode),
        'sizes': _counted(scan, lambda image: f'{image.size[0]} x {image.size[1]}'),
        'mask_kinds': dict(Counter(KINDS.get(f.mask_mode, '16 bits') for f in scan.facts)),
        'classes': _classes(scan, masks),
        'notes': notes,
    }


def _counted(scan: Scan, what: Callable[[ImageMetadata], str]) -> dict[str, int]:
    return dict(Counter(what(fact.image) for fact in scan.facts).most_common())


def _classes(scan: Scan, masks: MaskEncoding) -> list[dict]:
    """A row a class: its number, value, name, share of all pixels, and in how many masks it is."""
    shares = scan.shares()
    rows = []
    for k, (value, name) in enumerate(zip(masks.values, masks.titles, strict=True)):
        key = tuple(value) if isinstance(value, list) else value
        grey = value[0] if isinstance(value, list) and len(set(value)) == 1 else None
        files = sum(key in fact.counts or grey in fact.counts for fact in scan.facts)
        rows.append(
            {'class': k, 'value': value, 'name': name, 'share': shares.get(key, 0), 'masks': files}
        )
    return rows


def format_report(report: dict) -> str:
    """The report for the terminal: contents, notes, then problems, those of a kind together."""
    lines = [f'{report["images"]} and {report["masks"]}: {report["pairs"]} pairs']
    if 'classes' in report:
        lines[0] += f', {report["training"]} to train on, {report["validation"]} to validate on'
        for title in ('modes', 'sizes', 'mask_kinds'):
            kinds = [f'{kind} ({count})' for kind, count in report[title].items()]
            more = f' and {len(kinds) - 5} more' if len(kinds) > 5 else ''
            lines.append(f'{title.replace("_", " ")}: {", ".join(kinds[:5])}{more}')
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
