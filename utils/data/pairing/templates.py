"""Patterns that the files of a folder suggest: candidates for a proposal.

Files are looked at by their names: extension, folders, and the beginnings and endings that many
names share. What is left of a name is its key.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import product, takewhile
from pathlib import Path
from typing import NamedTuple

from .endings import SEPARATORS
from .patterns import CLASS, expression

MOST_SETS = 12  # literal values of folders that are tried one by one
MOST_CLASSES = 32
MOST_AFFIXES = 6  # beginnings, and endings, of the names in a set

Key = tuple[str, ...]


class Template(NamedTuple):
    """A pattern under `root`: folders, where None or '*' is a star, and the affixes of names."""

    root: Path
    folders: tuple[str | None, ...]
    prefix: str
    suffix: str
    extension: str
    keyed: bool = True  # whether the star of the name is part of the key
    name: str | None = None  # of all files, or {class}, instead of affixes and star
    class_level: int | None = None  # of the folders, that which names a class
    tail: str = ''  # after the suffix, a pattern of what tells masks of an image apart
    infix: str = ''  # instead of affixes, between two stars: *_sat_*

    def key(self, folders: tuple[str, ...], stem: str) -> Key | None:
        """Return the key of a file in these folders, None if the pattern does not match it."""
        if self.tail:
            named = re.match(f'(.*){re.escape(self.suffix)}{expression((self.tail,))}$', stem)
            stem = named[1] + self.suffix if named else ''
        left, _, right = stem.rpartition(self.infix) if self.infix else ('', '', '')
        end = len(stem) - len(self.suffix)
        fits = end > len(self.prefix) and stem.startswith(self.prefix)
        if not (fits and stem.endswith(self.suffix)) or self.name not in (None, CLASS, stem):
            return None
        if self.infix and not (left and right):
            return None
        stars = []
        for level, (name, own) in enumerate(zip(folders, self.folders, strict=True)):
            if own is None and level != self.class_level:
                stars.append(name)
            elif own and '*' in own:
                start, _, end_ = own.partition('*')
                stars.append(name[len(start) : len(name) - len(end_)])
        if self.keyed:
            stars += [left, right] if self.infix else [stem[len(self.prefix) : end]]
        return tuple(dict.fromkeys(stars))  # equal stars count once

    def pattern(self) -> Path:
        """Return the pattern as the user writes it."""
        folders = ['*' if name is None else name for name in self.folders]
        if self.class_level is not None:
            folders[self.class_level] = CLASS
        name = self.name or f'{self.prefix}*{self.suffix}{self.tail}'
        name = f'*{self.infix}*' if self.infix else name
        return Path(self.root, *folders, name + self.extension)

    def cost(self) -> int:
        """Return how special the pattern is: of equal ones the plainest is proposed."""
        parts = [name for name in self.folders if name and '*' in name]
        stars = self.folders.count(None) + len(parts)
        texts = (*parts, self.prefix, self.suffix, self.tail, self.infix)
        affixes = sum(map(len, texts))
        return affixes + 20 * stars + 20 * (not self.keyed)

    @property
    def numbers(self) -> list[str]:
        """The numbers in the affixes, which are those of one part of a data set."""
        return re.findall('[0-9]+', f'{self.prefix} {self.suffix}')

    @property
    def by_folder(self) -> bool:
        """Whether all masks in a folder are of the image of its name."""
        return not (self.keyed or self.name)

    @property
    def classes(self) -> bool:
        """Whether the pattern has {class}."""
        return self.class_level is not None or CLASS in (self.name or self.tail)

    @property
    def joins(self) -> bool:
        """Whether several masks of an image are joined."""
        return self.classes or bool(self.tail) or self.by_folder


class File(NamedTuple):
    """A picture below a root."""

    folders: tuple[str, ...]
    stem: str
    extension: str
    path: Path


def image_templates(root: Path, files: list[File]) -> Iterator[tuple[Template, list[File]]]:
    """Yield candidates for a pattern of the images, each with the files that it may match."""
    for folders, extension, members in _sets(files):
        yield from _plain(Template(root, folders, '', '', extension), members)


def mask_templates(
    root: Path, files: list[File], images: set[str]
) -> Iterator[tuple[Template, list[File]]]:
    """Yield candidates for a pattern of the masks, each with the files that it may match.

    images: names of the images, without extensions.
    """
    for folders, extension, members in _sets(files):
        template = Template(root, folders, '', '', extension)
        levels = _class_levels(folders, members)
        for plain, _ in _plain(template, members):
            if plain.prefix[:-1] in images:  # what is left of the name is no image's
                continue
            yield plain, members
            for level in levels if plain.keyed else []:
                by_class = plain._replace(class_level=level)
                fitting = [f for f in members if by_class.key(f.folders, f.stem)]
                if 1 < len({file.folders[level] for file in fitting}) < len(fitting):
                    yield by_class, members  # a folder of a single mask is one of an image
        for place in [None, *levels]:
            for suffix, tail in dict.fromkeys(_tails(members, images, classes=place is None)):
                yield template._replace(suffix=suffix, tail=tail, class_level=place), members
        if None in folders:  # several masks in a folder of the image's name
            yield template._replace(keyed=False), members
            if _may_name_classes([file.stem for file in members]):
                yield template._replace(keyed=False, name=CLASS), members


def _plain(template: Template, members: list[File]) -> Iterator[tuple[Template, list[File]]]:
    """Yield the template with affixes that names share, or with one name of a file a folder."""
    for prefix, suffix in product(*_affixes([file.stem for file in members])):
        yield template._replace(prefix=prefix, suffix=suffix), members
    for infix in _infixes(members):
        yield template._replace(infix=infix), members
    if None in template.folders:  # the id may be in the folders alone
        for name in _common_names(members):
            yield template._replace(keyed=False, name=name), members


def _tails(files: list[File], images: set[str], classes: bool) -> Iterator[tuple[str, str]]:
    """Yield the suffix and the tail of names that begin with an image's, several with the same.

    classes: whether a part of the tail may name classes. A part does if it has letters and is one
    of a few, each of which occurs in several images: a_cat_1, a_dog_1, b_cat_1.
    """
    for first in (True, False):  # of two images' names, the shorter is that of an image of masks
        found = [_split_at(file.stem, images, first) for file in files]
        split = [parts for parts in found if parts]
        rests = [rest for _, rest in split]
        if len({*split}) < 2 or len({name for name, _ in split}) > 0.99 * len(files):
            continue
        least, greatest = min(rests), max(rests)  # what these share, all do
        common = least[: shared_beginning(least, greatest)]
        whole = all(rest[len(common) :][:1] in ('', *SEPARATORS) for rest in rests)
        if whole and common[-1:] not in SEPARATORS:
            yield common, '*'
            continue
        common = common[: 1 + max(common.rfind(mark) for mark in SEPARATORS)]
        rows = [rest[len(common) :].split(common[-1:]) for rest in rests] if common else []
        if not rows or len({*map(len, rows)}) > 1:
            continue
        columns = [*zip(*rows, strict=True)]
        stars = ['*'] * len(columns)
        named = next((k for k, column in enumerate(columns) if _may_name_classes(column)), None)
        if named is not None and classes:
            yield common, common[-1].join([*stars[:named], CLASS, *stars[named + 1 :]])
        yield common, common[-1].join(stars)


def _split_at(stem: str, images: set[str], first: bool) -> tuple[str, str] | None:
    """Return the image's name with which a mask's begins, and the rest, from a separator on."""
    starts = [k for k, mark in enumerate(stem) if mark in SEPARATORS and stem[:k] in images]
    return (stem[: (at := starts[0 if first else -1])], stem[at:]) if starts else None


def _may_name_classes(parts: Sequence[str]) -> bool:
    counts = Counter(parts)
    few = 2 <= len(counts) <= MOST_CLASSES and len(parts) >= 2 * len(counts)
    return few and all(re.search('[A-Za-z]', part) for part in counts)


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
            for folders, members in sets.items() if starred[-1:] == (True,) else ():
                for part, fitting in _parts_of_folders(members):
                    yield (*folders[:-1], part), extension, fitting


def _parts_of_folders(files: list[File]) -> Iterator[tuple[str, list[File]]]:
    """Yield what names of the last folders share, as 'Slide_*', and the files of these folders."""
    last = {file.folders[-1] for file in files}
    beginnings, endings = _affixes(sorted(last))
    for part in [f'{a}*' for a in beginnings[1:]] + [f'*{a}' for a in endings[1:]]:
        start, _, end = part.partition('*')
        fitting = {n for n in last if n.startswith(start) and n.endswith(end) and n != start + end}
        if len(fitting) > 1:
            yield part, [file for file in files if file.folders[-1] in fitting]


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


def _infixes(files: list[File]) -> list[str]:
    """Return the words between separators that most names share."""
    words = (re.findall(r'(?=(?<=.)([_\-. ][A-Za-z]+[_\-. ]).)', file.stem) for file in files)
    counts = Counter(word for found in words for word in {*found})
    shared = [word for word, count in counts.items() if count > max(1, len(files) / 2)]
    return sorted(shared)[:MOST_AFFIXES]


def _affixes(names: list[str]) -> tuple[list[str], list[str]]:
    """Return beginnings and endings that many names share, each with '' first."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for name in names:
        counts[0].update(_beginnings(name))
        counts[1].update(_endings(name))
    least = max(2, len(names) // 5) if len(names) > 1 else 1
    shared = [
        ['', *sorted((a for a in found if found[a] >= least), key=lambda a: (-found[a], len(a)))]
        for found in counts
    ]
    return shared[0][: 1 + MOST_AFFIXES], shared[1][: 1 + MOST_AFFIXES]


def shared_beginning(one: str, other: str) -> int:
    """Return how many characters two names begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


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
