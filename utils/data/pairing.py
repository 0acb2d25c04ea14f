"""Pairs of images and masks, matched by file name. Each folder is listed once."""

import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from utils.images.decoding import IMAGE_SUFFIXES
from utils.runtime.errors import (
    EmptyFolderError,
    MissingFolderError,
    Problem,
    UserError,
    first_few,
)


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    id: str  # the image's file name without extension, after 'validation/' if `validation` is set
    image: Path
    mask: Path
    validation: bool = False  # of a fixed validation set (--val-images)


def match_files(
    images_dir: Path, mask_dir: Path, mask_suffix: str | None = None
) -> tuple[list[Pair], list[Problem]]:
    """Return the pairs of two folders, sorted by id, and the problems with other files.

    mask_suffix: of a mask's stem after that of its image, '_mask' for Carvana. None finds it: the
        shortest suffix that gives every image a mask. Masks without an image are ignored.

    Raises UserError for a folder that is missing or empty.
    """
    remedy = (
        f'Put your pictures into {images_dir} and their masks into {mask_dir}, name other folders '
        'with --images and --masks, or make a demo set: python scripts/make_demo_data.py'
    )
    images, masks = _files_by_stem(images_dir, remedy), _files_by_stem(mask_dir, remedy)
    suffix = _find_suffix(images, masks) if mask_suffix is None else mask_suffix
    if images_dir.resolve() == mask_dir.resolve() and suffix:
        images = {stem: files for stem, files in images.items() if not stem.endswith(suffix)}
        if not images:
            raise UserError(
                f'{images_dir} holds masks only: every name ends in {suffix}. Add the images, or '
                'name their folder with --images.'
            )
    there = first_few(file.name for files in masks.values() for file in files)
    expected = (
        "Expected the image's name and the same suffix for all masks (--mask-suffix, here "
        f'{suffix!r}).'
    )
    partners = [masks.get(stem + suffix, []) for stem in images]
    pairs, problems = [], []
    for (stem, files), found in zip(images.items(), partners, strict=True):
        if len(files) == len(found) == 1:
            pairs.append(Pair(stem, files[0], found[0]))
        if not found:
            text = f'{files[0]} has no mask {stem}{suffix}.*; the masks are called {there}. '
            seems_own = 'It seems to be an output of predict.py: move it elsewhere.'
            text += seems_own if is_own_output(stem, images) else expected
            problems.append(Problem('without a mask', text, (stem,)))
    for files in [*images.values(), *partners]:
        if len(files) > 1:
            text = f'{" and ".join(map(str, files))}: expected one. Remove or rename the others.'
            problems.append(Problem('more than one file of a name', text))
    return pairs, problems


def match_sets(
    data: tuple[Path, Path], mask_suffix: str | None, validation: tuple[Path, Path] | None
) -> tuple[list[Pair], list[Problem]]:
    """Match the folders `data` (images, masks), then those of a fixed validation set, if any."""
    pairs, problems = match_files(*data, mask_suffix)
    if validation is None:
        return pairs, problems
    for folder in validation:
        if not folder.is_dir():
            raise UserError(
                f'{folder} does not exist. Expected the folders of the validation images '
                '(--val-images) and of their masks (--val-masks).'
            )
    if data[0].resolve() == validation[0].resolve():
        raise UserError(
            f'--images and --val-images are both {data[0]}; expected other images to validate on. '
            'To validate on part of these, leave --val-images and --val-masks out.'
        )
    held_out, others = match_files(*validation, mask_suffix)
    pairs += [replace(p, id=f'validation/{p.id}', validation=True) for p in held_out]
    return pairs, problems + others


def is_own_output(stem: str, stems: Container[str]) -> bool:
    """Return whether `stem` is that of a file which predict.py wrote beside one of `stems`."""
    return stem.endswith(('_OUT', '_VIZ')) and stem[:-4] in stems


def visible_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are not hidden, in the file system's order."""
    return [p for p in folder.iterdir() if p.is_file() and not p.name.startswith('.')]


def group_by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the files of each stem, in their order."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        groups[plain_stem(path)].append(path)
    return dict(groups)


def plain_stem(path: Path) -> str:
    """Return a file's name without extension, accented letters as one code point each.

    Some systems store such a letter as two.
    """
    return unicodedata.normalize('NFC', path.stem)


def _files_by_stem(folder: Path, remedy: str) -> dict[str, list[Path]]:
    if not folder.is_dir():
        what = 'is not a folder' if folder.exists() else 'does not exist'
        raise MissingFolderError(f'{folder} {what}. {remedy}')
    files, others = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.'):
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
            files.append(path)
        else:
            others.append(f'{path.name}/' if path.is_dir() else path.name)
    if not files:
        there = f'; there are {first_few(others)}, which are ignored' if others else ''
        raise EmptyFolderError(f'{folder} holds no pictures{there}. {remedy}')
    return group_by_stem(files)


def _find_suffix(images: dict[str, list[Path]], masks: dict[str, list[Path]]) -> str:
    """Return the shortest suffix that gives all images a mask, else one that does for most."""
    first = next(iter(images))
    # A suffix of all masks is one of the first image's. '' and '_mask' are for reports of others.
    candidates = {'', '_mask'} | {m.removeprefix(first) for m in masks if m.startswith(first)}
    ordered = sorted(candidates, key=len)
    for suffix in ordered:  # all() stops at the first miss: names like 1 … 20000 have many suffixes
        if all(stem + suffix in masks for stem in images):
            return suffix
    return max(ordered[:20], key=lambda suffix: sum(stem + suffix in masks for stem in images))
