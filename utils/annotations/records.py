"""What annotation files say: pictures, and the shapes in them, each with a label.

Axis letters: H and W pixels. Coordinates are in pixels, x to the right and y downwards, with (0, 0)
at the outer corner of the first pixel, whose centre is (0.5, 0.5).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.masks.encoding import IGNORE
from utils.masks.values import MAX_CLASSES
from utils.runtime.errors import Problem, UserError, first_few

IGNORED_LABELS = ('__ignore__', '_ignore_')  # of LabelMe: their pixels do not count
BACKGROUND_LABELS = ('background', '_background_', '__background__')  # drawn as class 0

# What readers count and tell the user of.
FEW_POINTS = 'outlines of fewer than three points are left out'
NO_AREA = 'shapes without area (lines, points) are left out'


@dataclass(frozen=True)
class Outlines:
    """Polygons of one object, each (N, 2) float64 of x and y; their union is the object."""

    rings: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Runs:
    """The pixels of an object in a box of the picture.

    counts: lengths of runs, outside and inside the object in turns, that fill the box.
    size: (width, height) of the box; None for the whole picture, which they need not fill then.
    by_column: whether runs go down the columns, as in COCO, or along the rows.
    """

    counts: np.ndarray  # (N,) int64
    size: tuple[int, int] | None
    corner: tuple[int, int] = (0, 0)  # (left, top) of the box, in the picture
    by_column: bool = False
    where: str = ''  # file and line, for messages


@dataclass(frozen=True)
class Shape:
    """An object: where it is, and what it is."""

    label: str
    area: Outlines | Runs


@dataclass
class AnnotatedPicture:
    """A picture as an annotation file describes it; later shapes cover earlier ones.

    names: of the picture, as the file has them, with folders; the first that exists is it. Without
        an extension, any picture of that name is.
    size: (width, height), None if the file does not say.
    """

    source: Path  # the annotation file
    names: tuple[str, ...]
    size: tuple[int, int] | None
    shapes: list[Shape] = field(default_factory=list)
    relative: bool = False  # coordinates are fractions of the size


@dataclass
class AnnotationSet:
    """All pictures of a data set.

    labels: in the order of the classes, None if files do not list them: sorted by name then.
    home: folder in which pictures are searched, None for that of the source.
    named_folders: whether folders in the pictures' names belong to the masks' names.
    parts: whether some of the pictures may be there without the others, as of large downloads.
    counts: of things to tell the user, such as shapes that have no area.
    examples: the first place where each was found.
    """

    pictures: list[AnnotatedPicture] = field(default_factory=list)
    labels: list[str] | None = None
    home: Path | None = None
    named_folders: bool = False
    parts: bool = False
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Keep a UserError of the block among the problems, so that all are reported at once."""
        try:
            yield
        except UserError as error:
            self.problems.append(Problem(error.kind, str(error)))

    def count(self, what: str, where: str) -> None:
        """Count something to tell the user."""
        self.counts[what] += 1
        self.examples.setdefault(what, where)

    def notes(self) -> list[str]:
        """Return a line for each thing that was counted."""
        return [
            f'note: {what}: {count} ({self.examples[what]}{", and others" if count > 1 else ""})'
            for what, count in self.counts.items()
        ]

    def class_values(self) -> dict[str, int]:
        """Return the mask value of each label: 0 background, 1, 2, … classes, 255 ignored.

        Raises UserError if there is no class, or more than masks hold.
        """
        used = {shape.label for picture in self.pictures for shape in picture.shapes}
        labels = list(dict.fromkeys([*(self.labels or ()), *sorted(used)]))
        values = {label: 0 for label in labels if label.lower() in BACKGROUND_LABELS}
        values |= {label: IGNORE for label in labels if label in IGNORED_LABELS}
        classes = [label for label in labels if label not in values]
        if not classes:
            raise UserError('the annotations have no labelled outline; nothing to make masks of')
        if len(classes) >= MAX_CLASSES:
            raise UserError(
                f'the annotations have {len(classes)} classes ({first_few(classes)}); expected '
                f'{MAX_CLASSES - 1} at most, which 8-bit masks hold. Leave classes out, or merge '
                'some under one name.'
            )
        return values | {label: k for k, label in enumerate(classes, 1)}


def class_table(values: dict[str, int]) -> dict[str, int]:
    """Return the classes by their names, in the order of classes.json, ignored labels left out."""
    classes = {label: value for label, value in values.items() if value not in (0, IGNORE)}
    return {'background': 0} | classes


def listed_labels(folder: Path, names: Iterable[str] = ('labels.txt', 'classes.txt')) -> list[str]:
    """Return the labels that a text file in the folder lists, one a line; none without a file."""
    for path in (folder / name for name in names):
        if path.is_file():
            try:
                lines = path.read_text(encoding='utf-8-sig').splitlines()
            except ValueError as error:
                raise UserError(
                    f'{path} cannot be read: {error}; expected a label a line'
                ) from error
            return [line.strip() for line in lines if line.strip()]
    return []
