"""Which classes the masks have by a table of another program, which may not fit in all.

A class that no mask has keeps its number, so that networks for parts of a data set agree. A value
without an entry becomes a class of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from utils.runtime.errors import first_few

from ..values import MAX_CLASSES, MaskValue, format_values, value_to_json
from .formats import Entry
from .lookup import ClassTable, void_names

ZERO = (0, (0, 0, 0))


@dataclass
class Fit:
    """The classes of masks by a table. notes: what of it does not hold for the masks."""

    values: list[MaskValue]
    names: list[str]
    ignore: list[MaskValue]
    notes: list[str] = field(default_factory=list)


def fit_table(
    table: ClassTable,
    found: Sequence[MaskValue],
    indices: Mapping[MaskValue, int],
    ignore: Collection[MaskValue] = (),
    keep: Collection[MaskValue] = (),
    count: int | None = None,
) -> Fit | None:
    """Return the classes by the table, None if it does not fit.

    found: values of the masks that are not ignored. indices: of colours in their palettes; empty
        where not all masks have one. ignore: values that do not count. keep: values that are
        classes whatever their names. count: of classes, as asked for.
    """
    entries, notes = _as_values(table, found, indices)
    entries = [entry for entry in entries if entry.value not in ignore]
    known = {entry.value for entry in entries}
    fitting = [value for value in found if value in known]
    only_zero = (
        table.clear and fitting and {*found} - known <= {*ZERO}
    )  # background without an entry
    if not only_zero and (len(fitting) < 2 or 2 * len(fitting) < len(found)):
        return None
    void = void_names(entries, keep)
    ignored = [entry for entry in entries if entry.name in void]
    classes = [entry for entry in entries if entry.name not in void]
    extra = [value for value in found if value not in known]
    absent = [entry.name for entry in classes if entry.value not in found]
    total = len(classes) + len(extra)
    if absent and (total > MAX_CLASSES or (count and total != count)):
        classes = [entry for entry in classes if entry.value in found]
    if count and len(classes) + len(extra) != count:
        return None
    pairs = [(entry.value, entry.name) for entry in classes]
    others = [(value, name_of(value)) for value in extra]
    pairs = [p for p in others if p[0] in ZERO] + pairs + [p for p in others if p[0] not in ZERO]
    less = len(classes) + len(extra) < total
    void, names = [entry.name for entry in ignored], [name for _, name in pairs]
    notes = [
        *describe_table(table, void, absent, len(classes), less),
        *notes,
        *_describe(table, extra),
    ]
    return Fit([v for v, _ in pairs], names, [entry.value for entry in ignored], notes)


def name_of(value: MaskValue) -> str:
    """Return the name of a class of which only the value is known."""
    return str(value_to_json(value))


def _as_values(
    table: ClassTable, found: Sequence[MaskValue], indices: Mapping[MaskValue, int]
) -> tuple[list[Entry], list[str]]:
    """Return the entries with values as those of the masks, and a note if they are other ones.

    A table of colours may belong to masks of grey values, of palette indices, or of numbers.
    """
    entries = list(table.entries)
    coloured = any(isinstance(entry.value, tuple) for entry in entries)
    if not coloured or any(isinstance(value, tuple) for value in found):
        return entries, []
    by_index = [e._replace(value=indices[e.value]) for e in entries if e.value in indices]
    if len({entry.value for entry in by_index} & {*found}) > 1:
        return by_index, []
    greys = [e._replace(value=e.value[0]) for e in entries
             if isinstance(e.value, tuple) and len({*e.value}) == 1]  # fmt: skip
    if {*found} <= {entry.value for entry in greys}:
        return greys, []
    numbered = [entry._replace(value=entry.number) for entry in entries]
    if len(found) > 2 and {*found} <= {entry.value for entry in numbered}:
        text = f'note: the masks hold numbers, which are taken as those of the rows of {table.path}'
        return numbered, [text]
    return entries, []


def describe_table(
    table: ClassTable, void: Sequence[str], absent: Sequence[str], count: int, less: bool = False
) -> list[str]:
    """Return lines on a table that is used.

    void, absent: names whose pixels do not count, and that no mask has. count: of classes that it
    names. less: whether absent ones are left out.
    """
    notes = [f'classes from {table.path}: {count} name{"s" * (count != 1)}']
    if void:
        values = table.values()
        few = first_few(f'{name} (value {format_values([values[name]])})' for name in void)
        notes.append(
            f'note: {few} of {table.path}: such pixels are not labelled, and do not count. '
            '--mask-values with the values of all classes would count them.'
        )
    if absent:
        rest = 'are left out' if less else 'keep their places'
        notes.append(
            f'note: classes of this table that no mask has, and that {rest}: {first_few(absent)}'
        )
    return notes


def _describe(table: ClassTable, extra: Sequence[MaskValue]) -> list[str]:
    if not extra:
        return []
    return [
        f'note: {table.path} names no class for these values of the masks, each of which counts as '
        f'a class of its own: {first_few(map(str, extra), 8)}'
    ]
