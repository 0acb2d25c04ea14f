"""Classes named by colour in palette files, of which indices are read."""

from dataclasses import replace

from .decoding import open_picture
from .errors import UserError, first_few
from .mask_values import MaskEncoding, Value
from .scan import Scan


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
