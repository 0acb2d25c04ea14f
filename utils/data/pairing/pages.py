"""Pairs of files of several pages to pairs of pages: stacks and volumes with their masks."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from utils.images import volumes
from utils.images.metadata import is_one_picture, pages_of
from utils.images.pages import Page, Source, file_of, may_have_pages
from utils.images.tiff_header import is_single
from utils.masks.joined import JoinedMask, MaskSource, mask_files
from utils.runtime.cgroups import available_cores
from utils.runtime.errors import Problem, UserError, first_few

if TYPE_CHECKING:
    from .matching import Matching, Pair

CHUNK = 256  # pairs that a thread takes at a time
PAGES_DIFFER = 'image and mask differ in pages'  # kinds of problems
PLACES_DIFFER = 'image and mask differ in place'


def pairs_of_pages(matching: 'Matching') -> 'Matching':
    """Return the matching with a pair of each page where files have several.

    The id of a page is that of its file, a colon and the page, counted from 0. Files that cannot be
    read, and pairs of different numbers of pages or different places, become problems. Only TIFFs
    and volumes are looked at: 100,000 pairs of others cost 0.2 s.
    """
    asked = [pair for pair in matching.pairs if any(map(may_have_pages, _files(pair)))]
    with ThreadPoolExecutor(min(8, available_cores())) as threads:
        chunks = [asked[k : k + CHUNK] for k in range(0, len(asked), CHUNK)]
        paged = [*chain.from_iterable(threads.map(_several, chunks))]
    if not paged:
        return matching
    first = next((f for f in chain.from_iterable(map(_files, paged)) if volumes.is_volume(f)), None)
    if first:
        volumes.check_package(first)
    results = dict(zip((pair.id for pair in paged), map(_expand, paged), strict=True))
    pairs, problems, stacks = [], list(matching.problems), []
    for pair in matching.pairs:
        result = results.get(pair.id, [pair])
        if isinstance(result, Problem):
            problems.append(result)
            continue
        pairs += result
        if isinstance(result[0].image, Page):
            stacks.append(len(result))
    notes = [*matching.notes]
    if stacks:
        names = first_few(pair.image.name for pair in pairs if isinstance(pair.image, Page))
        notes.append(
            f'note: {len(stacks)} file{"s" * (len(stacks) > 1)} of several pages or slices: '
            f'{sum(stacks)} pictures, named NAME:PAGE with pages counted from 0 ({names})'
        )
    return replace(matching, pairs=pairs, problems=problems, notes=notes)


def _several(pairs: 'list[Pair]') -> 'list[Pair]':
    """Return the pairs of which a file may have several pages, or cannot be read."""
    return [pair for pair in pairs if not all(map(_is_single, _files(pair)))]


def _is_single(path: Path) -> bool:
    try:
        return not volumes.is_volume(path) and (not may_have_pages(path) or is_single(path))
    except OSError:
        return True  # reported where files are read


def _files(pair: 'Pair') -> tuple[Path, ...]:
    """Return the image's file and those of the mask."""
    return file_of(pair.image), *mask_files(pair.mask)


def _expand(pair: 'Pair') -> 'list[Pair] | Problem':
    """Return the pairs of the pages of a pair of files, or why there are none."""
    files = [*_files(pair)]
    if not all(path.is_file() for path in files):  # reported where files are read
        return [pair]
    try:
        image, *masks = map(pages_of, files)
        text = _misfit(files[0], files[1:]) if len({len(p) for p in (image, *masks)}) == 1 else ''
        one_picture = len(image) > 1 and is_one_picture(files[0])
    except UserError as error:
        return Problem(error.kind, str(error), (pair.id,))
    if text:
        return Problem(PLACES_DIFFER, text, (pair.id,))
    if one_picture and all(len(mask) == 1 for mask in masks):  # its planes are channels
        return [replace(pair, mask=_mask_of(pair.mask, [mask[0] for mask in masks]))]
    wrong = next((mask for mask in masks if len(mask) != len(image)), None)
    if wrong:
        text = (
            f'{pair.image} has {_pages(image)} but its mask {file_of(wrong[0])} {_pages(wrong)}; '
            'expected as many. Take the pages without a partner out, or the files.'
        )
        return Problem(PAGES_DIFFER, text, (pair.id,))
    return [
        replace(
            pair,
            id=f'{pair.id}:{source.index}' if isinstance(source, Page) else pair.id,
            image=source,
            mask=_mask_of(pair.mask, [mask[k] for mask in masks]),
        )
        for k, source in enumerate(image)
    ]


def _mask_of(mask: MaskSource, sources: list[Source]) -> MaskSource:
    """Return the mask with other sources."""
    return replace(mask, paths=tuple(sources)) if isinstance(mask, JoinedMask) else sources[0]


def _pages(pages: tuple[Source, ...]) -> str:
    return f'{len(pages)} page{"s" * (len(pages) > 1)}'


def _misfit(image: Path, masks: list[Path]) -> str:
    """Return how a volume differs from its masks in shape or place, '' if not."""
    for mask in filter(volumes.is_volume, masks):
        if not volumes.is_volume(image):
            continue
        one, other = map(volumes.read_volume_header, (image, mask))
        (depth, height, width), (slices, rows, columns) = one.shape[:3], other.shape[:3]
        if (height, width) != (rows, columns):
            return (
                f'{image} has {width} x {height} x {depth} voxels but its mask {mask} has '
                f'{columns} x {rows} x {slices}; expected one shape. Resample the mask to the '
                "image's grid, or leave both out."
            )
        if volumes.apart(one, other):
            return (
                f'{image} and its mask {mask} have one shape, but their affines place them '
                "differently; expected one place. Resample the mask to the image's grid, or "
                'correct the affine that is wrong.'
            )
    return ''
