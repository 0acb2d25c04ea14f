"""Class tables beside the masks: which files they are, and which of their entries are classes."""

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from utils.runtime.errors import UserError
from utils.runtime.files import read_text

from ..values import MaskValue
from .formats import Entry, parse_table

# Of tables of other programs, the first of which goes before the next, and before other names.
KNOWN = (
    'labelmap.txt', '_classes.csv', 'class_dict.csv', 'class_dict_seg.csv', 'label_colors.txt',
    'dataset.json', 'objectInfo150.txt', 'objectInfo150.csv', 'class_names.txt',
)  # fmt: skip
LIKELY = re.compile(r'.*(class|label|colou?r|palette|legend).*\.(txt|csv|tsv|json)', re.IGNORECASE)
OWN = 'classes.json'
LARGEST = 1_000_000  # bytes
MOST_FILES = 16  # of likely names in a folder; more are annotations of pictures

# Names of values that are no class, in lower case and letters only.
VOID = frozenset(
    'void ignore ignored ignorelabel unlabeled unlabelled notlabeled notlabelled unknown nodata '
    'dontcare'.split()
)


@dataclass(frozen=True)
class ClassTable:
    """A table of classes. clear: whether it is one for sure, and not another file of this form."""

    path: Path
    entries: tuple[Entry, ...]
    clear: bool = True

    @property
    def own(self) -> bool:
        """Whether the user has written it for this program: masks have to fit."""
        return self.path.name == OWN

    def values(self) -> dict[str, MaskValue]:
        """Return the value of each name."""
        return {entry.name: entry.value for entry in self.entries}


def find_tables(folders: Iterable[Path], far: Iterable[Path] = ()) -> list[ClassTable]:
    """Return the class tables of other programs in the folders, the first being the best.

    far: folders in which only files of KNOWN names are taken.
    Raises UserError for a mistake in what is clearly a table.
    """
    found = []
    for folder in dict.fromkeys([*folders, *far]):
        for path in _candidates(folder, folder in far):
            try:
                text = read_text(path, 'a table of classes')
            except UserError:
                if path.name in KNOWN:
                    raise
                continue
            if table := parse_table(path, text):
                found.append(ClassTable(path, tuple(table[0]), table[1]))
    return found


def _candidates(folder: Path, only_known: bool) -> list[Path]:
    """Return the files of a folder that may be tables, by their names."""
    known = [folder / name for name in KNOWN]
    names = [] if only_known or not folder.is_dir() else sorted(os.listdir(folder))  # noqa: PTH208
    likely = [n for n in names if LIKELY.fullmatch(n) and n not in (*KNOWN, OWN)]
    paths = [*known, *(folder / name for name in likely if len(likely) <= MOST_FILES)]
    return [path for path in paths if path.is_file() and path.stat().st_size <= LARGEST]


def void_names(entries: Iterable[Entry], keep: Collection[MaskValue] = ()) -> list[str]:
    """Return the names whose pixels are not labelled: void, ignore and the like; 255, or -1.

    255 counts only beside the numbers 0, 1, 2, … without a gap: it is a class in 0, 9, 255.
    keep: values of classes.
    Where less than two classes would be left, all are classes: of {unlabeled, road}, the first is
    the background.
    """
    entries = [entry for entry in entries if entry.value not in keep]
    numbers = [e.value for e in entries if isinstance(e.value, int) and e.value not in (-1, 255)]
    first = min(numbers, default=2)
    numbered = first < 2 <= len(numbers) and {*numbers} == {*range(first, first + len(numbers))}
    void = [
        entry.name for entry in entries
        if re.sub('[^a-z]', '', entry.name.lower()) in VOID
        or (numbered and entry.value in (-1, 255))
    ]  # fmt: skip
    return void if len(entries) + len(keep) - len(void) >= 2 else []
