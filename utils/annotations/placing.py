"""Which picture an annotation belongs to, and the mask file that it gets.

Annotation files name pictures by the paths of another machine. The end of a path counts: of all
pictures of the same name, the one with which most folders agree.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from utils.images.decoding import IMAGE_SUFFIXES
from utils.images.metadata import read_header
from utils.runtime.errors import Problem, UserError

from .records import AnnotatedPicture, AnnotationSet

DEEPEST, DEEPEST_BESIDE = 8, 3  # levels of folders that are searched
MASK_FOLDERS = ('masks', 'mask', 'labels')
THREADS = min(16, 4 * (os.cpu_count() or 1))  # most of their time is waiting for the disk

Parts = tuple[str, ...]
Item = TypeVar('Item')
Result = TypeVar('Result')


@dataclass
class PlacedPicture:
    """A picture with its size (width, height), and the name of its mask below OUT, with .png."""

    picture: AnnotatedPicture
    mask: str
    size: tuple[int, int]
    path: Path | None  # None: there is none on this machine


@dataclass
class Placement:
    """All pictures; `folder` holds those that were found, None if none was."""

    pictures: list[PlacedPicture] = field(default_factory=list)
    folder: Path | None = None


def place(found: AnnotationSet, source: Path, out: Path) -> Placement:
    """Find the pictures below the source's folder, or if there is none, beside it.

    out: folder of the masks, which is not searched. Problems are pictures of unknown size, of
    another size than annotated, several of a name, and two annotations of a picture; they are added
    to those of `found`.
    """
    placement = Placement()
    paths: dict[int, Path] = {}
    home = (found.home or source).resolve()
    folder = home if home.is_dir() else home.parent
    before = len(found.problems)
    for root, levels in ((folder, DEEPEST), (folder.parent, DEEPEST_BESIDE)):
        # Pictures may be beside the folder of the annotations, such as COCO's.
        if not paths and len(found.problems) == before:
            paths = _Search(root, out.resolve(), levels).match(found)
    if paths:
        bases = {
            _base(p, paths[id(p)], found.named_folders) for p in found.pictures if id(p) in paths
        }
        placement.folder = Path(os.path.commonpath(bases))
        if found.parts:
            _leave_out_missing(found, paths)
    sizes = in_threads(_size_on_disk, [paths.get(id(p)) for p in found.pictures])
    masks: dict[str, AnnotatedPicture] = {}
    for picture, on_disk in zip(found.pictures, sizes, strict=True):
        path = paths.get(id(picture))
        with found.attempt():
            size = _size(picture, path, on_disk)
            mask = _mask_name(picture, path, placement.folder)
            if mask in masks:
                raise _same_name(masks[mask], picture, mask)
            masks[mask] = picture
            placement.pictures.append(PlacedPicture(picture, mask, size, path))
    return placement


def _leave_out_missing(found: AnnotationSet, paths: dict[int, Path]) -> None:
    """Drop the pictures of unknown size that are not there, and count them."""
    there = []
    for picture in found.pictures:
        if picture.size or id(picture) in paths:
            there.append(picture)
        else:
            found.count('pictures that are not there are left out', picture.names[0])
    found.pictures = there


def in_threads(work: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    """Return the results of all items; after an error or Ctrl-C no further item is begun."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def _same_name(one: AnnotatedPicture, other: AnnotatedPicture, mask: str) -> UserError:
    return UserError(
        f'{one.names[0]} ({one.source.name}) and {other.names[0]} ({other.source.name}) would both '
        f'become {mask}; expected one annotation a picture, and names that differ in more than '
        'their extension',
        'two annotations of a name',
    )


def _base(picture: AnnotatedPicture, path: Path, named: bool) -> Path:
    """Return the folder of a file; if `named`, the one above the folders of the picture's name."""
    agreeing = max(_agreeing(path.parts, _parts(name)) for name in picture.names)
    return path.parents[agreeing - 1 if named else 0]


def _size_on_disk(path: Path | None) -> tuple[int, int] | UserError | None:
    if path is None:
        return None
    try:
        return read_header(path).size
    except UserError as error:
        return error


def _size(
    picture: AnnotatedPicture, path: Path | None, on_disk: tuple[int, int] | UserError | None
) -> tuple[int, int]:
    """Return the size of a picture; raise UserError if it is unknown or contradictory."""
    name, size = picture.names[0], picture.size
    if isinstance(on_disk, UserError):
        if size is None:
            raise on_disk
        return size
    if size is None and on_disk is None:
        raise UserError(
            f'{picture.source}: the picture {name} is not there and its size is not in the file; '
            'put the pictures into the folder of the annotations, or take them out of the file',
            'pictures of unknown size',
        )
    if size and on_disk and size != on_disk:
        raise UserError(
            f'{path} has {on_disk[0]} x {on_disk[1]} pixels and was annotated with {size[0]} x '
            f'{size[1]} ({picture.source.name}); expected the picture that was annotated',
            'pictures of another size than annotated',
        )
    return on_disk or size  # type: ignore[return-value]  # one of them is known


def _mask_name(picture: AnnotatedPicture, path: Path | None, folder: Path | None) -> str:
    """Return the name of a mask: the picture's, from the folder of all pictures on."""
    own = path.relative_to(folder).parts if path and folder else _parts(picture.names[0])
    if not own or any('\0' in part or len(part.encode()) > 250 for part in own):
        raise UserError(
            f'{picture.source}: {picture.names[0]!a} cannot be the name of a file',
            'broken annotation',
        )
    return '/'.join((*own[:-1], f'{_stem(own[-1])}.png'))


def _parts(name: str) -> Parts:
    """Return the folders and the name of a path of any system, without what leads elsewhere.

    Of an absolute path only the name is kept.
    """
    plain = name.replace('\\', '/')
    parts = tuple(part for part in plain.split('/') if part not in ('', '.', '..'))
    absolute = plain.startswith('/') or ':' in plain.partition('/')[0]
    return parts[-1:] if absolute else parts


def _stem(name: str) -> str:
    """Return a name without the extension of a picture, if it has one."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  # Path would want a whole path
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _agreeing(path: Parts, name: Parts) -> int:
    """Return how many of the last parts are equal; the name may lack its extension."""
    if not name or name[-1] not in (path[-1], _stem(path[-1])):
        return 0
    count = 1
    while count < min(len(path), len(name)) and path[-1 - count] == name[-1 - count]:
        count += 1
    return count


class _Search:
    """The pictures below a folder, by their names with and without extension."""

    def __init__(self, root: Path, out: Path, levels: int):
        self.by_name: dict[str, list[Path]] = {}
        seen = set()  # links may lead here again
        for folder, folders, names in os.walk(root, followlinks=True):
            here = Path(folder)
            real, level = here.resolve(), len(here.parts) - len(root.parts)
            known = real in seen
            seen.add(real)
            folders[:] = sorted(
                name for name in folders
                if not known and level < levels and name[0] != '.' and here / name != out
            )  # fmt: skip
            masks = level and 'classes.json' in names  # made of annotations earlier
            for name in [] if known or masks else sorted(names):
                stem = _stem(name)
                if stem != name and not name.startswith('.'):
                    for key in (name, stem):
                        self.by_name.setdefault(key, []).append(here / name)

    def match(self, annotations: AnnotationSet) -> dict[int, Path]:
        """Return the path of each picture that is found, by id(); ties are problems."""
        pictures = annotations.pictures
        options = {id(picture): self._best(picture) for picture in pictures}
        votes = Counter(path.parent for paths in options.values() for path in paths)
        found = {}
        for picture in pictures:
            paths = options[id(picture)]
            if len(paths) > 1:
                scores = {
                    path: (*_nearness(path, picture.source), votes[path.parent]) for path in paths
                }
                highest = max(scores.values())
                paths = [path for path in paths if scores[path] == highest]
            if len(paths) > 1:
                text = (
                    f'{picture.source.name}: {picture.names[0]} may be {paths[0]} or {paths[1]}; '
                    'put the annotation file into the folder of its pictures'
                )
                annotations.problems.append(Problem('several pictures of a name', text))
            elif paths:
                found[id(picture)] = paths[0]
        return found

    def _best(self, picture: AnnotatedPicture) -> list[Path]:
        """Return the pictures that agree with most parts of a name, of the first that exists."""
        for name in picture.names:
            parts = _parts(name)
            paths = self.by_name.get(parts[-1], []) if parts else []
            counts = [_agreeing(path.parts, parts) for path in paths]
            if counts:
                return [p for p, n in zip(paths, counts, strict=True) if n == max(counts)]
        return []


def _nearness(path: Path, source: Path) -> tuple[int, bool, bool]:
    """Return how many folders a picture shares with its annotation file, and a name in common.

    instances_train2017.json has one in common with pictures in train2017/ or train/. Of two that
    are as near, one in a folder called masks is not the picture.
    """
    home = source.resolve().parent
    shared = len(Path(os.path.commonpath([path.parent, home])).parts)
    words, name = re.split(r'[\W_]+', source.stem), path.parent.name
    common = len(name) > 2 and any(word.startswith(name) for word in words)
    return shared, common, name.lower() not in MASK_FOLDERS
