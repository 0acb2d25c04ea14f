"""What is wrong with files that are each in order, but do not agree with each other.

Files of one content under two names.
"""

import filecmp
from collections import defaultdict
from itertools import islice
from pathlib import Path

from utils.masks.encoding import MaskEncoding
from utils.runtime.errors import Problem, first_few

from .metadata import KINDS, PairMetadata
from .pairing import Pair

Known = list[tuple[Pair, PairMetadata]]  # the pairs that could be read


def wrong_sizes(known: Known) -> list[Problem]:
    """A problem for each image and mask that differ in size."""
    wrong = []
    for pair, fact in known:
        if fact.image.size != fact.mask_size:
            turned = ', turned as its EXIF orientation says,' if fact.image.turned else ''
            remedy = 'make them equal, or say --resize-masks to stretch the mask'
            if fact.image.turned and fact.image.size == fact.mask_size[::-1]:
                remedy = "turn the mask too, or take the orientation out of the image's EXIF"
            text = (
                f'{pair.image} is {_size(fact.image.size)}{turned} but its mask {pair.mask} is '
                f'{_size(fact.mask_size)} (width x height); {remedy}'
            )
            wrong.append(Problem('image and mask differ in size', text, (pair.id,)))
    return wrong


def mixed_kinds(known: Known, masks: MaskEncoding) -> list[Problem]:
    """A problem where masks of some kind hold values that those of the commonest kind do not."""
    coloured = any(isinstance(value, tuple) for _, fact in known for value in fact.counts)
    groups: dict[str, list[tuple[Pair, PairMetadata]]] = {}
    for pair, fact in known:
        mode = 'L' if fact.mask_mode == 'I;16' else fact.mask_mode
        mode = 'L' if mode == 'RGB' and not coloured else mode
        groups.setdefault(mode, []).append((pair, fact))

    def values(mode: str) -> set:
        """The values of a group; grey ones as colours where others have colours."""
        ignored = {tuple(v) if isinstance(v, list) else v for v in masks.ignore}
        found = {v for _, fact in groups[mode] for v in fact.counts} - ignored
        grey = coloured and mode in ('L', 'RGB', '1')
        return {(v,) * 3 if grey and isinstance(v, int) else v for v in found}

    rarest_first = sorted(groups, key=lambda mode: len(groups[mode]))
    if all(values(mode) <= values(rarest_first[-1]) for mode in rarest_first):
        return []
    described = [
        f'{len(groups[mode])} {KINDS[mode]} ({first_few(p.mask for p, _ in groups[mode])})'
        for mode in rarest_first
    ]
    text = f'masks are of different kinds: {", ".join(described)}; save all in one kind'
    rare = tuple(pair.id for mode in rarest_first[:-1] for pair, _ in groups[mode])
    return [Problem('masks of different kinds', text, rare)]


def mixed_palettes(known: Known) -> list[Problem]:
    """A problem where a colour has one index in one palette file and another in the next."""
    first: dict[tuple, tuple[int, Path]] = {}
    for pair, fact in known:
        colours = {v: tuple(fact.palette[3 * v : 3 * v + 3]) for v in fact.counts if fact.palette}
        if len(set(colours.values())) < len(colours):
            continue  # a palette that nobody looks at
        for index, colour in colours.items():
            other, path = first.setdefault(colour, (index, pair.mask))
            if other != index:
                text = (
                    f'palette masks disagree: the colour {colour} has index {other} in {path} and '
                    f'{index} in {pair.mask}. Save them all with one palette, or as RGB; or, if '
                    'the indices are right, name them with --mask-values'
                )
                return [Problem('masks of different kinds', text)]
    return []


def _size(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]}'


SAMPLE = 4096  # bytes at the start and in the middle that tell most files of one size apart


def same_content(some: list[Path], others: list[Path]) -> list[tuple[Path, Path]]:
    """Each of `others` that is equal, byte for byte, to one of `some`, behind that one.

    Only files of one size are opened, and only those with equal samples read to their end.
    """
    sizes = {path.stat().st_size for path in others}
    alike: dict[tuple, list[Path]] = defaultdict(list)
    for path in some:
        if path.stat().st_size in sizes:
            alike[_sample(path)].append(path)
    found = []
    for path in others if alike else []:
        twins = alike.get(_sample(path), [])
        equal = (twin for twin in twins if filecmp.cmp(twin, path, shallow=False))
        found += [(twin, path) for twin in islice(equal, 1)]
    return found


def _sample(path: Path) -> tuple[int, bytes, bytes]:
    size = path.stat().st_size
    with path.open('rb') as file:
        start = file.read(SAMPLE)
        file.seek(size // 2)
        return size, start, file.read(SAMPLE)


def describe_duplicates(training: list[Path], validation: list[Path]) -> list[str]:
    """A note where images to validate on are among those trained on: their score is too good."""
    found = same_content(training, validation)
    if not found:
        return []
    names = first_few(f'{theirs.name} = {ours.name}' for ours, theirs in found)
    return [
        f'note: {len(found)} images to validate on are also trained on, under another name, and '
        f'make scores too good: {names}'
    ]
