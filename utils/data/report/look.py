"""What to look at in a data set: pairs with problems, suspicious, odd and random ones."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils.runtime.errors import first_few, shown

from .figures import Figures
from .oddities import class_shares, foreground_shares, least_fitting, odd_pairs, random_pairs
from .outlines import gradient
from .suspicions import Suspicion, flat_images, inverted, twins, wrong_pairs
from .thumbnails import MEASURED_SIDE, Measures, Reader, any_encoding, in_threads, measure

if TYPE_CHECKING:
    from .check import Contents

MOST_MEASURED = 10_000  # pairs, evenly chosen
MOST_SHOWN = 12  # figures of a kind of suspicion
OF_A_PROBLEM, KINDS = 4, 6  # figures, and kinds of problems that have some


class Section(NamedTuple):
    """A heading with figures, which are drawn when it is known how many there are."""

    title: str
    note: str
    figures: Sequence[Callable[[], str]]


class Look:
    """The suspicions and figures of a data set, whose pairs are measured when it is made."""

    def __init__(self, report: dict, contents: 'Contents'):
        self.report, self.contents, self.scan = report, contents, contents.scan
        self.masks = contents.masks or any_encoding(self.scan)
        self.reader = Reader(self.scan, self.masks, contents.channels, contents.image_range)
        self.shares = class_shares(self.scan, self.masks)
        self.figures = Figures(self.reader, self.shares, contents.training)
        self.ids = [shown(pair.id) for pair in self.scan.pairs]
        measures = self._measure()
        self.fits = np.array([found.fit if found else np.nan for found in measures])
        self.measured = sum(found is not None for found in measures)
        self.suspicions = self._absent_classes()
        if contents.masks and self.masks.background is not None:
            border = np.array([found.border if found else np.nan for found in measures])
            self.suspicions += inverted(foreground_shares(self.shares, self.masks), border)
        self.suspicions += wrong_pairs(measures, self.ids, self._edges) + flat_images(measures)
        self.suspicions += twins(measures, self.ids, contents.training, contents.validation)

    def _measure(self) -> list[Measures | None]:
        """Return the measures of each pair, None for those that are not measured."""
        entries = self.scan.metadata
        positions = range(0, len(entries), max(1, -(-len(entries) // MOST_MEASURED)))
        chosen = [entries[k] for k in positions]
        read = in_threads(partial(measure, self.reader), chosen, 'Looking at the pairs')
        found = dict(zip(positions, read, strict=True))
        return [found.get(k) for k in range(len(entries))]

    def _absent_classes(self) -> list[Suspicion]:
        absent = [row['name'] for row in self.report.get('classes', []) if not row['masks']]
        if not absent:
            return []
        text = (
            f'{first_few(absent, 8)}: no mask has a pixel of it. Look at the values of the masks.'
        )
        return [Suspicion('class without pixels', text, {})]

    def _edges(self, position: int) -> np.ndarray:
        image, _ = self.reader.read(self.scan.metadata[position], MEASURED_SIDE)
        return gradient(image)

    def suspicious_sections(self) -> list[Section]:
        """Return the figures of the suspicions that are about single pairs."""
        sections = []
        for found in self.suspicions:
            chosen = list(found.remarks.items())[:MOST_SHOWN]
            drawn = [
                partial(self.figures.twin, k, found.beside[k])
                if k in found.beside
                else partial(self.figures.pair, k, remark)
                for k, remark in chosen
            ]
            sections.append(Section(f'Suspicion: {found.kind}', found.text, drawn))
        return [section for section in sections if section.figures]

    def problem_sections(self) -> list[Section]:
        """Return the figures of pairs with problems, and of those left out, a few of each kind."""
        readable = {pair.id: k for k, pair in enumerate(self.scan.pairs)}
        known = {pair.id: pair for pair in self.contents.pairs}
        by_kind: dict[str, dict[str, str]] = {}
        for title, problems in (('Problem', 'problems'), ('Left out', 'left_out')):
            for problem in self.report[problems]:
                texts = by_kind.setdefault(f'{title}: {problem["kind"]}', {})
                texts |= {name: problem['text'] for name in problem['pairs'] if name in known}
        sections = []
        for kind, texts in [item for item in by_kind.items() if item[1]][:KINDS]:
            drawn: list[Callable[[], str]] = []
            for name, text in list(texts.items())[:OF_A_PROBLEM]:
                line = shown(text.partition('\n')[0])
                if name in readable:
                    drawn.append(partial(self.figures.pair, readable[name], line))
                else:
                    drawn.append(partial(self.figures.unread, known[name], line))
            sections.append(Section(kind, '', drawn))
        return sections

    def other_sections(self) -> list[Section]:
        """Return the figures of odd pairs, and of random ones that are not shown elsewhere."""
        seen = {k for found in self.suspicions for k in list(found.remarks)[:MOST_SHOWN]}
        sections = []
        notes = self.report.get('notes', [])
        groups = odd_pairs(self.scan, self.masks, self.shares, notes)
        for group in (least_fitting(self.fits), *groups):
            if not group.remarks:
                continue
            sections.append(Section(group.title, '', self._pairs(group.remarks.items(), 'plain')))
            seen |= group.remarks.keys()
        chosen = random_pairs(len(self.ids), sorted(seen))
        if chosen:
            drawn = self._pairs((k, '') for k in chosen)
            sections.append(Section('Other pairs, chosen at random', '', drawn))
        return sections

    def _pairs(
        self, remarks: Iterable[tuple[int, str]], kind: str = 'doubt'
    ) -> list[Callable[[], str]]:
        return [partial(self.figures.pair, k, remark, kind) for k, remark in remarks]
