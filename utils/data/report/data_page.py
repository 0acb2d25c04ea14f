"""The page of train.py --check --report: what is wrong, the classes, and pairs to look at."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from utils.masks.values import value_to_json
from utils.runtime.cgroups import available_cores
from utils.runtime.errors import first_few, proposed, shown

from .figures import colour_style, swatch
from .look import Look, Section
from .oddities import percent
from .page import document, gallery, write_page
from .suspicions import Suspicion

if TYPE_CHECKING:
    from .check import Contents

MOST_LINES = 40  # of a kind of problem, all of which the terminal lists
FEW_CLASSES = 12  # are shown at once; more can be unfolded
MOST_IDS = 6  # named in the verdict


def write_data_page(folder: Path, report: dict, contents: 'Contents') -> str:
    """Write folder/index.html; return a line that says so and how many suspicions it has.

    report: as --json writes it.
    """
    look = Look(report, contents)
    path = write_page(folder, page_html(report, look))
    count = sum(map(_count, look.suspicions))
    return f'report: {path}' + (f', with {_plural(count, "suspicion")}' if count else '')


def page_html(report: dict, look: Look) -> str:
    """Return the page. Its figures are drawn in threads."""
    title = f'Data: {report["images"]} and {report["masks"]}'
    first = [*look.problem_sections(), *look.suspicious_sections()]
    others = look.other_sections()
    drawn = _drawn([*first, *others], look)
    parts = [
        f'<h1>{escape(title)}</h1>', _verdict(report, look), _facts(report, look),
        _classes(report, look), *drawn[: len(first)], _notes(report), *drawn[len(first) :],
    ]  # fmt: skip
    return document(title, '\n'.join(filter(None, parts)))


def _drawn(sections: Sequence[Section], look: Look) -> list[str]:
    """Return the sections as HTML."""
    work = [draw for section in sections for draw in section.figures]
    look.figures.share_bytes(len(work))
    with ThreadPoolExecutor(min(8, available_cores())) as threads:
        figures = threads.map(lambda draw: draw(), work)
        return [
            f'<h2>{escape(section.title)}</h2>\n'
            + (f'<p class="note">{escape(section.note)}</p>\n' if section.note else '')
            + gallery([next(figures) for _ in section.figures])
            for section in sections
        ]


def _verdict(report: dict, look: Look) -> str:
    """Return how many problems and suspicions there are, and which."""
    problems, count = report['problems'], sum(map(_count, look.suspicions))
    parts = []
    if problems:
        by_kind = _by_kind((problem['kind'], problem['text']) for problem in problems)
        lines = ''.join(f'<p>{escape(line)}</p>' for line in proposed(report['proposals']))
        body = by_kind + lines
        parts.append(_box('bad', _plural(len(problems), 'problem'), body))
    if report['left_out']:
        left = _by_kind((problem['kind'], problem['text']) for problem in report['left_out'])
        heading = f'Pairs left out for {_plural(len(report["left_out"]), "problem")}'
        parts.append(_box('doubt', heading, left))
    if count:
        lines = ''.join(f'<li>{_suspected(found, look.ids)}</li>' for found in look.suspicions)
        none = '' if problems else 'No problem, but '
        heading = f'{none}{_plural(count, "suspicion")}: please look'
        parts.append(_box('doubt', heading, f'<ul>{lines}</ul>'))
    if not parts:
        text = 'Look whether the tinted areas are what each class should be.'
        notes = sum(note.startswith('note:') for note in report.get('notes', []))
        text += f' There {"is" if notes == 1 else "are"} {_plural(notes, "note")}.' * bool(notes)
        parts.append(_box('good', 'Nothing is wrong, and nothing looks suspicious', text))
    return '\n'.join(parts)


def _box(kind: str, heading: str, body: str) -> str:
    text = f'<div>{body}</div>'
    return f'<div class="verdict {kind}"><strong>{escape(heading)}</strong>{text}</div>'


def _suspected(found: Suspicion, ids: Sequence[str]) -> str:
    """Return a suspicion in a line: how many pairs, of what kind, and which."""
    if not found.remarks:
        return f'<b>{escape(found.kind)}</b>: {escape(found.text)}'
    names = first_few((ids[k] for k in found.remarks), MOST_IDS)
    return f'<b>{len(found.remarks)} × {escape(found.kind)}</b>: {escape(names)}'


def _count(found: Suspicion) -> int:
    return max(1, len(found.remarks))


def _by_kind(problems: Iterable[tuple[str, str]]) -> str:
    """Return problems by kind, as lists that can be unfolded; a few are open from the start."""
    kinds: dict[str, list[str]] = {}
    for kind, text in problems:
        kinds.setdefault(kind, []).append(text)
    parts = []
    for kind, texts in kinds.items():
        lines = [f'<li>{escape(text)}</li>' for text in texts[:MOST_LINES]]
        if len(texts) > MOST_LINES:
            lines.append(f'<li>and {len(texts) - MOST_LINES} more, which the terminal lists</li>')
        few = ' open' if len(texts) <= 3 and len(kinds) <= 3 else ''
        heading = f'<summary><b>{len(texts)} {escape(kind)}</b></summary>'
        parts.append(f'<details{few}>{heading}<ul>{"".join(lines)}</ul></details>')
    return '\n'.join(parts)


def _facts(report: dict, look: Look) -> str:
    facts = [_plural(report['pairs'], 'pair')]
    if 'classes' in report:
        facts[0] += f' ({report["training"]} to train on, {report["validation"]} to validate on)'
        for title in ('sizes', 'modes', 'mask_kinds'):
            kinds = (f'{kind} ({count})' for kind, count in report[title].items())
            facts.append(f'{title.replace("_", " ")}: {first_few(kinds, 3)}')
    if look.measured < len(look.ids):
        facts.append(f'suspicions are told from {look.measured:,} of them')
    return f'<p class="note">{escape(" · ".join(facts))}</p>'


def _classes(report: dict, look: Look) -> str:
    """Return a row for each class: colour, name, its share as a bar, and how many masks have it."""
    rows = [_class_row(row, look) for row in report.get('classes', [])]
    if not rows:
        return ''
    shares = look.scan.shares()
    for value in look.masks.ignore:
        bar, share = _bar(shares.get(value, 0), ''), percent(shares.get(value, 0))
        name = escape(f'value {value_to_json(value)}, ignored')
        cells = f'<td></td><td>{name}</td><td>{bar}</td><td>{share}</td><td></td>'
        rows.append(f'<tr>{cells}</tr>')
    more = ''
    if len(rows) > FEW_CLASSES:
        heading = f'<summary>{len(rows) - FEW_CLASSES} more classes</summary>'
        more = f'<details>{heading}{_bars(rows[FEW_CLASSES:])}</details>'
    return f'<h2>Classes, with their share of the pixels</h2>\n{_bars(rows[:FEW_CLASSES])}{more}'


def _bars(rows: Sequence[str]) -> str:
    return '<table class="bars">\n{}\n</table>'.format('\n'.join(rows))


def _bar(share: float, colour: str) -> str:
    return f'<div class="bar" style="{colour}width: {100 * share:.3g}%"></div>' if share else ''


def _class_row(row: dict, look: Look) -> str:
    background = look.masks.background
    key = swatch(row['index'], background)
    value = '' if row['name'] == str(row['value']) else f' (value {row["value"]})'
    name = escape(row['name'] + value) + ' · background' * (row['index'] == background)
    masks = f'in {row["masks"]} of {len(look.ids)} masks'
    if not row['masks']:
        masks = '<span class="bad">in no mask</span>'
    colour = colour_style(row['index'], background)
    cells = [key, name, _bar(row['share'], colour), percent(row['share']), masks]
    return f'<tr>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _notes(report: dict) -> str:
    notes = [f'<li>{escape(shown(note))}</li>' for note in report.get('notes', [])]
    return f'<h2>Notes</h2>\n<ul>{"".join(notes)}</ul>' if notes else ''


def _plural(count: int, word: str) -> str:
    return f'{count:,} {word}{"s" * (count != 1)}'
