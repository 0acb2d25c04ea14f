"""Scan of a data set before training: the metadata of all images and masks, cached.

Files are read completely, in threads, so that truncation is detected. The metadata is kept in the
user's cache folder by path, size and modification time, for the next start.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

from utils.images.decoding import DECODE_PATH, PILLOW_DECODE, PILLOW_NOTE, scaled_size
from utils.images.metadata import ImageMetadata, read_metadata
from utils.masks.encoding import MaskEncoding
from utils.masks.metadata import MaskMetadata, merge_counts, read_mask_metadata
from utils.masks.values import MaskValue
from utils.runtime.cgroups import available_cores
from utils.runtime.console import progress
from utils.runtime.errors import Problem, UserError, data_error, first_few

from .cache.scans import ScanCache
from .consistency import mixed_kinds, mixed_palettes, wrong_sizes
from .pairing.matching import Matching, Pair

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
    file_notes: list[str] = field(default_factory=list)  # how files were paired, and which were not
    decode: str = DECODE_PATH
    hints: list[str] = field(default_factory=list)  # notes that propose options of train.py
    class_notes: list[str] = field(default_factory=list)  # on tables of classes beside the masks

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

    def pixels(self, positions: Iterable[int], at_scale: bool = False) -> dict[MaskValue, int]:
        """Return the pixels of each value in the masks at these positions, as in `counts`."""
        masks = [self.metadata[k].mask for k in positions]
        counts = merge_counts([mask.at_scale if at_scale else mask.counts for mask in masks])
        colours = any(isinstance(value, tuple) for value in self.counts)
        return {(v, v, v) if colours and isinstance(v, int) else v: n for v, n in counts.items()}

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
        lines = [*self.file_notes, *self.class_notes]
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
            share = shares.get(value, 0)
            if share < RARE and (share or not self.class_notes):  # which name those without pixels
                lines.append(f'note: class {title} is {100 * share:.2g} % of the pixels')
        return lines


def scan_pairs(
    matching: Matching,
    masks: MaskEncoding,
    resize_masks: bool,
    skip_bad: bool,
    decode: str = DECODE_PATH,
    scale: float = 1.0,
) -> DatasetScan:
    """Scan the files of a data set; raise UserError with all problems.

    matching: its problems, of files that make no pair, are raised or left out like the rest.
    resize_masks: masks may differ from images in size. skip_bad: leave out pairs with problems.
    scale: of training.
    """
    if not matching.pairs:
        raise data_error(matching.problems, matching.proposals)
    scan, problems = read_scan(matching, masks, resize_masks, skip_bad, decode, scale)
    if problems:
        raise data_error(problems, matching.proposals)
    return scan


def read_scan(
    matching: Matching,
    masks: MaskEncoding,
    resize_masks: bool,
    skip_bad: bool,
    decode: str,
    scale: float,
) -> tuple[DatasetScan, list[Problem]]:
    """Return the scan of the pairs that can be read, and the problems; see scan_pairs.

    With skip_bad, problems of single files are in the scan's `left_out` instead.
    """
    metadata, problems = read_pairs(matching.pairs, masks, resize_masks, decode, scale)
    left_out: list[Problem] = []
    if skip_bad:
        bad = {name for problem in problems for name in problem.pairs}
        metadata = [entry for entry in metadata if entry.pair.id not in bad]
        left_out = [*matching.problems, *(problem for problem in problems if problem.pairs)]
        problems = [problem for problem in problems if not problem.pairs]
        if not metadata:
            text = f'no pair is left; left out for {first_few(p.text for p in left_out)}'
            problems.append(Problem('unusable', text))
    else:
        problems += matching.problems
    return DatasetScan(metadata, left_out, matching.lines(), decode, matching.hints), problems


def read_pairs(
    pairs: list[Pair],
    masks: MaskEncoding,
    resize_masks: bool = False,
    decode: str = DECODE_PATH,
    scale: float = 1.0,
) -> tuple[list[PairMetadata], list[Problem]]:
    """Return the metadata of all readable pairs, and the problems of all pairs."""
    cache = ScanCache(pairs, masks, decode, scale)
    with ThreadPoolExecutor(min(8, available_cores())) as threads:
        results = threads.map(lambda pair: _read_pair(pair, masks, cache), pairs)
        read = list(progress(results, 'Reading the data', len(pairs), delay=2))
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
    pair: Pair, masks: MaskEncoding, cache: ScanCache
) -> tuple[PairMetadata | None, list[Problem]]:
    """Return a pair's metadata, from the cache or its files, or None and its problems."""
    problems: list[Problem] = []
    known = attempt(lambda: cache.get(pair), problems, pair)
    if known:
        (size, *others), mask_fields = known
        read = ImageMetadata(tuple(size), *others), MaskMetadata.from_json(mask_fields)
        return PairMetadata(pair, *read), []
    if problems:
        return None, problems
    decode = cache.decode
    image = attempt(lambda: read_metadata(pair.image, decode), problems, pair)
    size = scaled_size(image.size, cache.scale) if image else None
    mask = attempt(lambda: read_mask_metadata(pair.mask, masks, decode, size), problems, pair)
    if image is None or mask is None:
        return None, problems
    metadata = PairMetadata(pair, image, mask)
    cache.put(pair, [image, mask.to_json()])
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
