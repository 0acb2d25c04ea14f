"""Scan of a data set before training: the metadata of all images and masks, cached.

Files are read completely, in threads, so that truncation is detected. The metadata is kept in the
user's cache folder by path, size and modification time, for the next start.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from utils.images.decoding import DECODE_PATH, PILLOW_DECODE, PILLOW_NOTE
from utils.images.metadata import ImageMetadata, read_metadata
from utils.masks.encoding import MaskEncoding
from utils.masks.metadata import MaskMetadata, merge_counts, read_mask_metadata
from utils.masks.values import MaskValue, value_from_json
from utils.runtime.errors import Problem, UserError, data_error, first_few
from utils.runtime.files import user_cache, whole_file

from .consistency import mixed_kinds, mixed_palettes, wrong_sizes
from .pairing import Pair

T = TypeVar('T')
RARE = 0.001  # fraction of all pixels; rarer classes are pointed out


class PairMetadata(NamedTuple):
    """A pair and the metadata of its image and mask."""

    pair: Pair
    image: ImageMetadata
    mask: MaskMetadata


@dataclass
class DatasetScan:
    """The metadata of a data set."""

    metadata: list[PairMetadata]
    left_out: list[Problem] = field(default_factory=list)  # for --skip-bad
    decode: str = DECODE_PATH

    @property
    def pairs(self) -> list[Pair]:
        """The pairs."""
        return [pair for pair, _, _ in self.metadata]

    @cached_property
    def counts(self) -> dict[MaskValue, int]:
        """Pixels of each value over all masks, sorted by value."""
        return merge_counts([mask.counts for _, _, mask in self.metadata])

    def values(self) -> list[MaskValue]:
        """Return the mask values, sorted."""
        return list(self.counts)

    def shares(self) -> dict[MaskValue, float]:
        """Return each mask value's fraction of all pixels."""
        total = sum(self.counts.values())
        return {value: pixels / total for value, pixels in self.counts.items()}

    def describe_values(self, only: list[MaskValue] | None = None) -> str:
        """Return '0: 91.2 % of pixels, first in a.png; 255: 8.8 % …', for messages about masks."""
        first: dict[MaskValue, str] = {}
        for pair, _, mask in self.metadata:
            for value in mask.counts:
                if isinstance(value, int) and value not in self.counts:  # grey beside colours
                    value = (value, value, value)
                first.setdefault(value, pair.mask.name)
        described = [
            f'{value}: {100 * share:.3g} % of pixels, first in {first[value]}'
            for value, share in self.shares().items()
            if only is None or value in only
        ]
        return '; '.join(described[:8]) + ('; …' if len(described) > 8 else '')

    def notes(self, masks: MaskEncoding, channels: int) -> list[str]:
        """Return notes for the user: pairs left out, conversions, and rare classes."""
        lines = []
        if self.left_out:
            texts = first_few((problem.text for problem in self.left_out), 1)
            lines.append(f'note: pairs left out for {len(self.left_out)} problems: {texts}')
        modes = Counter(image.mode for _, image, _ in self.metadata)
        if len(modes) > 1:
            kinds = ', '.join(f'{count} {mode}' for mode, count in modes.most_common())
            into = {1: 'grey', 3: 'RGB'}.get(channels, f'{channels} channels')
            lines.append(f'note: images of {len(modes)} modes ({kinds}) are all taken as {into}')
        elif channels in (1, 3) and all(image.alpha for _, image, _ in self.metadata):
            lines.append(f'note: the images are {next(iter(modes))}; alpha is dropped')
        more = [pair.image.name for pair, image, _ in self.metadata if image.channels > 3]
        if more and channels == 3:
            lines.append(
                f'note: {len(more)} images have more than 3 channels, of which the first 3 are '
                f'taken: {first_few(more)}. Training without --channels takes all.'
            )
        if self.decode == PILLOW_DECODE:
            lines.append(PILLOW_NOTE)
        turned = [pair.image.name for pair, image, _ in self.metadata if image.turned]
        if turned:
            lines.append(
                f'note: {len(turned)} images are turned as their EXIF orientation says, and masks '
                f'taken as drawn on the turned image: {first_few(turned)}'
            )
        moved = sum(mask.moved for _, _, mask in self.metadata) / sum(self.counts.values())
        if moved:
            lines.append(f'note: {100 * moved:.3g} % of mask pixels were moved to another value')
        shares = self.shares()
        for value, title in zip(masks.values, masks.titles, strict=True):
            if (share := shares.get(value, 0)) < RARE:
                lines.append(f'note: class {title} is {100 * share:.2g} % of the pixels')
        return lines


def scan_pairs(
    pairs: list[Pair],
    others: list[Problem],
    masks: MaskEncoding,
    resize_masks: bool,
    skip_bad: bool,
    decode: str = DECODE_PATH,
) -> DatasetScan:
    """Scan the files of a data set; raise UserError with all problems.

    others: problems of files that make no pair, which are raised or left out like the rest.
    resize_masks: masks may differ from images in size. skip_bad: leave out pairs with problems.
    """
    if not pairs:
        raise data_error(others)
    metadata, problems = read_pairs(pairs, masks, resize_masks, decode)
    left_out: list[Problem] = []
    if skip_bad:
        bad = {name for problem in problems for name in problem.pairs}
        metadata = [entry for entry in metadata if entry.pair.id not in bad]
        left_out = [*others, *(problem for problem in problems if problem.pairs)]
        problems = [problem for problem in problems if not problem.pairs]
        if not metadata:
            raise UserError(f'no pair is left; left out for {first_few(p.text for p in left_out)}')
    else:
        problems += others
    if problems:
        raise data_error(problems)
    return DatasetScan(metadata, left_out, decode)


def read_pairs(
    pairs: list[Pair], masks: MaskEncoding, resize_masks: bool = False, decode: str = DECODE_PATH
) -> tuple[list[PairMetadata], list[Problem]]:
    """Return the metadata of all readable pairs, and the problems of all pairs."""
    cache = ScanCache(pairs, masks, decode)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        results = threads.map(lambda pair: _read_pair(pair, masks, cache), pairs)
        read = list(tqdm(results, 'Reading the data', len(pairs), leave=False, delay=2))
    cache.write()
    metadata = [entry for entry, _ in read if entry]
    problems = [problem for _, wrong in read for problem in wrong]
    problems.sort(key=lambda problem: problem.text)
    if not resize_masks:
        problems += wrong_sizes(metadata)
    problems += mixed_kinds(metadata, masks)
    if not masks.values or masks.in_colour:
        problems += mixed_palettes(metadata)
    return metadata, problems


def _read_pair(
    pair: Pair, masks: MaskEncoding, cache: 'ScanCache'
) -> tuple[PairMetadata | None, list[Problem]]:
    """Return a pair's metadata, from the cache or its files, or None and its problems."""
    problems: list[Problem] = []
    known = attempt(lambda: cache.get(pair), problems, pair)
    if known or problems:
        return known, problems
    decode = cache.decode
    image = attempt(lambda: read_metadata(_checked(pair.image), decode), problems, pair)
    mask = attempt(lambda: read_mask_metadata(_checked(pair.mask), masks, decode), problems, pair)
    if image is None or mask is None:
        return None, problems
    metadata = PairMetadata(pair, image, mask)
    cache.put(metadata)
    return metadata, []


def attempt(
    work: Callable[[], T], problems: list[Problem], pair: Pair | None = None, kind: str = ''
) -> T | None:
    """Return what `work` returns; if it fails, add that to `problems`, as one of `pair`."""
    ids = (pair.id,) if pair else ()
    try:
        return work()
    except UserError as error:
        problems.append(Problem(kind or error.kind, str(error), ids))
    except OSError as error:  # a broken link, or a file removed since the folder was listed
        remedy = 'Replace it, or leave it and its partner out.'
        text = f'{error.filename} cannot be read: {error.strerror}. {remedy}'
        problems.append(Problem('unreadable', text, ids))
    return None


def _checked(path: Path) -> Path:
    """Return the path; raise UserError if it is not a file: reading a pipe would never end."""
    if path.exists() and not path.is_file():
        raise UserError(f'{path} is not a file; expected a picture. Remove it.')
    return path


CACHE_VERSION = 4  # raise it when the same file would give other metadata


class ScanCache:
    """Metadata of the pairs of two folders in a JSON file; an unusable file counts as empty."""

    def __init__(self, pairs: list[Pair], masks: MaskEncoding, decode: str = DECODE_PATH):
        self.decode = decode
        self.folders = (pairs[0].image.parent, pairs[0].mask.parent)
        rule = repr(masks) if masks.threshold is not None or masks.snap else ''  # of counting
        rule += decode if decode == PILLOW_DECODE else ''  # sizes are of pictures as stored
        places = f'{self.folders[0].resolve()}|{self.folders[1].resolve()}|{rule}'
        name = hashlib.sha256(places.encode()).hexdigest()[:16]
        self.path = user_cache('scans') / f'{name}.json'
        self.seen: dict[str, list] = {}  # what write() keeps: without entries of removed files
        self.entries: dict[str, list] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(self.path.read_text(encoding='utf-8'))
            self.entries = content['pairs'] if content['version'] == CACHE_VERSION else {}

    def _key(self, pair: Pair) -> str:
        stats = [
            # Files of other folders, such as a validation set's, may have the same names.
            (p.name if p.parent == folder else str(p.resolve()), s.st_size, s.st_mtime_ns)
            for p, folder in zip((pair.image, pair.mask), self.folders, strict=True)
            if (s := p.stat())
        ]
        return json.dumps(stats)

    def get(self, pair: Pair) -> PairMetadata | None:
        """Return the metadata of a pair whose files have not changed."""
        key = self._key(pair)
        entry = self.entries.get(key)
        if entry is None:
            return None
        self.seen[key] = entry
        (size, *image), (mask_size, mode, palette, moved, counts) = entry
        counts = {value_from_json(value): pixels for value, pixels in counts}
        mask = MaskMetadata(tuple(mask_size), mode, palette, moved, counts)
        return PairMetadata(pair, ImageMetadata(tuple(size), *image), mask)

    def put(self, metadata: PairMetadata) -> None:
        """Keep a pair's metadata for write()."""
        pair, image, mask = metadata
        self.seen[self._key(pair)] = [image, [*mask[:-1], list(mask.counts.items())]]

    def write(self) -> None:
        """Replace the cache file; if that fails, only the next start takes longer."""
        if self.seen.keys() == self.entries.keys():
            return
        content = json.dumps({'version': CACHE_VERSION, 'pairs': self.seen})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path) as part:
                part.write_text(content, encoding='utf-8')
        except OSError as error:
            print(f'note: the scan of the masks is not remembered: {error}')
