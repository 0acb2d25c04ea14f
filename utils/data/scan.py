"""What a data set's files hold, read once before training: sizes, modes and mask values.

Read in threads and remembered in the user's cache folder by (path, size, time of change), so that
the second start reads file dates only. The data set itself is never written to.

What earlier scans read, remembered in the user's cache folder; never in the data set.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from utils.images.decoding import WITH_ALPHA
from utils.masks.encoding import MaskEncoding, Value
from utils.masks.values import merge_counts
from utils.runtime.errors import Problem, UserError, data_error, first_few
from utils.runtime.files import user_cache, whole_file

from .consistency import mixed_kinds, mixed_palettes, wrong_sizes
from .metadata import PairMetadata, from_plain, image_metadata, mask_metadata, to_plain
from .pairing import Pair

FEW_PIXELS = 0.001  # the share under which a class is pointed out


@dataclass
class Scan:
    """A data set at a glance."""

    pairs: list[Pair]
    facts: list[PairMetadata]
    counts: dict  # pixels of each mask value over all masks
    first_file: dict  # the first mask that holds a value
    left_out: list[Problem]  # what was wrong with the pairs that --skip-bad left out

    def values(self) -> list[Value]:
        """The mask values, sorted, colours as lists."""
        return [list(v) if isinstance(v, tuple) else v for v in self.counts]

    def shares(self) -> dict:
        """The part of all pixels that each mask value has, 0 to 1; colours as tuples."""
        total = sum(self.counts.values())
        return {value: pixels / total for value, pixels in self.counts.items()}

    def describe_values(self, only: list[Value] | None = None) -> str:
        """'0: 91.2 % of pixels, first in a.png; 255: 8.8 % …', for messages about masks."""
        described = [
            f'{value}: {100 * share:.3g} % of pixels, first in {self.first_file[value]}'
            for value, share in self.shares().items()
            if only is None or (list(value) if isinstance(value, tuple) else value) in only
        ]
        return '; '.join(described[:8]) + ('; …' if len(described) > 8 else '')

    def notes(self, masks: MaskEncoding, channels: int) -> list[str]:
        """What is no mistake but worth a line: conversions, and classes of few pixels."""
        modes = Counter(fact.image.mode for fact in self.facts)
        into = {1: 'grey', 3: 'RGB'}.get(channels, f'{channels} channels')
        lines = []
        if self.left_out:
            texts = first_few((problem.text for problem in self.left_out), 1)
            lines.append(f'note: left out for {len(self.left_out)} problems: {texts}')
        if len(modes) > 1:
            kinds = ', '.join(f'{count} {mode}' for mode, count in modes.most_common())
            lines.append(f'note: images of {len(modes)} modes ({kinds}) are all taken as {into}')
        elif channels < 4 and set(modes) <= set(WITH_ALPHA):
            lines.append(f'note: the images are {next(iter(modes))}; alpha is dropped')
        turned = [
            p.image.name for p, f in zip(self.pairs, self.facts, strict=True) if f.image.turned
        ]
        if turned:
            lines.append(
                f'note: {len(turned)} images are turned as their EXIF orientation says, and masks '
                f'taken as drawn on the turned image: {first_few(turned)}'
            )
        moved = sum(fact.moved for fact in self.facts)
        if moved:
            share = moved / sum(self.counts.values())
            lines.append(f'note: {100 * share:.3g} % of mask pixels were moved to another value')
        shares = self.shares()
        for value, title in zip(masks.values, masks.titles, strict=True):
            share = shares.get(tuple(value) if isinstance(value, list) else value, 0)
            if share < FEW_PIXELS:
                lines.append(f'note: class {title} is {100 * share:.2g} % of the pixels')
        return lines


def scan_pairs(
    pairs: list[Pair],
    cache_dir: Path | None = None,
    masks: MaskEncoding | None = None,
    resize_masks: bool = False,
    skip_bad: bool = False,
    others: list[Problem] | None = None,
) -> Scan:
    """Read every image and mask to its end, or remember what an earlier call read.

    masks: how masks are to be read, where that is asked for. resize_masks: sizes may differ.
    skip_bad: leave pairs out with which something is wrong. others: what is wrong with files that
    make no pair, to be raised or left out with the rest. cache_dir: as of read_pairs.

    Raises UserError with all files that cannot be read, whose image and mask differ in size, or
    whose masks are of different kinds.
    """
    if not pairs:
        raise data_error(others or [])
    facts, problems = read_pairs(pairs, cache_dir, masks, resize_masks)
    left_out = []
    if skip_bad:
        bad = {name for problem in problems for name in problem.pairs}
        kept = [k for k, pair in enumerate(pairs) if pair.id not in bad]
        left_out = [*(others or []), *(problem for problem in problems if problem.pairs)]
        pairs, facts = [pairs[k] for k in kept], [facts[k] for k in kept]
        problems = [problem for problem in problems if not problem.pairs]
        if not pairs:
            raise UserError(f'no pair is left; left out for {first_few(p.text for p in left_out)}')
    else:
        problems += others or []
    if problems:
        raise data_error(problems)
    return make_scan(pairs, facts, left_out)


def make_scan(
    pairs: list[Pair], facts: list[PairMetadata], left_out: list[Problem] | None = None
) -> Scan:
    """The scan of pairs that were all read."""
    counts = merge_counts([fact.counts for fact in facts])
    return Scan(pairs, facts, counts, _first_files(pairs, facts, counts), left_out or [])


def read_pairs(
    pairs: list[Pair],
    cache_dir: Path | None = None,
    masks: MaskEncoding | None = None,
    resize_masks: bool = False,
) -> tuple[list[PairMetadata | None], list[Problem]]:
    """What each pair holds, None where that cannot be read, and all that is wrong with them.

    cache_dir: where what was read is remembered, the user's cache folder unless given.
    """
    masks = masks or MaskEncoding([])
    changes = masks.threshold is not None or masks.snap
    cache = ScanCache(pairs, cache_dir or user_cache('scans'), repr(masks) if changes else '')
    problems: list[Problem] = []

    def attempt(read: Callable[[], object], pair: Pair) -> object | None:
        """What `read` returns; a problem is noted and gives None."""
        try:
            return read()
        except UserError as error:
            problems.append(Problem(error.kind, str(error), (pair.id,)))
        except OSError as error:  # a link to nothing, a file gone since the folder was listed
            text = (
                f'{error.filename} cannot be read: {error.strerror}. Replace it, or leave it and '
                'its partner out.'
            )
            problems.append(Problem('unreadable', text, (pair.id,)))
        return None

    def examine(pair: Pair) -> PairMetadata | None:
        """What is remembered or read of a pair."""
        known = attempt(lambda: cache.get(pair) or [], pair)
        if known or known is None:
            return known and from_plain(known)
        image = attempt(lambda: image_metadata(pair.image), pair)
        mask = attempt(lambda: mask_metadata(pair.mask, masks), pair)
        if not (image and mask):
            return None
        facts = PairMetadata(image, *mask)
        cache.put(pair, to_plain(facts))
        return facts

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        examined = threads.map(examine, pairs)
        facts = list(tqdm(examined, 'Reading the data', len(pairs), leave=False, delay=2))
    cache.write()
    problems.sort(key=lambda problem: problem.text)  # threads note them in any order
    known = [(pair, fact) for pair, fact in zip(pairs, facts, strict=True) if fact]
    problems += [] if resize_masks else wrong_sizes(known)
    problems += mixed_kinds(known, masks)
    if not masks.values or isinstance(masks.values[0], list):
        problems += mixed_palettes(known)
    return facts, problems


def _first_files(pairs: list[Pair], facts: list[PairMetadata], counts: dict) -> dict:
    first: dict = {}
    for pair, fact in zip(pairs, facts, strict=True):
        for value in fact.counts:
            key = value if value in counts else (value,) * 3
            first.setdefault(key, pair.mask.name)
    return first


CACHE_VERSION = 2  # raise it when the same file would give other facts


class ScanCache:
    """Plain facts of the pairs of two folders, in one JSON file; one that is no use is empty.

    rule: how masks were read, where that changes what was counted.
    """

    def __init__(self, pairs: list[Pair], folder: Path, rule: str = ''):
        self.folders = (pairs[0].image.parent, pairs[0].mask.parent)
        places = f'{pairs[0].image.parent.resolve()}|{pairs[0].mask.parent.resolve()}|{rule}'
        self.path = folder / f'{hashlib.sha256(places.encode()).hexdigest()[:16]}.json'
        self.seen: dict = {}  # what goes back into the file: entries of files since gone do not
        try:
            content = json.loads(self.path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            content = None
        usable = isinstance(content, dict) and content.get('version') == CACHE_VERSION
        self.entries = content['pairs'] if usable else {}

    def _key(self, pair: Pair) -> str:
        stats = [
            # Files of other folders, a validation set's, may have the names of the first ones.
            (p.name if p.parent == folder else str(p.resolve()), s.st_size, s.st_mtime_ns)
            for p, folder in zip((pair.image, pair.mask), self.folders, strict=True)
            if (s := p.stat())
        ]
        return json.dumps(stats)

    def get(self, pair: Pair) -> list | None:
        """What is remembered of a pair whose files have not changed since."""
        key = self._key(pair)
        entry = self.entries.get(key)
        if entry is not None:
            self.seen[key] = entry
        return entry

    def put(self, pair: Pair, entry: list) -> None:
        """Remember a pair's facts."""
        self.seen[self._key(pair)] = entry

    def write(self) -> None:
        """Replace the cache file; a home that cannot be written to costs the next start's time."""
        if self.seen.keys() == self.entries.keys():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = {'version': CACHE_VERSION, 'pairs': self.seen}
            with whole_file(self.path) as part:
                part.write_text(json.dumps(content), encoding='utf-8')
        except OSError as error:
            print(f'note: the scan of the masks is not remembered: {error}')
