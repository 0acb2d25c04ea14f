"""Which mask values are which classes: as found, as asked for, or as a network has learned them."""

import argparse
import json
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

from utils.runtime.errors import UserError, first_few

from .encoding import MAX_CLASSES, MaskEncoding, Value

FORM = (
    'expected one object of names and values, in class order: {"background": 0, "body": 128}, or '
    'colours {"sky": [0, 0, 255]}'
)


@dataclass(frozen=True)
class Wanted:
    """What is asked of masks by options of that name; None and empty take them as found."""

    classes: int | None = None
    mask_values: tuple[Value, ...] | list[Value] = ()
    snap_masks: bool = False
    binarize: int | None = None
    ignore_value: tuple[Value, ...] | list[Value] = ()


def wanted_of(args: argparse.Namespace) -> Wanted:
    """What a command line asks of masks."""
    return Wanted(**{field.name: getattr(args, field.name) for field in fields(Wanted)})


def asked_encoding(wanted: Wanted, mask_dir: Path) -> MaskEncoding:
    """How to read the masks of a folder, as far as options and classes.json say; maybe no values.

    Raises UserError where they contradict themselves or each other.
    """
    values, names, source = list(wanted.mask_values), None, '--mask-values'
    if wanted.binarize is not None:
        if values or wanted.snap_masks:
            raise UserError(
                '--binarize makes two classes of its own; leave --mask-values and --snap-masks out'
            )
        values, source = [0, 255], '--binarize'
    named = read_class_names(mask_dir)
    if named and wanted.binarize is None:
        path, table = named
        table = {name: v for name, v in table.items() if v not in wanted.ignore_value}
        if values:
            known = [name for v in values for name, w in table.items() if v == w]
            names = known if len(known) == len(values) else None
        else:
            values, names, source = list(table.values()), list(table), str(path)
    _check_list(values, wanted, source)
    ignore = list(wanted.ignore_value)
    ignore = ignored_beside(values, ignore) if values else ignore
    both = [value for value in values if value in ignore]
    if both and wanted.binarize is None:
        raise UserError(f'{both[0]} is in --ignore-value and in {source}; leave it out of one')
    return MaskEncoding(
        values,
        names,
        ignore=ignore,
        threshold=wanted.binarize,
        snap=wanted.snap_masks,
    )


def ignored_beside(values: list[Value], ignore: list[Value]) -> list[Value]:
    """Ignored values as colours or greys as the others are; grey is the colour with R = G = B."""
    colours = isinstance(values[0], list)
    taken = []
    for value in ignore:
        if colours and isinstance(value, int):
            value = [value] * 3
        elif not colours and isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, list) != colours or (colours and not _is_value(value)):
            raise UserError(
                f'--ignore-value {typed([value])} cannot be beside the values {values[:8]}; '
                'expected all grey, or all colours of 0 to 255'
            )
        taken.append(value)
    return taken


def _check_list(values: list[Value], wanted: Wanted, source: str) -> None:
    """Raise UserError for values in class order that can be no classes."""
    if wanted.snap_masks and not values:
        raise UserError('--snap-masks needs to know the values: give --mask-values, 0,255 say')
    if not values:
        return
    if len({isinstance(v, int) for v in values}) > 1 or len(values) != len(
        {tuple(v) if isinstance(v, list) else v for v in values}
    ):
        raise UserError(
            f'{source} is {values}; expected values that differ, all of them grey or all colours'
        )
    if not 2 <= len(values) <= MAX_CLASSES:
        raise UserError(f'{source} has {len(values)} values; expected 2 to {MAX_CLASSES}')
    expected = 2 if wanted.classes == 1 else wanted.classes
    if expected and expected != len(values):
        raise UserError(
            f'--classes is {wanted.classes} but {source} has {len(values)}: {values}. '
            'Leave --classes out, or mend the list.'
        )


def read_class_names(mask_dir: Path) -> tuple[Path, dict[str, Value]] | None:
    """classes.json of the mask folder or of the folder around it: its path, and name -> value.

    Values are ints or [R, G, B]. None where there is no such file; raises UserError for one that
    cannot be used.
    """
    places = (mask_dir / 'classes.json', mask_dir.resolve().parent / 'classes.json')
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        # Pairs and not a dict: of a name given twice the first would be lost.
        text = path.read_text(encoding='utf-8-sig')
        pairs = json.loads(text, object_pairs_hook=list)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}; {FORM}') from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise UserError(f'{path}: {FORM}')
    wrong = [name for name, value in pairs if not _is_value(value)]
    if wrong:
        raise UserError(f'{path}: no mask value for {first_few(wrong)}; {FORM}')
    twice = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if twice:
        raise UserError(f'{path}: {first_few(twice)} is named twice; {FORM}')
    return path, dict(pairs)


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return len(value) == 3 and all(_is_value(v) and 0 <= v <= 255 for v in value)
    return isinstance(value, int) and not isinstance(value, bool)


def typed(values: list[Value]) -> str:
    """Values as one types them: 1,2 or 0:0:255."""
    shown = [':'.join(map(str, v)) if isinstance(v, list) else str(v) for v in values[:8]]
    return ','.join(shown) + (',…' if len(values) > 8 else '')
