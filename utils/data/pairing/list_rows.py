"""Text and CSV files that name pictures, as rows of an image and, in some, its mask.

A line is a name; or names of an image and its mask, separated by tab, comma, semicolon or spaces;
or a name and numbers, as in the lists of Pascal VOC's classes. How the lines of a file are split,
and which columns are image and mask, is what makes most of the first lines name existing pictures.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from utils.images.decoding import IMAGE_SUFFIXES
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import read_text

from .patterns import looks_like_picture

EXPECTED = (
    'a text file with the name of a picture a line, or names of image and mask, or a CSV file of '
    'such columns'
)
SAMPLED = 50  # lines, evenly spread, that decide on the form of a file
T = TypeVar('T')
Split = Callable[[str], list[str]]
Find = Callable[[str], list[Path]]  # the files of a name

MASK_WORDS = re.compile('mask|label|annot|segm|ground|truth|gt|target')
# Titles of a column that divides the rows, and what it says of those to train and to validate on.
PART_TITLE = re.compile('(data)?[ _]?(split|subset|partition|phase|usage|set)')
PARTS = {'train': re.compile('train(ing)?'), 'val': re.compile('val(id(ation)?)?|dev')}
# The title of a column, one of which a header has.
TITLE = re.compile(
    r'((image|img|photo|picture|file|name|path|id|idx|index|input|sat|rgb|rle|seg|'
    rf'{MASK_WORDS.pattern})s?[ _-]?)+'
)


class Row(NamedTuple):
    """A line of a list: what it names; mask is '' if the list names none, or this line."""

    line: int
    image: str
    mask: str = ''


@dataclass(frozen=True)
class ListRows:
    """The rows of a list.

    masks: whether it names masks. others: what stands in the next column, if that is not a mask.
    notes: on rows that are left out, as a column says.
    """

    rows: list[Row]
    masks: bool
    others: Counter[str]
    notes: list[str]


def _by(separator: str) -> Split:
    def split(line: str) -> list[str]:
        """Return the cells of a line."""
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        except csv.Error:  # a cell of over 131,072 characters
            cells = line.split(separator)
        return [cell.strip() for cell in cells]

    return split


_ENDINGS = '|'.join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
_AFTER_EXTENSION = re.compile(rf'(?i)({_ENDINGS})[\'"]?\s+[\'"]?')
_NUMBER = re.compile(r'[-+]?\d+(\.\d+)?')


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _whole(line: str) -> list[str]:
    return [line.strip('"\'')]


def _after_extension(line: str) -> list[str]:
    """Split at spaces, but not within a name that has spaces and an extension."""
    return _AFTER_EXTENSION.sub('\\1\t', line).strip('"\'').split('\t')


def _before_numbers(line: str) -> list[str]:
    words = line.split()
    count = 0
    while count < len(words) - 1 and _is_number(words[-1 - count]):
        count += 1
    return line.rsplit(None, count)


def _of_json(line: str) -> list[str]:
    """Return the pictures of an object, as in the .odgt lists of ADE20K."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return [line]
    values = content.values() if isinstance(content, dict) else []
    return [v for v in values if isinstance(v, str) and looks_like_picture(v)] or [line]


SPLITS: tuple[Split, ...] = (
    _whole, _by('\t'), _by(','), _by(';'), _after_extension, _before_numbers, str.split, _of_json,
)  # fmt: skip


def read_rows(path: Path, images: Find, masks: Find, part: str = '') -> ListRows:
    """Read a list; raise UserError if it is none, or names several masks of an image.

    part: 'train' or 'val', whose rows are taken if a column divides them so; '' takes all.
    """
    text = read_text(path, EXPECTED)
    if text.lstrip()[:1] == '[':
        raise UserError(f'{path} is JSON; expected {EXPECTED}')
    numbered = enumerate(text.splitlines(), 1)
    lines = [(n, line.strip()) for n, line in numbered if line.strip()]
    lines = [(n, line) for n, line in lines if not line.startswith('#')]
    if not lines:
        raise UserError(f'{path} names no pictures; expected {EXPECTED}')
    split = _choose_split([line for _, line in _spread(lines)], images, masks)
    table = [(n, split(line)) for n, line in lines]
    header = _header(table, images, masks)
    table = table[bool(header) :]
    sample = [cells for _, cells in _spread(table)]
    image, mask = _columns(path, header, sample, images, masks)
    table, notes = _of_part(path, header, table, part)
    rows, others = [], Counter[str]()
    for number, cells in table:
        cells += [''] * (1 + max(image, mask) - len(cells))
        rows.append(Row(number, cells[image], cells[mask] if mask >= 0 else ''))
        behind = cells[image + 1 :] if mask < 0 else []
        others.update(behind[:1])
    return ListRows(rows, mask >= 0, others, notes)


def _spread(rows: list[T]) -> list[T]:
    return rows[:: max(1, len(rows) // SAMPLED)][:SAMPLED]


def _of_part(
    path: Path, header: list[str], table: list[tuple[int, list[str]]], part: str
) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Return the rows for training or validation, if a column divides them, and a note on it."""
    column = next((k for k, title in enumerate(header) if PART_TITLE.fullmatch(title)), -1)
    if column < 0:
        return table, []
    parts = [cells[column].lower() if len(cells) > column else '' for _, cells in table]
    kinds = ', '.join(f'{kind or "none"} {n}' for kind, n in Counter(parts).most_common(5))
    fits = PARTS[part].fullmatch if part else None
    chosen = [row for row, kind in zip(table, parts, strict=True) if fits and fits(kind)]
    taken = f'the {len(chosen)} to {"train" if part == "train" else "validate"} on are taken'
    note = (
        f'note: column {header[column]} of {path} ({kinds}): {taken if chosen else "all are taken"}'
    )
    return chosen or table, [note]


def _known(cell: str, find: Find) -> bool:
    return bool(cell) and bool(find(cell))


def _choose_split(lines: list[str], images: Find, masks: Find) -> Split:
    """Return the split by which most cells name files; of equal ones the first."""

    def score(split: Split) -> tuple[int, int]:
        """Return how many cells name files, then how many look like pictures or numbers."""
        rows = [split(line) for line in lines]
        found = [
            _known(cells[0], images) + sum(_known(c, images) or _known(c, masks) for c in cells[1:]
                                           if not _is_number(c))
            for cells in rows
        ]  # fmt: skip
        # Where no file is there, the form alone decides, for a message with the right names.
        pictures = sum(looks_like_picture(cell) for cells in rows for cell in cells)
        numbers = sum(all(map(_is_number, cells[1:])) and len(cells) > 1 for cells in rows)
        return sum(found), pictures + numbers

    return max(SPLITS, key=score)


def _header(table: list[tuple[int, list[str]]], images: Find, masks: Find) -> list[str]:
    """Return the cells of the first row if they are names of columns, else none."""
    cells = [cell.lower() for cell in table[0][1]]
    if len(table) > 1 and len(cells) < len(table[1][1]):  # other separators than in the rows
        cells = re.split(r'\s*[,;\t]\s*|\s+', ' '.join(cells))
    if len(table) < 2 or any(_known(c, images) or _known(c, masks) for c in table[0][1]):
        return []
    if any(map(looks_like_picture, cells)):
        return []
    named = sum(any(map(looks_like_picture, row)) for _, row in table[1:])
    titles = any(map(TITLE.fullmatch, cells)) or 2 * named > len(table) - 1
    return cells if titles else []


def _columns(
    path: Path, header: list[str], sample: list[list[str]], images: Find, masks: Find
) -> tuple[int, int]:
    """Return the positions of the columns of images and masks, -1 if no column names masks."""
    width = max(len(cells) for cells in sample)
    columns = [[cells[k] for cells in sample if len(cells) > k] for k in range(width)]
    titles = header + [''] * (width - len(header))
    titled = [k for k in range(width) if MASK_WORDS.search(titles[k])]
    named = [
        sum(_known(c, images) for c in cells) + sum(map(looks_like_picture, cells)) / 2
        for cells in columns
    ]
    free = [k for k in range(width) if k not in titled] or [0]
    image = max(free, key=lambda k: (named[k], -k))
    others = [k for k in range(width) if k != image and _names_masks(columns[k], masks)]
    candidates = [k for k in others if k in titled] or others
    if len(candidates) > 1:
        raise UserError(
            f'{path} has {1 + len(candidates)} columns that name pictures, as in '
            f'{first_few(sample[0], 4)}; expected an image and its mask. Remove the others, or '
            'name the columns in a first line: image,mask'
        )
    return image, candidates[0] if candidates else -1


def _names_masks(cells: list[str], masks: Find) -> bool:
    """Return whether most cells of a column, of those that are not empty, name pictures."""
    filled = [cell for cell in cells if cell]
    found = [
        looks_like_picture(cell) or (not _is_number(cell) and _known(cell, masks))
        for cell in filled
    ]
    return 2 * sum(found) > len(filled)
