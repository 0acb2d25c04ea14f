"""What mask values may mean besides a class each, with the options that say so.

They may number objects, mean 'not labelled', be strays, or be lost at the scale of training. Rules
look at a few masks, and at what the scan knows of all; their errors on drawn sets are in dev/LOG.md
(2026-11-26).
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils.images.decoding import scaled_size
from utils.masks.encoding import MaskEncoding, load_mask
from utils.masks.joined import mask_files, open_mask
from utils.masks.tables.fitting import name_of
from utils.masks.values import MaskValue, count_values, format_values, mask_array
from utils.runtime.errors import UserError, first_few

from .objects import Look, find_divisor, look_at, number_objects

if TYPE_CHECKING:
    from utils.masks.classes import MaskOptions

    from .scan import DatasetScan

CLASS_NUMBERS = 32  # values up to this one are taken for class numbers
MANY_NUMBERS = 8  # values, most of them in sequence and far from 255, are, too
GAP = 4  # classes without pixels; a value that is farther from the others is apart
STRAY_PIXELS, STRAY_SHARE = 100, 0.001  # at most, of a single mask
SCALES = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9)  # that are proposed, besides 1
MASKS_TRIED = 16  # with a class, to find a scale that keeps it; others, for their borders
FILLED = 0.95  # fraction of the borders of masks that a background fills
MOST_BACKGROUND = 0.5  # fraction of the pixels from which value 0 is not doubted

RIM = "a thin rim along outlines often means 'not labelled', here {}"
HIGHEST = "a value apart from class numbers often means 'not labelled', here {}"
STRAY = 'only a few pixels of one mask have {}; correct them, or do not count them'
LOWEST = "{} counts as a class; if it is not background but 'not labelled'"


class Suggestion(NamedTuple):
    """What values may mean, and the options by which they are taken so."""

    text: str
    options: str

    def __str__(self) -> str:
        return f'{self.text}: {self.options}'


def suggest(scan: 'DatasetScan', masks: MaskEncoding, options: 'MaskOptions') -> list[Suggestion]:
    """Return what the classes of `masks` may mean instead; nothing of those that have names.

    Nothing if options name the values.
    Options are to be added to those given: each --ignore-value has the values of earlier ones.
    """
    named = [v for v, name in zip(masks.values, masks.names or [], strict=False)
             if name != name_of(v)]  # fmt: skip
    known = named and len(named) == len(masks.values)
    if known or options.mask_values or masks.threshold is not None:
        return []
    values = [value for value in scan.values() if value not in masks.ignore]
    if len(values) < 3:
        return _background(scan, masks, options)
    look = look_at(scan) if masks.divisor is None else Look()
    rims = [value for value in values if value in look.rims]
    left = [value for value in values if value not in rims]
    stray = _stray(scan, left)
    highest = [] if rims else _highest([value for value in left if value not in stray])
    left = [value for value in left if value not in highest]
    objects = masks.divisor is None and (options.classes or 2) <= 2 and not named
    if objects and (found := suggest_objects(scan, left, look)):
        found = _ignoring(found, [*masks.ignore, *rims, *highest])
        return [*_classes_beside(scan), found]
    left = [value for value in left if value not in stray]
    background = _background(scan, masks, options, [*rims, *highest])
    told = background or options.background not in (None, 'none')
    lowest = [] if masks.ignore or rims or highest or told else _lowest(left)
    suggestions, ignored, count = background, list(masks.ignore), len(values)
    for values, text in ((rims, RIM), (highest, HIGHEST), (stray, STRAY), (lowest, LOWEST)):
        if kind := [value for value in values if value not in named]:
            ignored, count = ignored + kind, count - len(kind)
            suggestion = Suggestion(text.format(_described(scan, kind)), '')
            suggestions.append(_ignoring(suggestion, ignored, options.classes, count))
    return suggestions


def suggest_objects(
    scan: 'DatasetScan', values: Sequence[MaskValue], look: Look
) -> Suggestion | None:
    """Return how to take values that number objects, None if they seem to be classes."""
    divisor = find_divisor(scan, values, look)
    if divisor:
        some = first_few((v for v in values if isinstance(v, int) and v >= divisor), 3)
        text = f'values ({some}) look like class * {divisor} + object; to take the class'
        return Suggestion(text, f'--mask-divisor {divisor}')
    if number_objects(scan, values, look):
        text = 'values look like numbers of objects, as each is in one piece; for a single class'
        return Suggestion(text, '--binarize 0')
    return None


def _classes_beside(scan: 'DatasetScan') -> list[Suggestion]:
    """Return the folder of classes that Pascal VOC and CVAT write beside that of objects."""
    folder = mask_files(scan.pairs[0].mask)[0].parent
    classes = folder.with_name(folder.name.replace('Object', 'Class'))
    if classes == folder or not classes.is_dir():
        return []
    text = f'masks in {classes.name} beside {folder.name} may have the classes of the objects'
    return [Suggestion(text, f'--masks {shlex.quote(str(classes))}')]


def _ignoring(
    suggestion: Suggestion,
    ignored: Sequence[MaskValue],
    classes: int | None = None,
    left: int = 0,
) -> Suggestion:
    """Return the suggestion with --ignore-value, and with --classes if it is given and not `left`.

    classes: as given. left: number of classes that are left.
    """
    words = [suggestion.options] if suggestion.options else []
    if ignored:
        text = ','.join(format_values([value]) for value in ignored)
        # A minus sign would be taken for an option's.
        words.append(f'--ignore-value={text}' if text[0] == '-' else f'--ignore-value {text}')
    if classes and left != max(2, classes):
        words.append(f'--classes {left}')
    return suggestion._replace(options=' '.join(words))


def _highest(values: Sequence[MaskValue]) -> list[MaskValue]:
    """Return a value apart from class numbers: 255, 65535, -1, or such as 11 beside 0 to 3."""
    numbers = [value for value in values if isinstance(value, int)]
    others = [value for value in numbers if value not in (-1, 255, 65535)]
    if len(numbers) < len(values) or len(others) < 2:
        return []
    if others[-1] > CLASS_NUMBERS and not are_class_numbers(numbers):
        return []
    if len(others) == len(numbers) > 3 and others[-1] > others[-2] + GAP:
        first = others[0]
        in_order = first in (0, 1) and others[:-1] == [*range(first, first + len(others) - 1)]
        others = others[:-1] if in_order else others
    return [value for value in numbers if value not in others]


def are_class_numbers(values: Sequence[MaskValue]) -> bool:
    """Return whether many values, maybe -1, 255 or 65535 beside them, are numbered from 0 or 1.

    Values of smoothed or lossy masks are scattered, in the middle, or near black and white.
    """
    numbers = [value for value in values if isinstance(value, int)]
    numbers = [value for value in numbers if value not in (-1, 255, 65535)]
    if len(numbers) < MANY_NUMBERS or numbers[:2] not in ([0, 1], [1, 2]):
        return False
    in_sequence = sum(value + 1 in {*numbers} for value in numbers)
    return 2 * in_sequence >= len(numbers) and numbers[-1] < 255 - CLASS_NUMBERS


def _lowest(values: Sequence[MaskValue]) -> list[MaskValue]:
    """Return the lowest value, of colours black, if three or more values are left."""
    if len(values) < 3 or (isinstance(values[0], tuple) and any(values[0])):
        return []
    return [values[0]]


def _background(
    scan: 'DatasetScan',
    masks: MaskEncoding,
    options: 'MaskOptions',
    ignored: Sequence[MaskValue] = (),
) -> list[Suggestion]:
    """Return that a value fills the borders of masks, where a rare 0 counts as background.

    ignored: values that are suggested not to count, of which neither may be.
    """
    zero = 0 if masks.background is None else masks.values[masks.background]
    chosen = options.background is not None or options.classes == 1 or masks.divisor
    if chosen or masks.background is None or zero not in (0, (0, 0, 0)) or zero in ignored:
        return []
    share = scan.shares()[zero]
    if share > MOST_BACKGROUND:
        return []
    borders: Counter[MaskValue] = Counter()
    for pair, _, _ in scan.metadata[:: max(1, len(scan.metadata) // MASKS_TRIED)][:MASKS_TRIED]:
        values = mask_array(open_mask(pair.mask, scan.decode), pair.mask)
        sides = [values[0], values[-1], values[:, 0], values[:, -1]]
        borders.update(count_values(np.concatenate(sides)[None]))
    value, pixels = borders.most_common(1)[0]
    if value in (zero, *ignored, *masks.ignore) or pixels < FILLED * borders.total():
        return []
    text = f'value {value} fills the borders of the masks, and {100 * share:.2g} % of the pixels '
    text += f'have value {zero}, which counts as background; if value {value} is the background'
    return [Suggestion(text, f'--background {format_values([value])}')]


def _stray(scan: 'DatasetScan', values: Sequence[MaskValue]) -> list[MaskValue]:
    """Return the values that only a few pixels of one mask have, none if most values are so."""
    if len(scan.metadata) < 3:
        return []
    total: dict[MaskValue, list[tuple[int, int]]] = {}
    for _, _, mask in scan.metadata:
        for value, pixels in mask.counts.items():
            total.setdefault(value, []).append((pixels, mask.size[0] * mask.size[1]))
    stray = [
        value
        for value in values
        if len(found := total.get(value, [])) == 1
        and found[0][0] <= min(STRAY_PIXELS, STRAY_SHARE * found[0][1])
    ]
    return stray if len(values) - len(stray) >= max(2, len(stray)) else []


def _described(scan: 'DatasetScan', values: Sequence[MaskValue]) -> str:
    """Return 'value 255 (5.1 % of the pixels)' for each value, of a rare one its file."""
    shares, described = scan.shares(), []
    for value in values:
        files = [pair.mask.name for pair, _, mask in scan.metadata if value in mask.counts]
        where = f', in {first_few(files, 1)}' if shares[value] < STRAY_SHARE else ''
        described.append(f'value {value} ({100 * shares[value]:.2g} % of the pixels{where})')
    return first_few(described)


def check_classes_at_scale(
    scan: 'DatasetScan', masks: MaskEncoding, scale: float, training: Sequence[int]
) -> list[str]:
    """Return notes on the classes that lose over half of their share at the scale of training.

    training: positions in the scan. Masks are resized by nearest neighbour, which can leave a thin
    line out. Raises UserError if no pixel of a class is left in all training masks together.
    """
    before, after = scan.pixels(training), scan.pixels(training, at_scale=True)
    lost: list[str] = []
    notes: list[str] = []
    for k, value in enumerate(masks.values):
        pixels, left = before.get(value, 0), after.get(value, 0)
        if not pixels:
            continue
        shares = [100 * n / sum(c.values()) for n, c in ((pixels, before), (left, after))]
        if shares[1] >= shares[0] / 2:
            continue
        text = f'class {masks.titles[k]} has {pixels} pixels ({shares[0]:.2g} %) in the training '
        text += f'masks and {left} ({shares[1]:.2g} %) at --scale {scale:g}, where masks are '
        text += 'resized by nearest neighbour; to keep them'
        larger = _scale_that_keeps(scan, masks, scale, training, k)
        (notes if left else lost).append(f'{text}: --scale {larger:g}')
        if not left and pixels <= STRAY_PIXELS and not masks.names:
            ignore = ','.join(format_values([v]) for v in [*masks.ignore, value])
            lost.append(f'Or, if they are a mistake: --ignore-value {ignore}')
    if lost:
        raise UserError('\n'.join(lost))
    return [f'note: {text}' for text in notes]


def _scale_that_keeps(
    scan: 'DatasetScan', masks: MaskEncoding, scale: float, training: Sequence[int], label: int
) -> float:
    """Return the smallest larger scale at which a class keeps half of its share."""
    value = masks.values[label]
    entries = sorted(
        (scan.metadata[k] for k in training), key=lambda entry: -entry.mask.counts.get(value, 0)
    )[:MASKS_TRIED]
    wanted = sum(entry.mask.counts.get(value, 0) / sum(entry.mask.counts.values())
                 for entry in entries) / 2  # fmt: skip
    for larger in SCALES:
        if larger > scale:
            sizes = [scaled_size(entry.image.size, larger) for entry in entries]
            resized = (load_mask(entry.pair.mask, masks, 1, size, scan.decode)
                       for entry, size in zip(entries, sizes, strict=True))  # fmt: skip
            if sum((mask == label).float().mean().item() for mask in resized) >= wanted:
                return larger
    return 1.0
