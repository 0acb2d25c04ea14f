"""Pictures that a list names (--list): which of a folder's are used, and with which masks.

A list of names chooses from the pictures that pair as ever. A list of images and masks pairs them
itself, whatever they are called. Both say what they do not find, or leave out.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from utils.images.pages import split_name
from utils.runtime.errors import Problem, UserError, first_few

from .list_rows import Row, read_rows
from .matching import WITHOUT_MASK, Matching, Pair, match_files
from .patterns import NamedFile, composed, literal_folder, looks_like_picture
from .places import Places

MISSING = 'list that names missing pictures'  # kinds of problems
SHOWN_KINDS = 5  # of what stands behind names


@dataclass
class Chosen:
    """Which pictures a list has chosen, while files are matched.

    named: the rows of each chosen picture. missing: rows that name no picture.
    """

    named: dict[Path, list[Row]] = field(default_factory=dict)
    left: list[Path] = field(default_factory=list)
    missing: list[Row] = field(default_factory=list)
    unclear: list[tuple[Row, list[Path]]] = field(default_factory=list)


def match_listed(
    images: Path, masks: Path, mask_suffix: str | None, list_file: Path | None,
    names: tuple[str, str] = ('--images', '--masks'), part: str = '',
) -> Matching:  # fmt: skip
    """Match as match_files does, but only the pictures that a list names, if there is one.

    names: of the options that name the sources. part: see read_rows.
    Raises UserError for a file that is no list, and as match_files does.
    """
    if list_file is None:
        return match_files(images, masks, mask_suffix)
    image_places = Places(literal_folder(images), list_file)
    mask_places = Places(literal_folder(masks), list_file)
    listed = read_rows(list_file, image_places.find, mask_places.find, part)
    if listed.masks:
        if mask_suffix:
            raise UserError(
                f'{list_file} names the masks; leave --mask-suffix {mask_suffix} out, or use a '
                'list of the images alone'
            )
        matching = _match_rows(list_file, listed.rows, image_places, mask_places, names)
        matching.notes += listed.notes
        return matching
    chosen = Chosen()

    def choose(files: list[NamedFile]) -> list[NamedFile]:
        _choose(chosen, files, listed.rows, image_places)
        return [file for file in files if file.path in chosen.named]

    matching = match_files(images, masks, mask_suffix, choose)
    matching.rule += f', of {list_file}'
    matching.problems += _problems(list_file, chosen.missing, image_places, names[0])
    matching.problems += [_unclear(list_file, row, files) for row, files in chosen.unclear]
    matching.notes += _twice(list_file, list(chosen.named.values()))
    matching.notes += listed.notes or _numbers(list_file, listed.others)
    matching.unlisted, matching.missing = chosen.left, len(chosen.missing)
    return matching


def describe_unlisted(lists: Sequence[Path], unlisted: Sequence[Path]) -> list[str]:
    """Return a note on the pictures that no list names."""
    if not unlisted:
        return []
    by_whom = f'{lists[0]} does not name'
    if len(lists) > 1:
        by_whom = f'neither {lists[0]} nor {lists[1]} names'
    few = first_few(path.name for path in unlisted)
    return [f'note: pictures left out, as {by_whom} them: {len(unlisted)} ({few})']


def _choose(chosen: Chosen, files: list[NamedFile], rows: list[Row], places: Places) -> None:
    """Find which of the files the rows name, by path, or else by name or id."""
    own = {os.path.abspath(file.path): file.path for file in files}  # noqa: PTH100  # no links
    real: dict[str, Path] = {}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        names = {
            composed(file.path.name),
            composed(split_name(file.path.name)[0]),
            file.id,
            file.parts[-1],
        }
        for name in names:
            by_name[name].append(file.path)
    for row in rows:
        found = places.find(row.image, any_extension=True)
        mine = [own[path] for path in map(os.path.abspath, found) if path in own]
        if found and not mine:  # by a link, or not one of the files
            real = real or {os.path.realpath(path): path for path in own.values()}
            mine = [real[path] for path in map(os.path.realpath, found) if path in real]
        if not mine and not (found and re.search(r'[/\\]', row.image)):
            mine = _by_name(by_name, row.image)
            if len(mine) > 1:
                chosen.unclear.append((row, mine))
        if not mine:
            chosen.missing.append(row)
        for path in mine:
            chosen.named.setdefault(path, []).append(row)
    chosen.left = [file.path for file in files if file.path not in chosen.named]


def _by_name(by_name: dict[str, list[Path]], name: str) -> list[Path]:
    """Return the files of a name or id; of several, those in the folders of the name."""
    parts = composed(name).replace('\\', '/').strip('/').split('/')
    whole = by_name.get('/'.join(parts))
    found = whole or by_name.get(parts[-1]) or []
    if not found and looks_like_picture(parts[-1]):
        found = by_name.get(split_name(parts[-1])[0], [])
    folder = '/'.join(['', *parts[:-1]])
    return [path for path in found if f'/{path.parent.as_posix()}'.endswith(folder)] or found


def _match_rows(
    list_file: Path, rows: list[Row], images: Places, masks: Places, names: tuple[str, str]
) -> Matching:
    """Return the pairs that the rows of a list name."""
    pairs: dict[Path, Pair] = {}
    named: dict[Path, list[Row]] = defaultdict(list)
    problems, absent = [], ([], [])  # type: ignore[var-annotated]
    for row in rows:
        mask = masks.find(row.mask)[:1] if row.mask else []
        found = images.find(row.image, any_extension=True)
        image = [path for path in found if path not in mask][:1] or found[:1]
        if row.mask and not mask:  # converted, too
            others = masks.find(row.mask, any_extension=True)
            mask = [path for path in others if path not in image][:1]
        if not image:
            absent[0].append(row)
        elif not row.mask:
            text = f'{list_file}, line {row.line}: {row.image} has no mask there'
            problems.append(Problem(WITHOUT_MASK, text, (_id(image[0], images),)))
        elif not mask:
            absent[1].append(row._replace(image=row.mask))
        elif _one_file(image[0], mask[0]):
            text = f'{list_file}, line {row.line}: image and mask are one file, {image[0]}'
            problems.append(Problem('image and mask are one file', text))
        else:
            pair = pairs.setdefault(image[0], Pair(_id(image[0], images), image[0], mask[0]))
            if pair.mask != mask[0]:
                text = f'{list_file}, line {row.line}: {image[0]} has two masks, {pair.mask} and '
                text += f'{mask[0]}; expected one'
                problems.append(Problem('more than one file of a name', text, (pair.id,)))
            named[image[0]].append(row)
    problems += _problems(list_file, absent[0], images, names[0])
    problems += _problems(list_file, absent[1], masks, names[1])
    count = Counter(pair.id for pair in pairs.values())
    named_apart = [pair if count[pair.id] == 1 else replace(pair, id=composed(str(pair.image)))
                   for pair in pairs.values()]  # fmt: skip
    ordered = sorted(named_apart, key=lambda pair: pair.id)
    matching = Matching(ordered, problems, f'as {list_file} names them', len(rows))
    matching.notes += _twice(list_file, list(named.values()))
    matching.unlisted, matching.missing = _beside(ordered, images), sum(map(len, absent))
    return matching


def _one_file(image: Path, mask: Path) -> bool:
    if image == mask:
        return True
    exist = os.path.exists(image) and os.path.exists(mask)  # noqa: PTH110  # half of Path's time
    return exist and os.path.samefile(image, mask)  # noqa: PTH121


def _id(image: Path, places: Places) -> str:
    """Return the image's path below the folder that the user named, without extension."""
    return _prefix(str(image.parent), str(places.folder)) + composed(split_name(image.name)[0])


@lru_cache(maxsize=1024)
def _prefix(folder: str, named: str) -> str:
    """Return the id of a folder and a slash: its path below another, or else its name alone."""
    parent, top = Path(folder), Path(named)
    start = top if parent.is_relative_to(top) else parent.parent
    below = composed(parent.relative_to(start).as_posix())
    return '' if below == '.' else f'{below}/'


def _beside(pairs: list[Pair], places: Places) -> list[Path]:
    """Return the pictures that are in the images' folders, of their kinds, but in no pair."""
    used = {path for pair in pairs for path in (pair.image, pair.mask)}
    kinds = {(pair.image.parent, split_name(pair.image.name)[1]) for pair in pairs}
    masks = [pair.mask for pair in pairs if isinstance(pair.mask, Path)]
    kinds -= {(mask.parent, split_name(mask.name)[1]) for mask in masks}
    return [
        folder / name
        for folder, suffix in sorted(kinds)
        for name in (names[0] for key, names in places.names(folder).items() if key[-1] != '.')
        if name.endswith(suffix) and folder / name not in used
    ]


def _problems(list_file: Path, rows: list[Row], places: Places, option: str) -> list[Problem]:
    """Return one problem for the rows whose pictures are missing."""
    if not rows:
        return []
    few = first_few(f'{row.image} (line {row.line})' for row in rows)
    where = first_few(places.bases, 2)
    return [
        Problem(
            MISSING,
            f'{list_file} names {few}, {len(rows)} in all, which are not among the pictures of '
            f'{option}, nor in {where}. Correct the list, or name their folder with {option}.',
        )
    ]


def _unclear(list_file: Path, row: Row, files: list[Path]) -> Problem:
    text = f'{list_file}, line {row.line}: {row.image} is {" and ".join(map(str, files))}; '
    return Problem('name of several pictures', f'{text}expected one. Write its folder, too.')


def _twice(list_file: Path, rows: list[list[Row]]) -> list[str]:
    twice = [found[0].image for found in rows if len(found) > 1]
    if not twice:
        return []
    few = first_few(twice)
    return [f'note: {list_file} names {len(twice)} pictures twice; each counts once: {few}']


def _numbers(list_file: Path, others: Counter[str]) -> list[str]:
    """Return a note on what stands behind the names, such as 1 and -1 in lists of a class."""
    if not others:
        return []
    counts = ', '.join(f'{text or "nothing"}: {n}' for text, n in others.most_common(SHOWN_KINDS))
    what = f' ({counts})' if len(others) <= SHOWN_KINDS else ''
    return [
        f'note: what stands behind the names in {list_file}{what} chooses nothing: all of its '
        'pictures are taken. To take some, remove the lines of the others.'
    ]
