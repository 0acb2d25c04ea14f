"""Lists that lie beside the pictures, such as ImageSets/Segmentation/train.txt, to be proposed."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from utils.runtime.errors import UserError

from .patterns import literal_folder

if TYPE_CHECKING:  # keeps the chain of imports short
    from .matching import Matching

FOLDERS = ('', 'ImageSets/Segmentation', 'ImageSets', 'splits', 'lists')
# Names of lists, in the order in which they are looked for.
TRAINING = ('train', 'training', 'train_list', 'trainlist', 'trainval', 'default')
VALIDATION = ('val', 'valid', 'validation', 'val_list', 'vallist', 'test', 'test_list', 'testlist')
SUFFIXES = ('.txt', '.csv', '.tsv', '.lst')
LARGEST = 10_000_000  # bytes; a list of 100,000 pairs has 5 million


class Found(NamedTuple):
    """A list that fits the pictures, and what it pairs."""

    path: Path
    matching: 'Matching'


Match = Callable[[Path], 'Matching']  # of the user's pictures, by a list


def find_lists(sources: tuple[Path, Path], match: Match) -> tuple[Found | None, Found | None]:
    """Return the lists for training and for validation that lie beside the pictures.

    A list fits if nine of ten of its names are pictures of `sources`, or beside the list.
    """
    for folder in _folders(sources):
        training, validation = (_first(folder, names, match)
                                for names in (TRAINING, VALIDATION))  # fmt: skip
        if training or validation:
            return training, validation
    return None, None


def describe_lists(sources: tuple[Path, Path], match: Match, images: int) -> list[str]:
    """Return a note on the lists beside the pictures, of which there are `images`."""
    found = find_lists(sources, match)
    named = [f'{list_.path} names {len(list_.matching.pairs)}' for list_ in found if list_]
    lists = ' and '.join(named)
    if not found[0] or (not found[1] and len(found[0].matching.pairs) >= images):
        return []
    return [
        f'note: of {images} pictures and those beside, {lists}; to take these: {options(found)}'
    ]


def options(found: tuple[Found | None, Found | None]) -> str:
    """Return the options of train.py that name the lists."""
    named = zip(('--list', '--val-list'), found, strict=True)
    return ' '.join(f'{option} {shlex.quote(str(list_.path))}' for option, list_ in named if list_)


def _folders(sources: tuple[Path, Path]) -> Iterator[Path]:
    """Yield the folders of pictures, those above, and folders of lists in them."""
    roots = [literal_folder(source) for source in sources]
    above = [root.parent for root in roots]
    for folder in dict.fromkeys([*above, *roots, *(folder.parent for folder in above)]):
        yield from (folder / name for name in FOLDERS if (folder / name).is_dir())


def _first(folder: Path, names: tuple[str, ...], match: Match) -> Found | None:
    paths = [folder / f'{name}{suffix}' for name in names for suffix in SUFFIXES]
    for path in paths:
        if path.is_file() and path.stat().st_size <= LARGEST:
            with suppress(UserError):  # a file of another kind
                matching = match(path)
                if len(matching.pairs) > 9 * matching.missing:
                    return Found(path, matching)
    return None
