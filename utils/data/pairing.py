"""Which mask belongs to which image: by exact file stem, both folders listed once."""

import unicodedata
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

from utils.images.arrays import ARRAYS
from utils.runtime.errors import Problem, UserError, data_error, first_few

# What Pillow decodes and people keep pictures in, and arrays. Other files are not looked at.
PICTURES = {'.jpg', '.jpeg', '.png', '.gif', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm'}

OWN_OUTPUT = 'It seems to be an output of predict.py: move it elsewhere.'

NO_DATA = (
    'Put your pictures into {images} and their masks into {masks}, name other folders with '
    '--images and --masks, or make a demo set: python scripts/make_demo_data.py'
)


@dataclass(frozen=True)
class Pair:
    """An image and its mask; `id` is the image's file name without its extension.

    validation: whether it is of a fixed validation set; its id then begins with 'validation/',
    which no file name does.
    """

    id: str
    image: Path
    mask: Path
    validation: bool = False


@dataclass(frozen=True)
class Matched:
    """Two folders, matched: the pairs in order by id, and what is wrong with other files."""

    pairs: list[Pair]
    problems: list[Problem]


def pair_files(images_dir: Path, mask_dir: Path, mask_suffix: str | None = None) -> list[Pair]:
    """The pairs of match_files; raises UserError with all that is wrong with other files."""
    matched = match_files(images_dir, mask_dir, mask_suffix)
    if matched.problems:
        raise data_error(matched.problems)
    return matched.pairs


def match_files(images_dir: Path, mask_dir: Path, mask_suffix: str | None = None) -> Matched:
    """Match images and masks of two folders by name.

    mask_suffix: what a mask's stem has after its image's, '_mask' for Carvana. None finds it: the
        one suffix that gives every image a mask, the shortest where several do.

    Raises UserError for a folder that is missing or empty. Masks without an image are left alone.
    """
    images_dir, mask_dir = Path(images_dir), Path(mask_dir)
    images = _files_by_stem(images_dir, images_dir, mask_dir)
    masks = _files_by_stem(mask_dir, images_dir, mask_dir)
    suffix = _find_suffix(images, masks) if mask_suffix is None else mask_suffix
    if images_dir.resolve() == mask_dir.resolve() and suffix:
        images = {stem: files for stem, files in images.items() if not stem.endswith(suffix)}
        if not images:
            raise UserError(f'{images_dir} holds masks only: every name ends in {suffix}')

    missing = [stem for stem in images if stem + suffix not in masks]
    double = [files for stem, files in images.items() if len(files) > 1]
    double += [masks[stem + suffix] for stem in images if len(masks.get(stem + suffix, ())) > 1]
    there = first_few(file.name for files in masks.values() for file in files)
    expected = (
        f'Expected the name of the image plus one suffix for all (--mask-suffix, here {suffix!r}).'
    )
    problems = [
        Problem(
            'without a mask',
            f'{images[stem][0]} has no mask {stem}{suffix}.*; the masks are called {there}. '
            + (OWN_OUTPUT if is_own_output(stem, images) else expected),
            (stem,),
        )
        for stem in missing
    ]
    problems += [
        Problem(
            'more than one file of a name',
            f'{" and ".join(map(str, files))}: expected one. Remove or rename the others.',
        )
        for files in double
    ]
    pairs = [
        Pair(stem, files[0], masks[stem + suffix][0])
        for stem, files in images.items()
        if len(files) == len(masks.get(stem + suffix, ())) == 1
    ]
    return Matched(pairs, problems)


def match_sets(
    data: tuple[Path, Path],
    mask_suffix: str | None = None,
    validation: tuple[Path, Path] | None = None,
) -> Matched:
    """match_files of the folders `data`, and behind them those of a fixed validation set.

    Raises UserError as match_files, and where both have the same images.
    """
    matched = match_files(*data, mask_suffix)
    if validation is None:
        return matched
    for folder in validation:
        if not folder.is_dir():
            raise UserError(
                f'{folder} does not exist. --val-images and --val-masks name the folders of the '
                'images to validate on and of their masks.'
            )
    if data[0].resolve() == validation[0].resolve():
        raise UserError(
            f'--images and --val-images are both {data[0]}; expected other images to validate on. '
            'To hold some of these back leave --val-images and --val-masks out.'
        )
    held_out = match_files(*validation, mask_suffix)
    pairs = [replace(p, id=f'validation/{p.id}', validation=True) for p in held_out.pairs]
    return Matched(matched.pairs + pairs, matched.problems + held_out.problems)


def is_own_output(stem: str, stems: Container[str]) -> bool:
    """Whether a file is what predict.py writes beside an input, which is one of `stems`."""
    return stem.endswith(('_OUT', '_VIZ')) and stem[:-4] in stems


def _files_by_stem(folder: Path, images_dir: Path, mask_dir: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        what = 'is not a folder' if folder.exists() else 'does not exist'
        raise UserError(f'{folder} {what}. {NO_DATA.format(images=images_dir, masks=mask_dir)}')
    files = defaultdict(list)
    others = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.'):
            continue
        if path.suffix.lower() in PICTURES | ARRAYS and not path.is_dir():
            # One form for letters with accents, which some systems store in two signs.
            files[unicodedata.normalize('NFC', path.stem)].append(path)
        else:
            others.append(f'{path.name}/' if path.is_dir() else path.name)
    if not files:
        remedy = NO_DATA.format(images=images_dir, masks=mask_dir)
        there = f'; there are {first_few(others)}, which are not looked at' if others else ''
        raise UserError(f'{folder} holds no pictures{there}. {remedy}')
    return files


def _find_suffix(images: dict, masks: dict) -> str:
    """The suffix that gives most images a mask; '' where none gives any a mask."""
    first = next(iter(images))
    # A suffix that serves every image serves the first, so only that one's masks are candidates;
    # '' and '_mask' are the guesses for a report of what is missing.
    candidates = {'', '_mask'} | {m.removeprefix(first) for m in masks if m.startswith(first)}
    ordered = sorted(candidates, key=len)
    for suffix in ordered:  # each is given up at its first miss: names like 1 … 20000 have many
        if all(stem + suffix in masks for stem in images):
            return suffix
    return max(ordered[:20], key=lambda suffix: sum(stem + suffix in masks for stem in images))
