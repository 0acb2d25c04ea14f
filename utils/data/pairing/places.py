"""Where the pictures are that a list names, whose paths may be those of another machine."""

import os
import re
from functools import lru_cache
from pathlib import Path

from utils.images.decoding import IMAGE_SUFFIXES
from utils.images.pages import split_name

from .patterns import composed, looks_like_picture

LEVELS_ABOVE = 3  # folders above that of the list, or of the pictures, in which names are looked up
ROOT = re.compile('/|[A-Za-z]:/')  # of an absolute path


class Places:
    """The folders in which pictures of a list are looked for.

    They are `folder`, which the user has named, the list's own, the folders above both, and the
    current one. A path of a list is tried from its root or first folder on, then without that
    folder, and so on: /SegNet/CamVid/train/a.png is CamVid/train/a.png beside CamVid/train.txt.
    """

    def __init__(self, folder: Path, list_file: Path):
        self.folder = folder
        above = [*folder.parents][:LEVELS_ABOVE]
        own = [*list_file.parents][: 1 + LEVELS_ABOVE]
        self.bases = list(dict.fromkeys([folder, *above, *own, Path()]))
        self.folders = lru_cache(maxsize=None)(self._folders)
        self.names = lru_cache(maxsize=None)(self._names)

    def find(self, name: str, any_extension: bool = False) -> list[Path]:
        """Return the picture of a name with or without folders and extension, or several.

        any_extension: also take a.jpg for a.png, if there is no a.png: pictures are converted.
        """
        path = composed(name).replace('\\', '/')
        *above, last = [part for part in path.split('/') if part not in ('', '.')] or ['']
        places = self.folders(tuple(above), path[: -len(last) or None] if ROOT.match(path) else '')
        whole = last if looks_like_picture(last) else ''
        for folder in places:
            files = self.names(folder)
            if found := files.get(whole or f'{last}.'):
                return [
                    Path(f'{folder}/{file}') for file in found
                ]  # half the time of folder / file
        if not (whole and any_extension):
            return []
        stem = f'{split_name(last)[0]}.'
        return next((self._paths(p, stem) for p in places if stem in self.names(p)), [])

    def _paths(self, folder: Path, stem: str) -> list[Path]:
        return [folder / file for file in self.names(folder)[stem]]

    def _folders(self, above: tuple[str, ...], absolute: str) -> list[Path]:
        """Return the folders that exist for the folders of a name, the longest path first."""
        tried = [Path(absolute)] if absolute else []
        for first in range(len(above) + 1):
            tried += [Path(base, *above[first:]) for base in self.bases]
        # Unlike Path's, this isdir takes names that are too long, or hold a zero.
        return [folder for folder in dict.fromkeys(tried) if os.path.isdir(folder)]  # noqa: PTH112

    def _names(self, folder: Path) -> dict[str, list[str]]:
        """Return a folder's pictures by name, and by stem, to which a dot is added."""
        found: dict[str, list[str]] = {}
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208  # a tenth of iterdir's time
        except OSError:  # somebody else's, above the list
            return {}
        for name in names:
            stem, suffix = split_name(name)
            if suffix.lower() in IMAGE_SUFFIXES and not name.startswith('.'):
                found[composed(name)] = [name]
                found.setdefault(f'{composed(stem)}.', []).append(name)
        return found
