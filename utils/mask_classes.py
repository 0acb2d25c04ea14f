"""Which mask values are which classes: as found, as asked for, or as a network has learned them."""

import argparse
import json
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path

from .errors import UserError, first_few
from .mask_values import MAX_CLASSES, MaskEncoding, Value
from .pair_facts import SMOOTHED
from .palettes import by_index
from .scan import Scan

MAX_GUESSED_CLASSES = 32  # more values than this are a lossy or smoothed mask, not classes
LOSSY = ('.jpg', '.jpeg')
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
    ignore = _ignored_beside(values, ignore) if values else ignore
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


def _ignored_beside(values: list[Value], ignore: list[Value]) -> list[Value]:
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
                f'--ignore-value {_typed([value])} cannot be beside the values {values[:8]}; '
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


def choose_encoding(scan: Scan, asked: MaskEncoding, classes: int | None = None) -> MaskEncoding:
    """The encoding of the scanned masks, held to the asked one.

    Raises UserError where the masks hold other values than asked for, where `classes` does not
    fit, and where they look lossy.
    """
    asked = by_index(scan, asked)
    if not asked.values:
        asked = replace(asked, ignore=_ignored_beside(scan.values(), asked.ignore))
        values = check_classes(scan, classes, asked.ignore)
    else:
        values = asked.values
        found = scan.values()
        other = [v for v in found if v not in values and v not in asked.ignore]
        if other:
            remedy = (
                f'Add them, leave their pixels out with --ignore-value {_typed(other)}, or take '
                'the nearest value with --snap-masks.'
            )
            if 'P' in {fact.mask_mode for fact in scan.facts}:
                remedy += ' Of palette files the values are the indices.'
            raise UserError(
                f'masks hold {len(other)} values that are none of {values} '
                f'({scan.describe_values(other)}). {remedy}'
            )
        if sum(v in values for v in found) < 2:
            raise UserError(
                f'of {values} the masks hold one only ({scan.describe_values()}); expected two or '
                'more. Look at the masks.'
            )
    modes = Counter(fact.mask_mode for fact in scan.facts)
    palettes = [fact.palette for fact in scan.facts if fact.palette]
    mode = 'L' if asked.threshold is not None else modes.most_common(1)[0][0]
    palette = asked.palette or max(palettes, key=len, default=None)
    return replace(asked, values=values, mode=mode, palette=palette)


def _typed(values: list[Value]) -> str:
    """Values as one types them: 1,2 or 0:0:255."""
    shown = [':'.join(map(str, v)) if isinstance(v, list) else str(v) for v in values[:8]]
    return ','.join(shown) + (',…' if len(values) > 8 else '')


def check_classes(
    scan: Scan, classes: int | None, ignore: list[Value] | None = None
) -> list[Value]:
    """The mask values to learn; raises UserError where `classes` (None: as found) does not fit.

    One class is binary: two values, background and foreground, and one logit. ignore: values
    that are no class.
    """
    values = [value for value in scan.values() if value not in (ignore or [])]
    expected = 2 if classes == 1 else classes or len(values)
    if len(values) < 2:
        raise UserError(
            f'all masks hold one value only ({scan.describe_values()}); expected two or more, '
            'background and what is to be found. Look at the masks.'
        )
    remedy = (
        f'Use --classes {len(values)}, or leave it out, or mend the masks; or name the wanted '
        'values with --mask-values, or for two classes say --binarize 127.'
    )
    found = f'masks hold {len(values)} distinct values ({scan.describe_values()})'
    if len(values) > MAX_CLASSES:
        raise UserError(f'{found}; expected at most {MAX_CLASSES}. {SMOOTHED}')
    why = _why_lossy(scan, values)
    if classes is None and why:
        raise UserError(
            f'{found}{why}. {SMOOTHED} If all are classes, say --classes {len(values)}.'
        )
    if len(values) != expected:
        raise UserError(
            f'{found} but --classes is {classes}, for which {expected} are expected. '
            + (SMOOTHED if why else remedy)
        )
    return values


def _why_lossy(scan: Scan, values: list[Value]) -> str:
    """What speaks for values that nobody meant, '' if nothing does.

    Many values; a lossy format with more than two; or, as along smoothed edges, a few values that
    fill the masks and, scattered over the grey scale, at least as many that are all rare.
    """
    lossy = [pair.mask.name for pair in scan.pairs if pair.mask.suffix.lower() in LOSSY]
    if lossy and len(values) > 2:
        return f', and {len(lossy)} are JPEG files ({first_few(lossy)})'
    if len(values) > MAX_GUESSED_CLASSES:
        return f' in {len(scan.pairs)} files'
    shares = scan.shares()
    rare = [v for v in values if isinstance(v, int) and shares[v] < 0.01]
    scattered = rare and max(rare) > MAX_GUESSED_CLASSES and max(values) <= 255
    palette = any(fact.mask_mode == 'P' for fact in scan.facts)
    if scattered and not palette and len(rare) >= 4 and 2 * len(rare) >= len(values):
        return f', {len(rare)} of them under 1 % of the pixels each'
    return ''


def match_values(scan: Scan, known: MaskEncoding) -> MaskEncoding:
    """The encoding by which to read these masks for a network trained on that of `known`.

    That itself where it covers the masks; other values of the same number are taken in their
    order (0 and 255 for 0 and 1), and said. Raises UserError where neither fits.
    """
    found = [value for value in scan.values() if value not in known.ignore]
    if all(value in known.values for value in found):
        return known
    in_order = sorted(known.values)
    # A value that both have at another place would be two classes at once.
    clash = any(v in in_order and in_order.index(v) != k for k, v in enumerate(found))
    colours = any(isinstance(value, list) for value in found + known.values)
    if len(found) == len(known.values) and not clash and not colours:
        print(f'note: masks hold {found}, the model was trained on {in_order}: taken in this order')
        order = dict(zip(in_order, found, strict=True))
        return replace(known, values=[order[value] for value in known.values])
    raise UserError(
        f'masks hold {len(found)} distinct values ({scan.describe_values()}) but the model was '
        f'trained on {len(known.values)}: {known.values}. Name masks of the same classes with '
        '--masks.'
    )
