"""Files of a folder or a pattern, each with the id that its name gives it.

A pattern is a path with stars: 'train/*/*_mask.png'. A star matches any part of a name, ** any
folders, {class} the name of a class. What the stars match is the id. Everything else is literal,
so that names with [ or ? work.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from utils.images.decoding import IMAGE_SUFFIXES
from utils.images.pages import split_name
from utils.runtime.errors import EmptyFolderError, MissingFolderError, UserError, first_few

CLASS = '{class}'
CLASS_GROUP = 'class_'  # of the regular expression
# What to do with files of other kinds, by the ends of their names.
ADVICE = {
    ('.dcm', '.mha', '.mhd', '.nrrd', '.h5', '.hdf5', '.mat', '.npz', '.czi', '.svs'): (
        'Convert such files to pictures, to NIfTI (.nii.gz), or to an array a picture (.npy).'
    ),
    ('.json', '.xml', '.csv'): (
        'Annotations of COCO, LabelMe, YOLO, CVAT, Label Studio, VGG Image Annotator, Supervisely, '
        'and run lengths of Kaggle become masks with scripts/masks_from.py; export others in one '
        'of these formats, or as masks.'
    ),
}


@dataclass(frozen=True)
class NamedFile:
    """A picture, the parts of its id, and the class that its name tells, if any."""

    path: Path
    parts: tuple[str, ...]
    class_name: str | None = None
    inode: int = 0
    linked: bool = False  # by a symbolic link

    @classmethod
    def of(
        cls, entry: os.DirEntry, parts: tuple[str, ...], class_name: str | None = None
    ) -> 'NamedFile':
        """Return a file of a folder's listing, which knows inode and links without a look."""
        return cls(Path(entry.path), parts, class_name, entry.inode(), entry.is_symlink())

    @property
    def id(self) -> str:
        """The id as one text."""
        return '/'.join(self.parts)


@dataclass
class Listing:
    """The pictures of a folder or pattern, sorted by path."""

    source: Path  # as the user wrote it
    files: list[NamedFile] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # names of files and folders that do not count
    nested: bool = False  # a folder whose pictures lie in folders

    def by_id(self) -> dict[str, list[Path]]:
        """Return the files of each id, sorted."""
        found: dict[str, list[Path]] = {}
        for file in self.files:
            found.setdefault(file.id, []).append(file.path)
        return found


def visible_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are not hidden, in the file system's order."""
    return [p for p in folder.iterdir() if p.is_file() and not p.name.startswith('.')]


def group_by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the files of each stem, in their order."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        groups[composed(path.stem)].append(path)
    return dict(groups)


def composed(name: str) -> str:
    """Return a name with accented letters as one code point each; some systems store two."""
    return unicodedata.normalize('NFC', name)


def looks_like_picture(name: str) -> bool:
    """Return whether a name has the extension of a picture."""
    return split_name(name)[1].lower() in IMAGE_SUFFIXES


def is_pattern(path: Path) -> bool:
    """Return whether the path has stars or {class}, and no file or folder of that name exists."""
    return ('*' in str(path) or CLASS in str(path)) and not path.exists()


def literal_folder(source: Path) -> Path:
    """Return a folder, that of a file, or the folder at the beginning of a pattern."""
    if not is_pattern(source):
        return source.parent if source.is_file() else source
    return Path(*takewhile(lambda part: '*' not in part and CLASS not in part, source.parts[:-1]))


def list_pictures(source: Path, remedy: str) -> Listing:
    """List a folder, or the folders in it if it holds no picture itself, a pattern, or one file.

    Raises UserError, ending with `remedy`, if there is no picture.
    """
    if is_pattern(source):
        return _list_pattern(source, remedy)
    if source.is_file():
        return _list_file(source)
    if not source.is_dir():
        what = 'is not a folder' if source.exists() else 'does not exist'
        raise MissingFolderError(f'{source} {what}. {remedy}')
    listing = Listing(source)
    _add_folder(listing, source, ())
    if not listing.files:
        folders = [name for name in listing.others if name.endswith('/')]
        for name in folders:
            _add_tree(listing, source / name[:-1], (name[:-1],))
        listing.nested = bool(listing.files)
    if not listing.files:
        there = first_few(listing.others)
        there = f'; there are {there}, which are ignored' if listing.others else ''
        raise EmptyFolderError(
            f'{source} holds no pictures{there}. {advice(listing.others)}{remedy}'
        )
    return listing


def advice(names: list[str]) -> str:
    """Return what to do with files of other kinds, with a space at its end; '' for unknown ones."""
    for suffixes, text in ADVICE.items():
        if any(name.lower().endswith(suffixes) for name in names):
            return f'{text} '
    return ''


def _list_file(path: Path) -> Listing:
    stem, suffix = split_name(path.name)
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(
            f'{path} is no picture by its name; expected a folder, a pattern, or a file such as a '
            f'stack (.tif) or a volume (.nii.gz). {advice([path.name])}'.rstrip()
        )
    inode, linked = path.stat().st_ino, path.is_symlink()
    return Listing(path, [NamedFile(path, (composed(stem),), None, inode, linked)])


def _add_folder(listing: Listing, folder: Path, above: tuple[str, ...]) -> list[str]:
    """Add a folder's pictures; return the names of its folders."""
    folders = []
    for entry in _entries(folder):
        stem, suffix = split_name(entry.name)
        if _is_folder(entry):
            folders.append(entry.name)
            if not above:
                listing.others.append(f'{entry.name}/')
        elif suffix.lower() in IMAGE_SUFFIXES:
            parts = (*above, composed(stem))
            listing.files.append(NamedFile.of(entry, parts))
        else:
            listing.others.append('/'.join((*above, entry.name)))
    return folders


def _add_tree(listing: Listing, folder: Path, above: tuple[str, ...]) -> None:
    for name in _add_folder(listing, folder, above):
        _add_tree(listing, folder / name, (*above, name))


def _entries(folder: Path) -> list[os.DirEntry]:
    """Return a folder's entries by name; names that start with a dot are hidden."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith('.')]
    return sorted(visible, key=lambda entry: composed(entry.name))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        if entry.is_symlink():  # to a folder above it, it would never end
            target = Path(entry.path).resolve()
            return entry.is_dir() and target not in map(Path.resolve, Path(entry.path).parents)
        return entry.is_dir()
    except (OSError, RuntimeError):  # a link to itself, which is reported where it is read
        return False


def _list_pattern(pattern: Path, remedy: str) -> Listing:
    if str(pattern).count(CLASS) > 1:
        raise UserError(f'{pattern}: expected {CLASS} once')
    root = literal_folder(pattern)
    rest = pattern.parts[len(root.parts) :]
    if '*' not in str(pattern):
        raise UserError(f'{pattern}: expected a star for what names an image, beside {CLASS}')
    if not root.is_dir():
        raise UserError(f'{pattern}: there is no folder {root}. {remedy}')
    listing = Listing(pattern)
    # Without an extension in the pattern, any extension of a picture fits.
    by_stem = '.' not in rest[-1].rpartition('*')[2].rpartition(CLASS)[2]
    match = re.compile(expression(rest)).fullmatch
    found = []
    for entry, relative in _walk(root, rest):
        stem, suffix = split_name(relative)
        stars = match(stem if by_stem else relative) if suffix.lower() in IMAGE_SUFFIXES else None
        if stars:
            found.append((entry, stars.groupdict()))
        else:
            listing.others.append(relative)
    class_names = [groups.pop(CLASS_GROUP, None) for _, groups in found]
    rows = [tuple(text.rstrip('/') for text in groups.values()) for _, groups in found]
    for (entry, _), name, row in zip(found, class_names, rows, strict=True):
        listing.files.append(NamedFile.of(entry, row, name))
    if not listing.files:
        there = first_few(listing.others)
        there = f'There are {there}.' if there else f'{root} holds no files there.'
        raise EmptyFolderError(f'{pattern} matches no picture. {there} {remedy}')
    return listing


def expression(parts: tuple[str, ...]) -> str:
    """Return the regular expression of a relative path; its groups are the stars and the class."""
    text, stars = '', 0
    for position, part in enumerate(parts):
        if part == '**':
            text += f'(?P<star{stars}>(?:[^/]+/)*)'
            stars += 1
            continue
        for piece in re.split(r'(\*|\{class\})', part):
            if piece == '*':
                text += f'(?P<star{stars}>[^/]*)'
                stars += 1
            elif piece == CLASS:
                text += f'(?P<{CLASS_GROUP}>[^/]+)'
            else:
                text += re.escape(composed(piece))
        text += '/' if position < len(parts) - 1 else ''
    return text


def _walk(
    folder: Path, parts: tuple[str, ...], above: str = ''
) -> Iterator[tuple[os.DirEntry, str]]:
    """Yield the files that may match the parts, with their names relative to the first folder."""
    anywhere = parts[0] == '**'
    fits = re.compile(expression(parts[:1])).fullmatch
    for entry in _entries(folder):
        relative = above + composed(entry.name)
        if not _is_folder(entry):
            if anywhere or len(parts) == 1:
                yield entry, relative
        elif anywhere:
            yield from _walk(Path(entry.path), parts, f'{relative}/')
        elif len(parts) > 1 and fits(composed(entry.name)):
            yield from _walk(Path(entry.path), parts[1:], f'{relative}/')


def without_repeats(files: list[NamedFile]) -> list[NamedFile]:
    """Return files of a pattern; a star that repeats another's text in every file counts once."""
    columns = list(zip(*(file.parts for file in files), strict=True))
    keep = [k for k, column in enumerate(columns) if column not in columns[:k]]
    return [replace(file, parts=tuple(file.parts[k] for k in keep)) for file in files]
