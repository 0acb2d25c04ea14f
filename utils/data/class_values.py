"""Which mask values are which classes: as found, as asked for, or as a network has learned them.

Classes named by colour in palette files, of which indices are read.
"""

from collections import Counter
from dataclasses import replace

from utils.images.decoding import open_picture
from utils.masks.classes import ignored_beside, typed
from utils.masks.encoding import MAX_CLASSES, MaskEncoding, Value
from utils.runtime.errors import UserError, first_few

from .metadata import SMOOTHED
from .scan import Scan

MAX_GUESSED_CLASSES = 32  # more values than this are a lossy or smoothed mask, not classes

LOSSY = ('.jpg', '.jpeg')


def choose_encoding(scan: Scan, asked: MaskEncoding, classes: int | None = None) -> MaskEncoding:
    """The encoding of the scanned masks, held to the asked one.

    Raises UserError where the masks hold other values than asked for, where `classes` does not
    fit, and where they look lossy.
    """
    asked = by_index(scan, asked)
    if not asked.values:
        asked = replace(asked, ignore=ignored_beside(scan.values(), asked.ignore))
        values = check_classes(scan, classes, asked.ignore)
    else:
        values = asked.values
        found = scan.values()
        other = [v for v in found if v not in values and v not in asked.ignore]
        if other:
            remedy = (
                f'Add them, leave their pixels out with --ignore-value {typed(other)}, or take '
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


def by_index(scan: Scan, asked: MaskEncoding) -> MaskEncoding:
    """The encoding itself, or where it has colours and all masks have palettes, with their indices.

    A number among the ignored values was made grey beside colours; where no palette has that
    grey, it is the index again. Raises UserError for a class whose colour is in no palette.
    """
    palette_files = all(fact.mask_mode == 'P' for fact in scan.facts)
    if not palette_files or not asked.values or isinstance(asked.values[0], int):
        return asked
    palette = open_picture(scan.pairs[0].mask).getpalette()
    indices: dict[tuple, int] = {}
    for fact in scan.facts:
        for index in fact.counts:
            indices.setdefault(tuple(fact.palette[3 * index : 3 * index + 3]), index)
    for index in range(len(palette) // 3):  # for colours that no mask has
        indices.setdefault(tuple(palette[3 * index : 3 * index + 3]), index)
    missing = [colour for colour in asked.values if tuple(colour) not in indices]
    if missing:
        raise UserError(
            f'no palette of the masks has the colours {first_few(missing)}; there are '
            f'{first_few(map(list, indices), 8)}. Mend classes.json or --mask-values, or name '
            'indices there instead of colours.'
        )
    ignore: list[Value] = [
        indices.get(tuple(colour), colour[0]) for colour in asked.ignore if isinstance(colour, list)
    ]
    values: list[Value] = [indices[tuple(colour)] for colour in asked.values]
    return replace(asked, values=values, ignore=ignore, palette=palette)
