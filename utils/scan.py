"""What a data set's files hold, read once before training: sizes, modes and mask values.

Read in threads and remembered in the user's cache folder by (path, size, time of change), so that
the second start reads file dates only. The data set itself is never written to.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .decoding import check_mode, examine_picture, open_picture
from .dice_score import IGNORE
from .errors import UserError, first_few
from .files import user_cache, whole_file
from .mask_values import Value, count_values, mask_array, merge_counts
from .pairing import Pair

CACHE_VERSION = 1  # raise it when the same file would give other facts
MAX_GUESSED_CLASSES = 32  # more values than this are a lossy or smoothed mask, not classes
MAX_CLASSES = IGNORE  # class indices are uint8, and this label is padding's


@dataclass
class PairFacts:
    """One pair: sizes are (width, height) in pixels, counts the pixels of each mask value."""

    image_size: tuple[int, int]
    image_mode: str
    mask_size: tuple[int, int]
    mask_kind: str  # 'index' for palette files, whose values are indices, else 'value'
    counts: dict


@dataclass
class Scan:
    """A data set at a glance."""

    facts: list[PairFacts]
    counts: dict  # pixels of each mask value over all masks
    first_file: dict  # the first mask that holds a value

    def values(self) -> list[Value]:
        """The mask values, sorted, colours as lists; a value's position is its class."""
        return [list(v) if isinstance(v, tuple) else v for v in self.counts]

    def shares(self) -> dict:
        """The part of all pixels that each mask value has, 0 to 1."""
        total = sum(self.counts.values())
        return {value: pixels / total for value, pixels in self.counts.items()}

    def describe_values(self) -> str:
        """'0: 91.2 % of pixels, first in a.png; 255: 8.8 % …', for messages about masks."""
        described = [
            f'{value}: {100 * share:.3g} % of pixels, first in {self.first_file[value]}'
            for value, share in self.shares().items()
        ]
        return '; '.join(described[:8]) + ('; …' if len(described) > 8 else '')


def scan_pairs(pairs: list[Pair], cache_dir: Path | None = None) -> Scan:
    """Read every image and mask to its end, or remember what an earlier call read.

    cache_dir: where what was read is remembered, the user's cache folder unless given.

    Raises UserError with all files that cannot be read, whose image and mask differ in size, or
    whose masks are of different kinds.
    """
    cache = _Cache(pairs, cache_dir or user_cache('scans'))
    problems: list[str] = []

    def examine(pair: Pair) -> PairFacts | None:
        """What is remembered or read of a pair; a problem is noted and gives None."""
        try:
            return cache.get(pair) or cache.put(pair, _read_facts(pair))
        except UserError as error:
            problems.append(str(error))
        except OSError as error:  # a link to nothing, a file gone since the folder was listed
            problems.append(f'{error.filename} cannot be read: {error.strerror}')
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        examined = threads.map(examine, pairs)
        facts = list(tqdm(examined, 'Reading the data', len(pairs), leave=False, delay=2))
    cache.write()
    problems += _disagreements(pairs, facts)
    if problems:
        shown = '\n  '.join(sorted(problems)[:10])
        more = f'\n  and {len(problems) - 10} more' if len(problems) > 10 else ''
        raise UserError(f'{len(problems)} problems with the data:\n  {shown}{more}')
    counts = merge_counts([fact.counts for fact in facts])
    return Scan(facts, counts, _first_files(pairs, facts, counts))


def _read_facts(pair: Pair) -> PairFacts:
    image_size, image_mode = examine_picture(pair.image)
    check_mode(image_mode, pair.image)
    mask = open_picture(pair.mask)
    counts = count_values(mask_array(mask, pair.mask))
    kind = 'index' if mask.mode in ('P', 'PA') else 'value'
    return PairFacts(image_size, image_mode, mask.size, kind, counts)


def _disagreements(pairs: list[Pair], facts: list[PairFacts | None]) -> list[str]:
    known = [(pair, fact) for pair, fact in zip(pairs, facts, strict=True) if fact]
    problems = [
        f'{pair.image} is {_size(fact.image_size)} but its mask {pair.mask} is '
        f'{_size(fact.mask_size)} (width x height); make them equal'
        for pair, fact in known
        if fact.image_size != fact.mask_size
    ]
    kinds = {kind: [p.mask for p, f in known if f.mask_kind == kind] for kind in ('index', 'value')}
    values = {
        kind: {v for _, f in known if f.mask_kind == kind for v in f.counts} for kind in kinds
    }
    if all(kinds.values()) and not values['index'] <= values['value']:
        problems.append(
            f'masks are of different kinds: {len(kinds["index"])} with a palette '
            f'({first_few(kinds["index"])}), {len(kinds["value"])} without '
            f'({first_few(kinds["value"])}); save all in one kind'
        )
    return problems


def _size(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]}'


def _first_files(pairs: list[Pair], facts: list[PairFacts], counts: dict) -> dict:
    first: dict = {}
    for pair, fact in zip(pairs, facts, strict=True):
        for value in fact.counts:
            key = value if value in counts else (value,) * 3
            first.setdefault(key, pair.mask.name)
    return first


def check_classes(scan: Scan, classes: int | None) -> list[Value]:
    """The mask values to learn; raises UserError where `classes` (None: as found) does not fit.

    One class is binary: two values, background and foreground, and one logit.
    """
    values = scan.values()
    expected = 2 if classes == 1 else classes or len(values)
    if len(values) < 2:
        raise UserError(
            f'all masks hold one value only ({scan.describe_values()}); expected two or more, '
            'background and what is to be found. Look at the masks.'
        )
    lossy = (
        'They look like JPEG or smoothed masks: save masks as PNG, resized by nearest neighbour, '
        'with one value a class.'
    )
    remedy = f'Use --classes {len(values)}, or leave it out, or mend the masks.'
    found = f'masks hold {len(values)} distinct values ({scan.describe_values()})'
    if len(values) > MAX_CLASSES:
        raise UserError(f'{found}; expected at most {MAX_CLASSES}. {lossy}')
    if classes is None and len(values) > MAX_GUESSED_CLASSES:
        raise UserError(f'{found}. {lossy} If all are classes, say --classes {len(values)}.')
    if len(values) != expected:
        raise UserError(
            f'{found} but --classes is {classes}, for which {expected} are expected. '
            + (lossy if len(values) > MAX_GUESSED_CLASSES else remedy)
        )
    return values


def match_values(scan: Scan, known: list[Value]) -> list[Value]:
    """The mask values by which to read these masks for a network trained on the values `known`.

    Those themselves where they cover the masks; other values of the same number are taken in
    their order (0 and 255 for 0 and 1), and said. Raises UserError where neither fits.
    """
    found = scan.values()
    if all(value in known for value in found):
        return known
    if len(found) == len(known):
        print(f'note: masks hold {found}, the model was trained on {known}: taken in this order')
        return found
    raise UserError(
        f'masks hold {len(found)} distinct values ({scan.describe_values()}) but the model was '
        f'trained on {len(known)}: {known}. Name masks of the same classes with --masks.'
    )


class _Cache:
    """Facts of the pairs of two folders, in one JSON file; a cache that cannot be used is empty."""

    def __init__(self, pairs: list[Pair], folder: Path):
        places = f'{pairs[0].image.parent.resolve()}|{pairs[0].mask.parent.resolve()}'
        self.path = folder / f'{hashlib.sha256(places.encode()).hexdigest()[:16]}.json'
        self.seen: dict = {}  # what goes back into the file: entries of files since gone do not
        try:
            content = json.loads(self.path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            content = None
        usable = isinstance(content, dict) and content.get('version') == CACHE_VERSION
        self.entries = content['pairs'] if usable else {}

    @staticmethod
    def _key(pair: Pair) -> str:
        stats = [
            (p.name, s.st_size, s.st_mtime_ns) for p in (pair.image, pair.mask) if (s := p.stat())
        ]
        return json.dumps(stats)

    def get(self, pair: Pair) -> PairFacts | None:
        """What is remembered of a pair whose files have not changed since."""
        key = self._key(pair)
        entry = self.entries.get(key)
        if entry is None:
            return None
        self.seen[key] = entry
        image_size, image_mode, mask_size, kind, counts = entry
        values = {tuple(v) if isinstance(v, list) else v: n for v, n in counts}
        return PairFacts(tuple(image_size), image_mode, tuple(mask_size), kind, values)

    def put(self, pair: Pair, facts: PairFacts) -> PairFacts:
        """Remember a pair's facts, and return them."""
        entry = [*list(vars(facts).values())[:-1], list(facts.counts.items())]
        self.seen[self._key(pair)] = entry
        return facts

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
