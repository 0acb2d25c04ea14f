"""What a data set's files hold, read once before training: sizes, modes and mask values.

Read in threads and remembered in the user's cache folder by (path, size, time of change), so that
the second start reads file dates only. The data set itself is never written to.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .decoding import (
    DEEP_MODES,
    WITH_ALPHA,
    Picture,
    PictureFacts,
    examine_picture,
    open_picture,
    picture_size,
)
from .errors import UserError, first_few
from .mask_values import (
    MaskEncoding,
    Value,
    count_values,
    mask_array,
    merge_counts,
    settle_counts,
)
from .pairing import Pair
from .scan_cache import ScanCache, user_cache

# The mode a mask is written back in, by the one it was read in.
MASK_MODES = {'LA': 'L', 'PA': 'P', 'RGBA': 'RGB', 'RGBX': 'RGB'} | dict.fromkeys(
    DEEP_MODES, 'I;16'
)
KINDS = {'RGB': 'in colour', 'L': 'grey', 'P': 'with a palette', '1': 'of one bit'}
DEEP = ('uint16', 'float16', 'float32', 'float64', *DEEP_MODES)  # image modes over 8 bits
FEW_PIXELS = 0.001  # the share under which a class is pointed out


@dataclass
class PairFacts:
    """One pair: sizes are (width, height) in pixels, counts the pixels of each mask value."""

    image: PictureFacts
    mask_size: tuple[int, int]
    mask_mode: str  # '1', 'L', 'P', 'I;16' or 'RGB'
    palette: list[int]  # flat R, G, B, … up to the highest index of a palette file
    moved: int  # pixels that --binarize or --snap-masks gave another value
    counts: dict


@dataclass
class Scan:
    """A data set at a glance."""

    pairs: list[Pair]
    facts: list[PairFacts]
    counts: dict  # pixels of each mask value over all masks
    first_file: dict  # the first mask that holds a value

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
) -> Scan:
    """Read every image and mask to its end, or remember what an earlier call read.

    cache_dir: where what was read is remembered, the user's cache folder unless given. masks: how
    masks are to be read, where that is asked for. resize_masks: sizes may differ.

    Raises UserError with all files that cannot be read, whose image and mask differ in size, or
    whose masks are of different kinds.
    """
    masks = masks or MaskEncoding([])
    changes = masks.threshold is not None or masks.snap
    cache = ScanCache(pairs, cache_dir or user_cache(), repr(masks) if changes else '')
    problems: list[str] = []

    def examine(pair: Pair) -> PairFacts | None:
        """What is remembered or read of a pair; a problem is noted and gives None."""
        try:
            known = cache.get(pair)
            if known:
                return _from_plain(known)
            facts = _read_facts(pair, masks)
            cache.put(pair, _to_plain(facts))
            return facts
        except UserError as error:
            problems.append(str(error))
        except OSError as error:  # a link to nothing, a file gone since the folder was listed
            problems.append(
                f'{error.filename} cannot be read: {error.strerror}. Replace it, or leave it and '
                'its partner out.'
            )
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        examined = threads.map(examine, pairs)
        facts = list(tqdm(examined, 'Reading the data', len(pairs), leave=False, delay=2))
    cache.write()
    known = [(pair, fact) for pair, fact in zip(pairs, facts, strict=True) if fact]
    problems += [] if resize_masks else _wrong_sizes(known)
    problems += _mixed_kinds(known, masks) + ([] if masks.values else _mixed_palettes(known))
    if problems:
        shown = '\n  '.join(sorted(problems)[:10])
        more = f'\n  and {len(problems) - 10} more' if len(problems) > 10 else ''
        raise UserError(f'{len(problems)} problems with the data:\n  {shown}{more}')
    counts = merge_counts([fact.counts for fact in facts])
    return Scan(pairs, facts, counts, _first_files(pairs, facts, counts))


def _read_facts(pair: Pair, masks: MaskEncoding) -> PairFacts:
    for path in (pair.image, pair.mask):
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise UserError(f'{path} is no file; expected a picture. Remove it.')
    image = examine_picture(pair.image)
    mask = open_picture(pair.mask)
    mode = mask_mode(mask)
    if mode in ('P', '1') and (masks.threshold is not None or masks.snap):
        raise UserError(
            f'{pair.mask}: mask {KINDS[mode]}, whose values are no scale; --binarize and '
            '--snap-masks take grey and colour masks. Leave them out, or save it as one.'
        )
    counts = count_values(mask_array(mask, pair.mask))
    palette = mask.getpalette()[: 3 * max(counts) + 3] if mode == 'P' else []
    counts, moved = settle_counts(counts, masks, pair.mask)
    size = picture_size(mask)
    return PairFacts(image, size, mode, palette, moved, counts)


def mask_mode(mask: Picture) -> str:
    """The Pillow mode in which a mask like this one is written: '1', 'L', 'P', 'I;16' or 'RGB'."""
    if isinstance(mask, np.ndarray):
        if mask.dtype == np.uint8:
            return 'RGB' if mask.ndim == 3 and mask.shape[2] > 1 else 'L'
        return '1' if mask.dtype == bool else 'I;16'
    return MASK_MODES.get(mask.mode, mask.mode)


def _wrong_sizes(known: list[tuple[Pair, PairFacts]]) -> list[str]:
    wrong = []
    for pair, fact in known:
        if fact.image.size != fact.mask_size:
            turned = ', turned as its EXIF orientation says,' if fact.image.turned else ''
            remedy = 'make them equal, or say --resize-masks to stretch the mask'
            if fact.image.turned and fact.image.size == fact.mask_size[::-1]:
                remedy = "turn the mask too, or take the orientation out of the image's EXIF"
            wrong.append(
                f'{pair.image} is {_size(fact.image.size)}{turned} but its mask {pair.mask} is '
                f'{_size(fact.mask_size)} (width x height); {remedy}'
            )
    return wrong


def _mixed_kinds(known: list[tuple[Pair, PairFacts]], masks: MaskEncoding) -> list[str]:
    """A problem where masks of some kind hold values that those of the commonest kind do not."""
    coloured = any(isinstance(value, tuple) for _, fact in known for value in fact.counts)
    groups: dict[str, list[tuple[Pair, PairFacts]]] = {}
    for pair, fact in known:
        mode = 'L' if fact.mask_mode == 'I;16' else fact.mask_mode
        mode = 'L' if mode == 'RGB' and not coloured else mode
        groups.setdefault(mode, []).append((pair, fact))

    def values(mode: str) -> set:
        """The values of a group; grey ones as colours where others have colours."""
        found = {v for _, fact in groups[mode] for v in fact.counts if v not in masks.ignore}
        grey = coloured and mode in ('L', 'RGB', '1')
        return {(v,) * 3 if grey and isinstance(v, int) else v for v in found}

    rarest_first = sorted(groups, key=lambda mode: len(groups[mode]))
    if all(values(mode) <= values(rarest_first[-1]) for mode in rarest_first):
        return []
    described = [
        f'{len(groups[mode])} {KINDS[mode]} ({first_few(p.mask for p, _ in groups[mode])})'
        for mode in rarest_first
    ]
    return [f'masks are of different kinds: {", ".join(described)}; save all in one kind']


def _mixed_palettes(known: list[tuple[Pair, PairFacts]]) -> list[str]:
    """A problem where a colour has one index in one palette file and another in the next."""
    first: dict[tuple, tuple[int, Path]] = {}
    for pair, fact in known:
        colours = {v: tuple(fact.palette[3 * v : 3 * v + 3]) for v in fact.counts if fact.palette}
        if len(set(colours.values())) < len(colours):
            continue  # a palette that nobody looks at
        for index, colour in colours.items():
            other, path = first.setdefault(colour, (index, pair.mask))
            if other != index:
                return [
                    f'palette masks disagree: the colour {colour} has index {other} in {path} and '
                    f'{index} in {pair.mask}. Save them all with one palette, or as RGB; or, if '
                    'the indices are right, name them with --mask-values'
                ]
    return []


def _size(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]}'


def _first_files(pairs: list[Pair], facts: list[PairFacts], counts: dict) -> dict:
    first: dict = {}
    for pair, fact in zip(pairs, facts, strict=True):
        for value in fact.counts:
            key = value if value in counts else (value,) * 3
            first.setdefault(key, pair.mask.name)
    return first


def _to_plain(facts: PairFacts) -> list:
    return [*list(vars(facts).values())[:-1], list(facts.counts.items())]


def _from_plain(entry: list) -> PairFacts:
    (size, *image), mask_size, *others, counts = entry
    counts = {tuple(v) if isinstance(v, list) else v: n for v, n in counts}
    return PairFacts(PictureFacts(tuple(size), *image), tuple(mask_size), *others, counts)
