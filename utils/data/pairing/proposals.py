"""Proposals: the patterns by which files pair, for a message where they do not pair as they are.

Files below both folders are looked at by their names: extension, folders, and the beginnings and
endings that many names share. What is left of a name is its key; candidates whose keys agree for
most images are proposed.
"""

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from itertools import product, takewhile
from pathlib import Path
from typing import NamedTuple

from utils.images.decoding import IMAGE_SUFFIXES
from utils.images.metadata import pages_of
from utils.images.pages import Source, may_have_pages, split_name
from utils.images.volumes import check_package, is_volume
from utils.masks.likeness import label_likeness
from utils.runtime.errors import UserError

from .patterns import CLASS, literal_folder

MOST_PROPOSED = 3
FILES_PER_FOLDER, FOLDERS_PER_FOLDER = 300, 100  # that are looked at
MOST_SETS = 12  # literal values of folders that are tried one by one
MOST_CLASSES = 32
MOST_STACKS = 30  # files of several pages that are opened
MOST_AFFIXES = 6  # beginnings, and endings, of the names in a set
SAMPLED = 100  # images whose masks are searched

Key = tuple[str, ...]


class Template(NamedTuple):
    """A pattern under `root`: folders, where None is a star, and the affixes of names."""

    root: Path
    folders: tuple[str | None, ...]
    prefix: str
    suffix: str
    extension: str
    keyed: bool = True  # whether the star of the name is part of the key
    name: str | None = None  # of all files, instead of affixes and star
    class_level: int | None = None  # of the folders, that which names a class

    def key(self, folders: tuple[str, ...], stem: str) -> Key | None:
        """Return the key of a file in these folders, None if the pattern does not match it."""
        end = len(stem) - len(self.suffix)
        fits = end > len(self.prefix) and stem.startswith(self.prefix)
        if not (fits and stem.endswith(self.suffix)) or self.name not in (None, stem):
            return None
        stars = [
            name
            for level, (name, own) in enumerate(zip(folders, self.folders, strict=True))
            if own is None and level != self.class_level
        ]
        if self.keyed:
            stars.append(stem[len(self.prefix) : end])
        return tuple(dict.fromkeys(stars))  # equal stars count once

    def pattern(self) -> Path:
        """Return the pattern as the user writes it."""
        folders = ['*' if name is None else name for name in self.folders]
        if self.class_level is not None:
            folders[self.class_level] = CLASS
        name = self.name or f'{self.prefix}*{self.suffix}'
        return Path(self.root, *folders, name + self.extension)

    def cost(self) -> int:
        """Return how special the pattern is: of equal ones the plainest is proposed."""
        stars = self.folders.count(None)
        return len(self.prefix) + len(self.suffix) + 20 * stars + 20 * (not self.keyed)


class File(NamedTuple):
    """A picture below a root."""

    folders: tuple[str, ...]
    stem: str
    extension: str
    path: Path


def propose(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return pairs of patterns (images, masks) by which most files pair, the best first.

    images, masks: what the user named, folders or patterns. Pictures are never proposed as masks.
    Raises UserError where volumes need a package.
    """
    roots = literal_folder(images), literal_folder(masks)
    if not all(root.is_dir() for root in roots):
        return []
    image_files, mask_files = map(_look, roots)
    volume = next((f.path for f in (*image_files, *mask_files) if is_volume(f.path)), None)
    if volume:  # of which nothing could be told otherwise
        check_package(volume)
    by_key: dict[Key, list[tuple[Template, Path]]] = defaultdict(list)
    for template, files in _templates(roots[1], mask_files, masks=True):
        for file in files:
            if key := template.key(file.folders, file.stem):
                by_key[key].append((template, file.path))
    scores: Counter[tuple[Template, Template]] = Counter()
    examples: dict[tuple[Template, Template], list[tuple[Path, Path]]] = defaultdict(list)
    for template, files in _templates(roots[0], image_files, masks=False):
        stride = max(1, len(files) // SAMPLED)
        for file in files[::stride]:
            key = template.key(file.folders, file.stem)
            matches = by_key.get(key, []) if key else []
            own = {other for other, path in matches if path == file.path}
            for other in {other: None for other, path in matches if other not in own}:
                scores[template, other] += stride
                examples[template, other].append(
                    (file.path, next(path for found, path in matches if found == other))
                )
    return _best(scores, examples) or _stacks(image_files, mask_files)


def describe(images: Path, masks: Path, options: tuple[str, str]) -> str:
    """Return the options, names of the two, that name these images and masks, for a shell."""
    return f'{options[0]} {shlex.quote(str(images))} {options[1]} {shlex.quote(str(masks))}'


def _best(
    scores: Counter[tuple[Template, Template]],
    examples: dict[tuple[Template, Template], list[tuple[Path, Path]]],
) -> list[tuple[Path, Path]]:
    """Return the pairs of patterns with the highest scores whose masks look like masks.

    Of patterns that pair the same files only the plainest is kept.
    """
    enough = [pair for pair in scores if len(examples[pair]) > 1 or len(scores) == 1]
    enough.sort(key=lambda pair: (-scores[pair], sum(template.cost() for template in pair)))
    chosen: list[tuple[float, tuple[Path, Path]]] = []
    first = 0
    seen = set()
    for pair in enough:
        samples = examples[pair]
        alike = tuple(samples), pair[1].class_level, pair[1].keyed
        if scores[pair] < 0.9 * first or len(chosen) >= 2 * MOST_PROPOSED:
            break
        if alike in seen:
            continue
        seen.add(alike)
        likeness = min(_likeness(mask) for _, mask in samples[:3])
        photographs = min(_likeness(image) for image, _ in samples[:3]) < 0.5
        if likeness and photographs:
            first = first or scores[pair]
            chosen.append((likeness, (pair[0].pattern(), pair[1].pattern())))
    chosen.sort(key=lambda entry: -entry[0])
    return [patterns for _, patterns in chosen[:MOST_PROPOSED]]


def _stacks(image_files: list[File], mask_files: list[File]) -> list[tuple[Path, Path]]:
    """Return files of several pages that seem a stack of images and one of their masks.

    Often there is only one of each, whose names do not tell: train-volume.tif, train-labels.tif.
    They have as many pages, and of several images the one whose name begins like the mask's.
    """
    stacks: list[dict[Path, tuple[Source, ...]]] = [{}, {}]
    for files, found in zip((image_files, mask_files), stacks, strict=True):
        for path in [file.path for file in files if may_have_pages(file.path)][:MOST_STACKS]:
            with suppress(UserError):
                if len(pages := pages_of(path)) > 1:
                    found[path] = pages
    likeness = {path: _likeness(path) for path in dict.fromkeys([*stacks[0], *stacks[1]])}
    pairs = []
    for mask, pages in stacks[1].items():
        partners = [
            path for path, others in stacks[0].items()
            if path != mask and len(others) == len(pages) and likeness[path] < 0.5
        ]  # fmt: skip
        if likeness[mask] and partners:
            shared = {path: _shared(path.name, mask.name) for path in partners}
            best = max(partners, key=lambda path: shared[path])
            pairs.append((-shared[best], (best, mask)))
    return [pair for _, pair in sorted(pairs)] if len(pairs) <= MOST_PROPOSED else []


def _shared(one: str, other: str) -> int:
    """Return how many characters two names begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _likeness(path: Path) -> float:
    """Return label_likeness, of the middle page of several; 0 for a file that cannot be read."""
    with suppress(UserError):
        pages = pages_of(path)
        return label_likeness(pages[len(pages) // 2])
    return 0.0


def _look(root: Path, folders: tuple[str, ...] = ()) -> list[File]:
    """Return pictures below a root, a bounded number of each folder."""
    entries = sorted(p for p in Path(root, *folders).iterdir() if not p.name.startswith('.'))
    kinds = {path: split_name(path.name)[1].lower() for path in entries}
    files = [p for p in entries if kinds[p] in IMAGE_SUFFIXES and not p.is_dir()]
    below = [p for p in entries if kinds[p] not in IMAGE_SUFFIXES and p.is_dir()]
    found = [File(folders, *split_name(p.name), p) for p in files[:FILES_PER_FOLDER]]
    for path in below[:FOLDERS_PER_FOLDER] if len(folders) < 6 else []:
        found += _look(root, (*folders, path.name))
    return found


def _templates(root: Path, files: list[File], masks: bool) -> Iterator[tuple[Template, list[File]]]:
    """Yield candidates for patterns, and the files of their folders and extension."""
    for folders, extension, members in _sets(files):
        beginnings, endings = _affixes(members)
        for prefix, suffix in product(beginnings, endings):
            template = Template(root, folders, prefix, suffix, extension)
            yield template, members
            for level in _class_levels(folders, members) if masks else []:
                by_class = template._replace(class_level=level)
                fitting = [f for f in members if by_class.key(f.folders, f.stem)]
                if len({file.folders[level] for file in fitting}) < len(fitting):
                    yield by_class, members  # a folder of a single mask is one of an image
        if None in folders:  # the id may be in the folders alone
            by_folder = Template(root, folders, '', '', extension, keyed=False)
            for name in _common_names(members):
                yield by_folder._replace(name=name), members
            if masks:  # several masks in a folder of the image's name
                yield by_folder, members


def _sets(files: list[File]) -> Iterator[tuple[tuple[str | None, ...], str, list[File]]]:
    """Yield folders, where None is a star, and an extension, and the files of both."""
    alike = defaultdict(list)
    for file in files:
        alike[len(file.folders), file.extension].append(file)
    for (depth, extension), group in alike.items():
        for starred in product((False, True), repeat=depth):
            sets = defaultdict(list)
            for file in group:
                named = zip(file.folders, starred, strict=True)
                sets[tuple(None if star else name for name, star in named)].append(file)
            if len(sets) <= MOST_SETS:
                yield from ((folders, extension, members) for folders, members in sets.items())


def _common_names(files: list[File]) -> list[str]:
    """Return the names of files that occur in at least half of all folders, at least in two."""
    folders = len({file.folders for file in files})
    counts = Counter(file.stem for file in files)
    return sorted(name for name, count in counts.items() if count >= max(2, folders / 2))


def _class_levels(folders: tuple[str | None, ...], files: list[File]) -> list[int]:
    """Return the starred levels whose folders may be named after classes: 2 to MOST_CLASSES."""
    return [
        level for level, name in enumerate(folders)
        if name is None and 2 <= len({file.folders[level] for file in files}) <= MOST_CLASSES
    ]  # fmt: skip


def _affixes(files: list[File]) -> tuple[list[str], list[str]]:
    """Return beginnings and endings that many names share, each with '' first."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for file in files:
        counts[0].update(_beginnings(file.stem))
        counts[1].update(_endings(file.stem))
    least = max(2, len(files) // 5) if len(files) > 1 else 1
    shared = [
        ['', *sorted((a for a in found if found[a] >= least), key=lambda a: (-found[a], len(a)))]
        for found in counts
    ]
    return shared[0][: 1 + MOST_AFFIXES], shared[1][: 1 + MOST_AFFIXES]


def _beginnings(stem: str) -> list[str]:
    """Return what may come before the id: letters up to a separator, or to a digit."""
    ends = [match.end() for match in re.finditer(r'[_\-. ]+|(?<=[A-Za-z])(?=\d)', stem)]
    return [stem[:end] for end in ends if 0 < end < len(stem) and not stem[:end].isdigit()]


def _endings(stem: str) -> list[str]:
    """Return what may come after the id: from a separator on, or letters after a digit.

    Digits do not, but for nnU-Net's number of a channel, _0000.
    """
    starts = [match.start() for match in re.finditer(r'[_\-. ]+|(?<=\d)(?=[A-Za-z])', stem)]
    return [stem[at:] for at in starts if at > 0 and re.search('[A-Za-z]|^_000[0-9]$', stem[at:])]
