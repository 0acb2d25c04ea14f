"""Consistency checks across files: sizes, kinds of masks, palettes, duplicates."""

import filecmp
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.images.pages import Source, file_of
from utils.masks.encoding import MaskEncoding
from utils.masks.joined import MaskSource
from utils.masks.values import KINDS
from utils.runtime.errors import Problem, first_few

if TYPE_CHECKING:
    from .scan import PairMetadata

MIXED_KINDS = 'masks of different kinds'


def wrong_sizes(metadata: list['PairMetadata']) -> list[Problem]:
    """Return a problem for each image and mask that differ in size."""
    wrong = []
    for pair, image, mask in metadata:
        if image.size == mask.size:
            continue
        turned = ', turned as its EXIF orientation says,' if image.turned else ''
        remedy = 'make them equal, or say --resize-masks to stretch the mask'
        if image.turned and image.size == mask.size[::-1]:
            remedy = "turn the mask too, or take the orientation out of the image's EXIF"
        text = '{} is {} x {}{} but its mask {} is {} x {} (width x height); {}'.format(
            pair.image, *image.size, turned, pair.mask, *mask.size, remedy
        )
        wrong.append(Problem('image and mask differ in size', text, (pair.id,)))
    return wrong


def mixed_kinds(metadata: list['PairMetadata'], masks: MaskEncoding) -> list[Problem]:
    """Return a problem if masks of the rarer kinds have values that the commonest kind lacks.

    Ignored values do not count; grey values equal the colours with R = G = B.
    """
    coloured = any(isinstance(value, tuple) for _, _, mask in metadata for value in mask.counts)
    groups, values = defaultdict(list), defaultdict(set)
    for entry in metadata:
        mode = entry.mask.mode
        if mode == 'I;16' or (mode == 'RGB' and not coloured):
            mode = 'L'
        groups[mode].append(entry)
        for value in entry.mask.counts.keys() - masks.ignore:
            grey = coloured and mode in ('L', 'RGB', '1') and isinstance(value, int)
            values[mode].add((value, value, value) if grey else value)
    rarest_first = sorted(groups.items(), key=lambda item: len(item[1]))
    if all(values[mode] <= values[rarest_first[-1][0]] for mode in groups):
        return []
    described = ', '.join(
        f'{len(group)} {KINDS[mode]} ({first_few(entry.pair.mask for entry in group)})'
        for mode, group in rarest_first
    )
    text = f'masks are of different kinds: {described}; save all in one kind'
    rare = tuple(entry.pair.id for _, group in rarest_first[:-1] for entry in group)
    return [Problem(MIXED_KINDS, text, rare)]


def mixed_palettes(metadata: list['PairMetadata']) -> list[Problem]:
    """Return a problem if a colour has different indices in two palette files."""
    first: dict[tuple[int, ...], tuple[int, MaskSource]] = {}
    for pair, _, mask in metadata:
        colours = mask.colours
        if len(set(colours.values())) < len(colours):
            continue  # such a palette is not meant to tell classes apart
        for index, colour in colours.items():
            other, path = first.setdefault(colour, (index, pair.mask))
            if other != index:
                text = (
                    f'palette masks disagree: the colour {colour} has index {other} in {path} and '
                    f'{index} in {pair.mask}. Save them all with one palette, or as RGB; or, if '
                    'the indices are right, name them with --mask-values'
                )
                return [Problem(MIXED_KINDS, text)]
    return []


def find_duplicates(files: Sequence[Source], others: Sequence[Source]) -> list[tuple[Path, Path]]:
    """Return each file of `others` that equals one of `files` byte for byte: (file, other).

    A file of which pages are among both is no duplicate.

    Only files of equal size are opened, and only those with equal samples are read completely.
    """
    ours = dict.fromkeys(map(file_of, files))
    theirs = [path for path in dict.fromkeys(map(file_of, others)) if path not in ours]
    sizes = {path.stat().st_size for path in theirs}
    alike = defaultdict(list)
    for path in ours:
        if path.stat().st_size in sizes:
            alike[_sample(path)].append(path)
    found = []
    for path in theirs if alike else []:
        twins = alike.get(_sample(path), [])
        equal = [twin for twin in twins if filecmp.cmp(twin, path, shallow=False)]
        found += [(twin, path) for twin in equal[:1]]
    return found


def _sample(path: Path) -> tuple[int, bytes, bytes]:
    """Return size, start and middle of a file, which differ in most files of equal size."""
    size = path.stat().st_size
    with path.open('rb') as file:
        start = file.read(4096)
        file.seek(size // 2)
        return size, start, file.read(4096)


def describe_duplicates(training: Sequence[Source], validation: Sequence[Source]) -> list[str]:
    """Return a note if validation images are also training images, which makes scores too high."""
    found = find_duplicates(training, validation)
    if not found:
        return []
    names = first_few(f'{theirs.name} = {ours.name}' for ours, theirs in found)
    return [
        f'note: {len(found)} images to validate on are also trained on, under another name, and '
        f'make scores too good: {names}'
    ]
