"""Which mask values are which classes, from options and classes.json."""

import argparse
import json
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

from utils.runtime.errors import UserError, first_few

from .encoding import MAX_CLASSES, MaskEncoding
from .values import MaskValue, format_values, value_from_json

FORM = (
    'expected one object of names and values, in class order: {"background": 0, "body": 128}, or '
    'colours {"sky": [0, 0, 255]}'
)


@dataclass(frozen=True)
class MaskOptions:
    """The command-line options of these names; with the defaults, masks are taken as found."""

    classes: int | None = None
    mask_values: list[MaskValue] | tuple[()] = ()
    snap_masks: bool = False
    binarize: int | None = None
    ignore_value: list[MaskValue] | tuple[()] = ()
    mask_divisor: int | None = None
    background: MaskValue | str | None = None  # 'none': no class is

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> 'MaskOptions':
        """Take the options from a command line, where colours are lists."""
        options = {field.name: getattr(args, field.name) for field in fields(cls)}
        for name in ('mask_values', 'ignore_value'):
            options[name] = [value_from_json(value) for value in options[name]]
        if isinstance(options['background'], list):
            options['background'] = value_from_json(options['background'])
        return cls(**options)


def requested_encoding(options: MaskOptions, mask_dir: Path) -> MaskEncoding:
    """Return the encoding of options and classes.json; raise UserError where they contradict."""
    values, names, source = list(options.mask_values), None, '--mask-values'
    ignore = list(options.ignore_value)
    if options.binarize is not None:
        if values or options.snap_masks:
            raise UserError(
                '--binarize makes two classes, 0 and 255; leave --mask-values and --snap-masks out'
            )
        values, source = [0, 255], '--binarize'
    if options.mask_divisor and (options.binarize is not None or options.snap_masks):
        raise UserError(
            '--mask-divisor takes the class from each value; leave --binarize and --snap-masks out'
        )
    found = read_class_names(mask_dir)
    if found and options.binarize is None:
        path, table = found
        table = {name: value for name, value in table.items() if value not in ignore}
        if values:
            known = [name for v in values for name, value in table.items() if v == value]
            names = known if len(known) == len(values) else None
        else:
            values, names, source = list(table.values()), list(table), str(path)
    _check_values(values, options, source)
    if values and options.binarize != 0:  # which takes colours too
        ignore = match_ignored(ignore, values)
    both = [value for value in values if value in ignore]
    if both and options.binarize is None:
        raise UserError(f'{both[0]} is in --ignore-value and in {source}; leave it out of one')
    threshold, snap = options.binarize, options.snap_masks
    return MaskEncoding(
        values, names, ignore=ignore, threshold=threshold, snap=snap, divisor=options.mask_divisor
    )


def match_ignored(ignore: list[MaskValue], values: list[MaskValue]) -> list[MaskValue]:
    """Return ignored values as greys or colours, as `values` are; raise UserError if impossible."""
    colours = isinstance(values[0], tuple)
    matched = []
    for value in ignore:
        if colours and isinstance(value, int):
            value = (value, value, value)
        elif not colours and isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        bands = value if isinstance(value, tuple) else ()
        if bool(bands) != colours or not all(0 <= band <= 255 for band in bands):
            raise UserError(
                f'--ignore-value {format_values([value])} cannot be used with the values '
                f'{values[:8]}; expected all grey, or all colours of 0 to 255'
            )
        matched.append(value)
    return matched


def _check_values(values: list[MaskValue], options: MaskOptions, source: str) -> None:
    """Raise UserError if the values cannot be classes; `source` names where they are from."""
    if options.snap_masks and not values:
        raise UserError('--snap-masks needs the values: give --mask-values, for instance 0,255')
    if len({isinstance(value, int) for value in values}) > 1 or len(set(values)) < len(values):
        raise UserError(
            f'{source} is {values}; expected values that differ, all grey or all colours'
        )
    if values and not 2 <= len(values) <= MAX_CLASSES:
        raise UserError(f'{source} has {len(values)} values; expected 2 to {MAX_CLASSES}')
    expected = 2 if options.classes == 1 else options.classes
    if values and expected and expected != len(values):
        raise UserError(
            f'--classes is {options.classes} but {source} has {len(values)}: {values}. '
            'Leave --classes out, or correct the list.'
        )


def read_class_names(mask_dir: Path) -> tuple[Path, dict[str, MaskValue]] | None:
    """Read classes.json of the mask folder or its parent: its path, and the value of each name.

    Returns None if there is no such file. Raises UserError for a file that cannot be used.
    """
    path = mask_dir / 'classes.json'
    if not path.is_file():
        path = mask_dir.resolve().parent / 'classes.json'
    if not path.is_file():
        return None
    try:  # pairs, because a dict would lose all but the last of equal names
        pairs = json.loads(path.read_text(encoding='utf-8-sig'), object_pairs_hook=list)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}; {FORM}') from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise UserError(f'{path}: {FORM}')
    wrong = [name for name, value in pairs if not _is_value(value)]
    if wrong:
        raise UserError(f'{path}: no mask value for {first_few(wrong)}; {FORM}')
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise UserError(f'{path}: {first_few(repeated)} is named twice; {FORM}')
    return path, {name: value_from_json(value) for name, value in pairs}


def _is_value(value: object) -> bool:
    """Whether a JSON value is an int or [R, G, B]."""
    if isinstance(value, list):
        return len(value) == 3 and all(_is_value(v) and 0 <= v <= 255 for v in value)
    return isinstance(value, int) and not isinstance(value, bool)
