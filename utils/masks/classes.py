"""Which mask values are which classes, from options and classes.json."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from utils.runtime.errors import UserError, first_few

from .encoding import MaskEncoding
from .tables.formats import Entry, named_colours
from .tables.lookup import OWN, ClassTable, find_tables, void_names
from .values import MAX_CLASSES, MaskValue, format_values, value_from_json, value_to_json

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

    def kept(self) -> list[MaskValue]:
        """Return the values that are classes whatever a table calls them."""
        return [] if self.background in (None, 'none') else [self.background]  # type: ignore[list-item]


def class_tables(folders: Iterable[Path]) -> list[ClassTable]:
    """Return the class tables in the folders, or in those above: classes.json, or else all others.

    Raises UserError for a table with a mistake.
    """
    folders = list(dict.fromkeys(folders))
    for folder in folders:
        if found := read_class_names(folder):
            path, table = found
            entries = [Entry(name, value, k, 1) for k, (name, value) in enumerate(table.items())]
            return [ClassTable(path, tuple(entries))]
    above = [folder.resolve().parent for folder in folders]
    near = [place for pair in zip(folders, above, strict=True) for place in pair]
    # ADE20K's objectInfo150.txt is two folders above that of the masks.
    return find_tables(near, [folder.parent for folder in above])


def requested_encoding(options: MaskOptions, tables: Sequence[ClassTable] = ()) -> MaskEncoding:
    """Return the encoding of options and classes.json; raise UserError where they contradict.

    tables: of class_tables. Those of other programs are fitted to the masks later, by
        class_values.choose_encoding, unless the masks are snapped to their values.
    """
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
    if tables and options.binarize is None:
        if values:
            names = next(filter(None, (_names_of(values, table) for table in tables)), None)
        elif tables[0].own or options.snap_masks:
            entries = [entry for entry in tables[0].entries if entry.value not in ignore]
            void = void_names(entries, options.kept())
            ignore += [entry.value for entry in entries if entry.name in void]
            entries = [entry for entry in entries if entry.name not in void]
            values, names = [e.value for e in entries], [e.name for e in entries]
            source = str(tables[0].path)
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


def _names_of(values: list[MaskValue], table: ClassTable) -> list[str] | None:
    """Return the names of the values in a table, None if it has not all."""
    names = {value: name for name, value in table.values().items()}
    return [names[value] for value in values] if names.keys() >= {*values} else None


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
    path = mask_dir / OWN
    if not path.is_file():
        path = mask_dir.resolve().parent / OWN
    if not path.is_file():
        return None
    try:  # pairs, because a dict would lose all but the last of equal names
        text = path.read_text(encoding='utf-8-sig')
        colours = [(name, value_to_json(value)) for name, value in named_colours(json.loads(text))]
        pairs = colours or json.loads(text, object_pairs_hook=list)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path} cannot be read: {error}; {FORM}') from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise UserError(f'{path}: {FORM}')
    unwritable = [name for name, _ in pairs if not _is_text(name)]
    if unwritable:
        raise UserError(
            f'{path}: {first_few(map(ascii, unwritable))} is half a character (a lone surrogate), '
            f'which no file can hold; {FORM}'
        )
    wrong = [name for name, value in pairs if not _is_value(value)]
    if wrong:
        raise UserError(f'{path}: no mask value for {first_few(wrong)}; {FORM}')
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise UserError(f'{path}: {first_few(repeated)} is named twice; {FORM}')
    return path, {name: value_from_json(value) for name, value in pairs}


def _is_value(value: object) -> bool:
    """Whether a JSON value is an int, of at most 64 bits, or [R, G, B]."""
    if isinstance(value, list):
        return len(value) == 3 and all(type(band) is int and 0 <= band <= 255 for band in value)
    return type(value) is int and -(2**63) <= value < 2**63


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
