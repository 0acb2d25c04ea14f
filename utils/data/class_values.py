"""The mask values of a data set's classes: as found, as requested, or as a network learned them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from utils.masks.background import choose_background
from utils.masks.classes import MaskOptions, class_tables, match_ignored
from utils.masks.encoding import MaskEncoding
from utils.masks.joined import LOSSY, mask_files, open_mask
from utils.masks.metadata import NUMBERED, SMOOTHED, SMOOTHED_COLOURS
from utils.masks.tables.fitting import describe_table, fit_table
from utils.masks.tables.lookup import ClassTable, void_names
from utils.masks.values import MAX_CLASSES, MaskValue, format_values, pack_value
from utils.runtime.errors import UserError, first_few

from .pairing.matching import Matching
from .pairing.patterns import literal_folder
from .suggestions import are_class_numbers, suggest

if TYPE_CHECKING:
    from .scan import DatasetScan

MAX_GUESSED_CLASSES = 32  # more values than this are taken for a lossy or smoothed mask


def choose_encoding(
    scan: 'DatasetScan', requested: MaskEncoding, options: MaskOptions,
    tables: Sequence[ClassTable] = (),
) -> MaskEncoding:  # fmt: skip
    """Return the encoding of the masks; raise UserError if they look lossy or not as requested.

    requested: of classes.requested_encoding, from the same options and tables. What holds of the
    tables is in the scan's `class_notes` afterwards.
    """
    requested, found = use_palette_indices(scan, requested), scan.values()
    if requested.values:
        scan.class_notes = _describe_requested(scan, requested, options, tables)
    else:
        requested = _by_table(scan, requested, options, tables)
    values = requested.values
    if not values:
        requested = replace(requested, ignore=match_ignored(requested.ignore, found))
        values = check_classes(scan, options.classes, requested.ignore)
    else:
        other = [v for v in found if v not in values and v not in requested.ignore]
        if other:
            remedy = 'Add them, or take the nearest value with --snap-masks.'
            if any(mask.mode == 'P' for _, _, mask in scan.metadata):
                remedy += ' The values of palette files are their indices.'
            ignored = [*requested.ignore, *other]
            if len(ignored) <= 8:  # more are hardly meant, and not listed
                remedy += f'\nOr leave their pixels out: --ignore-value {format_values(ignored)}'
            raise UserError(
                f'masks hold {len(other)} values that are none of {values} '
                f'({scan.describe_values(other)}). {remedy}'
            )
        if sum(value in values for value in found) < 2:
            raise UserError(
                f'masks hold only one of {values} ({scan.describe_values()}); expected two or '
                'more. Look at the masks.'
            )
    palettes = [mask.palette for _, _, mask in scan.metadata if mask.palette]
    palette = requested.palette or max(palettes, key=len, default=None)
    masks = replace(requested, values=values, palette=palette)
    return replace(masks, background=choose_background(masks, options))


def _by_table(
    scan: 'DatasetScan', requested: MaskEncoding, options: MaskOptions,
    tables: Sequence[ClassTable],
) -> MaskEncoding:  # fmt: skip
    """Return the encoding with the classes of the first table that fits, if one does."""
    ignore = match_ignored(requested.ignore, scan.values()) if tables else []
    found = [value for value in scan.values() if value not in ignore]
    palettes = all(mask.mode == 'P' for _, _, mask in scan.metadata)
    indices = _palette_indices(scan)[0] if palettes and tables else {}
    for table in tables:
        count = 2 if options.classes == 1 else options.classes
        if fit := fit_table(table, found, indices, ignore, options.kept(), count):
            scan.class_notes, ignore = fit.notes, [*ignore, *fit.ignore]
            return replace(requested, values=fit.values, names=fit.names, ignore=ignore)
    scan.class_notes = [
        f'note: {table.path} is not used: most of the values {format_values(found)} of the masks '
        'are not in it'
        for table in tables if table.clear
    ][:1]  # fmt: skip
    return requested


def _describe_requested(
    scan: 'DatasetScan', requested: MaskEncoding, options: MaskOptions,
    tables: Sequence[ClassTable],
) -> list[str]:  # fmt: skip
    """Return lines on the table from which the requested classes have their names, if any."""
    names, found = requested.names or [], scan.values()
    table = next((table for table in tables if {*names} <= table.values().keys()), None)
    if not names or not table:
        return []
    void = [] if options.mask_values else void_names(table.entries, options.kept())
    void = [name for name in void if name not in names]
    absent = [name for name, v in zip(names, requested.values, strict=True) if v not in found]
    return describe_table(table, void, absent, len(names))


def tables_of(matching: Matching, masks: Path) -> list[ClassTable]:
    """Return the class tables beside the masks, of a folder or pattern, or of a list's pairs."""
    folders = [literal_folder(masks)]
    if matching.pairs:
        folders.append(mask_files(matching.pairs[0].mask)[0].parent)
    return class_tables(folder for folder in folders if folder.is_dir())


def named_by_files(requested: MaskEncoding, names: list[str]) -> MaskEncoding:
    """Return the encoding of masks whose class is in the file's name; without names, `requested`.

    Their values are 1, 2, … in the order of the names, and 0 where no file has a class.
    """
    if not names or requested.values:
        return requested
    return replace(requested, values=[*range(len(names) + 1)], names=['background', *names])


def check_classes(
    scan: 'DatasetScan', classes: int | None, ignore: Sequence[MaskValue] = ()
) -> list[MaskValue]:
    """Return the mask values of the classes; `ignore` are values that are no class.

    Raises UserError if `classes` (None: as found; 1: two values) does not fit, or for lossy masks.
    """
    values = [value for value in scan.values() if value not in ignore]
    expected = 2 if classes == 1 else classes or len(values)
    if len(values) < 2:
        raise UserError(
            f'all masks hold only one value ({scan.describe_values()}); expected two or more: '
            'background and foreground. Look at the masks.'
        )
    why, too_many = _why_lossy(scan, values), len(values) > MAX_CLASSES
    if not too_many and (len(values) == expected if classes else not why):
        return values
    found = f'masks hold {len(values)} distinct values ({scan.describe_values()})'
    if too_many:
        found += f'; expected at most {MAX_CLASSES}'
    elif classes is None:
        found += why
    else:
        found += f' but --classes is {classes}, for which {expected} are expected'
    raise UserError(f'{found}. {_remedy(scan, values, ignore, classes, why)}')


def _remedy(
    scan: 'DatasetScan',
    values: list[MaskValue],
    ignore: Sequence[MaskValue],
    classes: int | None,
    why: str,
) -> str:
    """Return what to do about values that are not the classes; lines may end in options to add."""
    jpeg = 'JPEG' in why
    encoding = MaskEncoding(values, ignore=[*ignore], background=None)  # not to be doubted here
    others = suggest(scan, encoding, MaskOptions(classes))
    objects = [other for other in others if not other.options.startswith('--ignore-value')]
    palette, deep = ({mask.mode for _, _, mask in scan.metadata} >= {m} for m in ('P', 'I;16'))
    lines = [f'Or if {text}' for text in map(str, others)]
    if objects:
        lines = [f'The {text}' for text in map(str, objects)]
    elif why and not jpeg and are_class_numbers(values):
        others = suggest(scan, encoding, MaskOptions(classes or len(values)))
        lines = ['They look like numbers of classes.', *(f'If {other}' for other in others)]
    elif why and not deep:
        lines = [SMOOTHED_COLOURS if isinstance(values[-1], tuple) else SMOOTHED]
    elif why:
        lines = [NUMBERED]
    elif classes:
        grey = not palette and all(isinstance(value, int) and value <= 255 for value in values)
        threshold = 127 if grey and max(map(pack_value, values)) > 127 else 0
        lines.insert(0, 'Correct the masks, or name the values with --mask-values.')
        lines += [f'Or for two classes: --binarize {threshold}'] if classes <= 2 else []
    if jpeg or objects:  # possible, but hardly meant
        lines.append(f'Or if each value is a class, say --classes {len(values)}.')
    elif len(values) <= MAX_CLASSES:
        lines.append(f'Or if each value is a class: --classes {len(values)}')
    return '\n'.join(lines)


def _why_lossy(scan: 'DatasetScan', values: list[MaskValue]) -> str:
    """Return why the masks look lossy or smoothed, '' if they do not."""
    files = [path for pair in scan.pairs for path in mask_files(pair.mask)]
    lossy = [path.name for path in files if path.suffix.lower() in LOSSY]
    if lossy and len(values) > 2:
        return f', and {len(lossy)} are JPEG files ({first_few(lossy)})'
    if len(values) > MAX_GUESSED_CLASSES:
        return f' in {len(scan.pairs)} files'
    shares = scan.shares()
    # Along smoothed edges, many rare values are scattered over the grey scale.
    grey = [value for value in values if isinstance(value, int)]
    rare = [value for value in grey if shares[value] < 0.01]
    scattered = len(rare) >= 4 and max(rare) > MAX_GUESSED_CLASSES and max(grey) <= 255
    scattered = scattered and not are_class_numbers(grey)
    palette = any(mask.mode == 'P' for _, _, mask in scan.metadata)
    if scattered and not palette and 2 * len(rare) >= len(values):
        return f', {len(rare)} of them under 1 % of the pixels each'
    return ''


def describe_foreground(
    scan: 'DatasetScan', masks: MaskEncoding, training: list[int], validation: list[int]
) -> list[str]:
    """Return notes on the sides of a split, positions in the scan, whose masks have no foreground.

    Where no class is the background, that is a side of a single class.
    """
    notes, least = [], 2 if masks.background is None else 1
    for side, positions in (('training', training), ('validation', validation)):
        held = {value for k in positions for value in scan.metadata[k].mask.counts}
        if masks.in_colour:  # a grey mask beside colours
            held = {(value,) * 3 if isinstance(value, int) else value for value in held}
        if not positions or sum(masks.values[k] in held for k in masks.scored) >= least:
            continue
        only = format_values([value for value in masks.values if value in held]) or 'ignored pixels'
        notes.append(
            f'note: the {side} set has no foreground: its {len(positions)} masks hold only {only}. '
            'Choose others with --seed, --validation (-v), --fold or --val-images.'
        )
    return notes


def match_values(scan: 'DatasetScan', known: MaskEncoding) -> MaskEncoding:
    """Return the encoding with which to read these masks for a network trained with `known`.

    As many other grey values are taken in ascending order (0 and 255 for 0 and 1), with a note.
    Raises UserError if the masks fit in neither way.
    """
    found = [value for value in scan.values() if value not in known.ignore]
    if all(value in known.values for value in found):
        return known
    grey = not any(isinstance(value, tuple) for value in found + known.values)
    in_order = sorted(known.values) if grey else known.values  # colours have no order
    # A value that both have at different positions would be two classes at once.
    clash = any(v in in_order and in_order.index(v) != k for k, v in enumerate(found))
    if grey and len(found) == len(known.values) and not clash:
        print(f'note: masks hold {found}, the model was trained on {in_order}: taken in this order')
        order = dict(zip(in_order, found, strict=True))
        return replace(known, values=[order[value] for value in known.values])
    raise UserError(
        f'masks hold {len(found)} distinct values ({scan.describe_values()}) but the model was '
        f'trained on {len(known.values)}: {known.values}. Name masks of the same classes with '
        '--masks.'
    )


def use_palette_indices(scan: 'DatasetScan', requested: MaskEncoding) -> MaskEncoding:
    """Replace colours of the encoding by palette indices if all masks are palette files.

    match_ignored made greys of ignored numbers; a grey that no palette has becomes an index again.
    Raises UserError for a class whose colour is in no palette.
    """
    if not requested.in_colour or any(mask.mode != 'P' for _, _, mask in scan.metadata):
        return requested
    indices, palette = _palette_indices(scan)
    colours = [value for value in requested.values if isinstance(value, tuple)]
    missing = [colour for colour in colours if colour not in indices]
    if missing:
        raise UserError(
            f'no palette of the masks has the colours {first_few(missing)}; there are '
            f'{first_few(indices, 8)}. Correct classes.json or --mask-values, or name indices '
            'there instead of colours.'
        )
    ignored = [value for value in requested.ignore if isinstance(value, tuple)]
    return replace(
        requested,
        values=[indices[colour] for colour in colours],
        ignore=[indices.get(colour, colour[0]) for colour in ignored],
        palette=palette,
    )


def _palette_indices(scan: 'DatasetScan') -> tuple[dict[MaskValue, int], list[int]]:
    """Return the index of each colour of the masks' palettes, and the palette of the first."""
    first = open_mask(scan.pairs[0].mask)
    palette = (first.getpalette() if isinstance(first, Image.Image) else None) or []
    indices: dict[MaskValue, int] = {}
    for _, _, mask in scan.metadata:
        for index, (red, green, blue) in mask.colours.items():
            indices.setdefault((red, green, blue), index)
    for index in range(len(palette) // 3):  # colours that no pixel has
        red, green, blue = palette[3 * index : 3 * index + 3]
        indices.setdefault((red, green, blue), index)
    return indices, palette
