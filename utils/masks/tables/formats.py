"""Class tables of other programs: names, and the mask value or colour of each.

What a file is, its content says: CVAT's labelmap.txt, Roboflow's _classes.csv, class_dict.csv, the
label_colors.txt of CamVid, ADE20K's objectInfo150.txt, dataset.json of nnU-Net and the Medical
Segmentation Decathlon, and files of the same forms under other names.
"""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from utils.runtime.errors import UserError

from ..values import MaskValue


class Entry(NamedTuple):
    """A class of a table. number: its row, counted from 0, or the number that the row gives."""

    name: str
    value: MaskValue
    number: int
    line: int


class Form(NamedTuple):
    """A form of lines without a header: the groups `name`, and `red`, `green`, `blue` or `value`.

    clear: whether a file of mostly such lines is a table for sure, so that others are mistakes.
    """

    pattern: re.Pattern
    clear: bool
    example: str


_RGB = r'(?P<red>-?\d+)[\s,;]+(?P<green>-?\d+)[\s,;]+(?P<blue>-?\d+)'
FORMS = (
    Form(re.compile(rf'(?P<name>[^:]+):\s*{_RGB}\s*(?::.*)?'), True, 'road:128,64,128::'),
    Form(re.compile(rf'{_RGB}[\s,;:]+(?P<name>[^\s\d].*)'), True, '128 64 128 road'),
    Form(
        re.compile(rf'(?P<name>.*[^\s\d,;:=])[\s,;:=]+[(\[]?{_RGB}[)\]]?'), True, 'road 128 64 128'
    ),
    Form(re.compile(r'(?P<value>\d+)[\s,;:=]+(?P<name>[^\s\d].*)'), False, ''),
    Form(re.compile(r'(?P<name>.*[^\s\d,;:=])[\s,;:=]+(?P<value>\d+)'), False, ''),
)
HEADING = re.compile(r'#\s*label\s*:\s*color_rgb', re.IGNORECASE)  # CVAT's first line
COLUMNS = {  # by what a header calls them, in lower case and letters only
    'name': 'name names class classes classname label labelname category title',
    'red': 'r red',
    'green': 'g green',
    'blue': 'b blue',
    'colour': 'rgb color colour colorrgb hex',
    'value': 'pixelvalue pixel value maskvalue greyvalue grayvalue idx',
    'number': 'id index classid labelid number',
}
LONGEST = 1000  # characters of a line; a longer one is of another file, such as run lengths
FIRST_NAMES = ('_background_', '__ignore__', 'background')  # of lists of names alone


def parse_table(path: Path, text: str) -> tuple[list[Entry], bool] | None:
    """Return the classes in a file's text, and whether it is one for sure; None for other files.

    Raises UserError, naming file and line, for a mistake in what is clearly a table.
    """
    if path.suffix.lower() == '.json':
        found = _read_json(path, text)
    else:
        numbered = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
        lines = [(n, line) for n, line in numbered if line and not line.startswith('#')]
        heading = any(HEADING.match(line) for _, line in numbered)
        short = lines and max(len(line) for _, line in lines) <= LONGEST
        found = (_with_header(path, lines) or _by_form(path, lines, heading)) if short else None
    entries, clear = found or ([], False)
    kinds = {type(entry.value) for entry in entries}
    if len(kinds) != 1 or (len(entries) < 2 and not clear):
        return None
    names = Counter[str]()
    values: dict[MaskValue, Entry] = {}
    for k, entry in enumerate(entries):
        other = values.setdefault(entry.value, entry)
        names[entry.name] += 1
        if not clear and (other is not entry or names[entry.name] > 1):
            return None
        if other is not entry:
            raise UserError(
                f'{path}, line {entry.line}: {entry.name} has the value {entry.value} of '
                f'{other.name} in line {other.line}; expected values that differ. {_remedy(path)}'
            )
        if names[entry.name] > 1:
            entries[k] = entry._replace(name=f'{entry.name} ({names[entry.name]})')
    return entries, clear


def _remedy(path: Path) -> str:
    return f'Correct the line; or, if it is no table of classes, rename {path.name}.'


def _with_header(path: Path, lines: list[tuple[int, str]]) -> tuple[list[Entry], bool] | None:
    """Return the classes of a table whose first line names the columns."""
    for separator in ('\t', ',', ';'):
        cells = _cells(lines[0][1], separator)
        titles = [re.sub('[^a-z]', '', cell.lower()) for cell in cells]
        found = {
            column: next((k for k, title in enumerate(titles) if title in names.split()), -1)
            for column, names in COLUMNS.items()
        }
        colours = [found[c] for c in ('red', 'green', 'blue')]
        if min(colours) < 0 and found['colour'] >= 0:
            colours = [found['colour']]
        has_colours = min(colours) >= 0
        clear = has_colours or found['value'] >= 0
        values = colours if has_colours else [max(found['value'], found['number'])]
        if found['name'] < 0 or min(values) < 0:
            continue
        entries = []
        for row, (line, text) in enumerate(lines[1:]):
            parts = _cells(text, separator)
            parts += [''] * (len(cells) - len(parts))
            if not any(parts):
                continue
            numbers = ' '.join(parts[k] for k in values)
            value = _value(numbers, has_colours)
            if value is None or not parts[found['name']]:
                if not clear:
                    return None
                raise UserError(
                    f'{path}, line {line}: {text!r} has no name, or no '
                    f'{"colour of 0 to 255" if has_colours else "whole number"}; expected '
                    f'{", ".join(cells)}. {_remedy(path)}'
                )
            number = parts[found['number']] if found['number'] >= 0 else ''
            entries.append(
                Entry(
                    parts[found['name']],
                    value,
                    int(number) if re.fullmatch('[0-9]{1,9}', number) else row,
                    line,
                )
            )
        return entries, clear
    return None


def _cells(line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error:  # a zero, for Python 3.10
        cells = line.split(separator)
    return [cell.strip() for cell in cells]


def _value(text: str, colour: bool) -> MaskValue | None:
    """Return a whole number, or a colour of three or of hexadecimal digits, None for others."""
    hexadecimal = re.fullmatch('#?([0-9a-fA-F]{6})', text.strip())
    if colour and hexadecimal and not text.strip().isdecimal():
        red, green, blue = bytes.fromhex(hexadecimal[1])
        return red, green, blue
    numbers = (
        [int(n) for n in re.findall(r'-?\d{1,18}', text)]
        if re.fullmatch(r'[-\d\s,()\[\]]+', text)
        else []
    )
    if not colour:
        return numbers[0] if len(numbers) == 1 and -(2**63) <= numbers[0] < 2**63 else None
    if len(numbers) != 3 or not all(0 <= n <= 255 for n in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


def _by_form(
    path: Path, lines: list[tuple[int, str]], heading: bool
) -> tuple[list[Entry], bool] | None:
    """Return the classes of a table without a header, whose lines are mostly of one form."""
    if not re.search(r'\d', lines[0][1]) and len(lines) > 1 and re.search(r'\d', lines[1][1]):
        lines = lines[1:]  # titles of columns
    if lines[0][1] in FIRST_NAMES:
        start = -1 if lines[0][1] == '__ignore__' else 0
        return [Entry(name, row, row, n) for row, (n, name) in enumerate(lines, start)], False
    for form in FORMS[: 1 if heading else None]:
        matches = [form.pattern.fullmatch(line) for _, line in lines]
        if 2 * sum(map(bool, matches)) < len(lines) and not heading:
            continue
        entries = []
        for row, ((n, line), match) in enumerate(zip(lines, matches, strict=True)):
            groups = match.groupdict() if match else {}
            colour = 'red' in groups
            text = ' '.join(groups.get(c, '') for c in ('red', 'green', 'blue', 'value'))
            value = _value(text, colour) if match else None
            if value is None and form.clear:
                raise UserError(
                    f'{path}, line {n}: {line!r}; expected a name and a colour of 0 to 255, as '
                    f'{form.example}. {_remedy(path)}'
                )
            if value is None:
                return None
            entries.append(Entry(groups['name'].strip(), value, row, n))
        return entries, form.clear
    return None


def _read_json(path: Path, text: str) -> tuple[list[Entry], bool] | None:
    """Return the labels of a dataset.json, or the names and values of another object."""
    dataset = path.name == 'dataset.json'
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not (dataset and '"labels"' in text):
            return None
        line = getattr(error, 'lineno', 1)
        raise UserError(f'{path}, line {line}: {error}. {_remedy(path)}') from error
    if objects := named_colours(content):
        return [Entry(name, value, k, 1) for k, (name, value) in enumerate(objects)], True
    labels = content.get('labels') if dataset and isinstance(content, dict) else content
    if isinstance(labels, list) and dataset and all(isinstance(name, str) for name in labels):
        labels = {name: number for number, name in enumerate(labels)}
    if not isinstance(labels, dict):
        return None
    if labels and all(str(key).isdecimal() for key in labels):  # as in version 1: number to name
        if not all(isinstance(name, str) for name in labels.values()):
            return None
        pairs = [(name, int(key)) for key, name in labels.items()]
    else:
        pairs = list(labels.items())
    lines = text.splitlines()
    entries = []
    for row, (name, number) in enumerate(pairs):
        value = _value(str(number), isinstance(number, list)) if _plain(number) else None
        if value is None or re.search('[\ud800-\udfff]', name):
            return None  # regions of nnU-Net, another program's, or half a character
        found = (n for n, line in enumerate(lines, 1) if json.dumps(name)[1:-1] in line)
        entries.append(Entry(name, value, row, next(found, 1)))
    return entries, dataset


def named_colours(content: object) -> list[tuple[str, MaskValue]]:
    """Return names and colours of a JSON list of objects, or of one in an object; [] for others.

    As labelling tools write them: {"classes": [{"title": "road", "color": "#804080"}]}.
    """
    lists = content.values() if isinstance(content, dict) else [content]
    rows = next((v for v in lists if isinstance(v, list) and v), [])
    found = []
    for row in rows:
        cells = row if isinstance(row, dict) else {}
        cells = {re.sub('[^a-z]', '', key.lower()): value for key, value in cells.items()}
        name = next((cells[key] for key in COLUMNS['name'].split() if key in cells), None)
        colour = next((cells[key] for key in COLUMNS['colour'].split() if key in cells), None)
        value = _value(str(colour), True) if _plain(colour) else None
        if not isinstance(name, str) or not name.strip() or value is None:
            return []
        if re.search('[\ud800-\udfff]', name):  # half a character
            return []
        found.append((name.strip(), value))
    return found


def _plain(value: object) -> bool:
    """Return whether a JSON value is a whole number, [R, G, B], or '1'."""
    return (type(value) is int or isinstance(value, str)) or (
        isinstance(value, list) and len(value) == 3 and all(type(v) is int for v in value)
    )
