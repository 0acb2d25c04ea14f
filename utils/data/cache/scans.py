"""Metadata of scanned files, remembered in the user's cache folder for the next start."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from utils.images.decoding import PILLOW_DECODE
from utils.images.pages import Source, file_of, resolved
from utils.masks.joined import JoinedMask, mask_files, mask_sources
from utils.runtime.files import private_folder, user_cache, whole_file

if TYPE_CHECKING:
    from utils.masks.encoding import MaskEncoding

    from ..pairing.matching import Pair

CACHE_VERSION = 6  # raise it when the same file would give other metadata


def _sources_and_folders(pair: 'Pair', folders: tuple[Path, Path]) -> list[tuple[Source, Path]]:
    """Return the pair's pictures, each with the folder in which it is expected."""
    return [(pair.image, folders[0]), *((one, folders[1]) for one in mask_sources(pair.mask))]


def _digest(text: str) -> str:
    return hashlib.sha256(f'{CACHE_VERSION}\n{text}'.encode()).hexdigest()


class ScanCache:
    """Metadata of the pairs of two folders, at a scale, in a file; a broken one counts as empty.

    The file is JSON after a first line with its SHA-256: what this program has not written whole is
    not read.
    """

    def __init__(self, pairs: list['Pair'], masks: 'MaskEncoding', decode: str, scale: float):
        self.decode, self.scale = decode, scale
        self.folders = (pairs[0].image.parent, mask_files(pairs[0].mask)[0].parent)
        rule = repr(masks) if masks.snap or masks.merges_objects else ''  # of counting
        rule += decode if decode == PILLOW_DECODE else ''  # sizes are of pictures as stored
        places = f'{self.folders[0].resolve()}|{self.folders[1].resolve()}|{rule}|{scale}'
        name = hashlib.sha256(places.encode(errors='surrogatepass')).hexdigest()[:16]
        self.path = user_cache('scans') / f'{name}.scan'
        self.seen: dict[str, list] = {}  # what write() keeps: without entries of removed files
        self.entries: dict[str, list] = {}
        with contextlib.suppress(OSError, ValueError):
            digest, _, text = self.path.read_text(encoding='utf-8').partition('\n')
            if digest == _digest(text):
                self.entries = json.loads(text)

    def _key(self, pair: 'Pair') -> str:
        stats = [
            # Files of other folders, such as a validation set's, may have the same names.
            (p.name if p.parent == folder else resolved(p), s.st_size, s.st_mtime_ns)
            for p, folder in _sources_and_folders(pair, self.folders)
            if (s := file_of(p).stat())
        ]
        values = pair.mask.values if isinstance(pair.mask, JoinedMask) else ()
        return json.dumps([*stats, *values])

    def get(self, pair: 'Pair') -> list | None:
        """Return what was kept of a pair whose files have not changed, None if nothing."""
        key = self._key(pair)
        entry = self.entries.get(key)
        if entry is not None:
            self.seen[key] = entry
        return entry

    def put(self, pair: 'Pair', entry: list) -> None:
        """Keep values of a pair, as JSON has them, for write()."""
        self.seen[self._key(pair)] = entry

    def write(self) -> None:
        """Replace the cache file; if that fails, only the next start takes longer."""
        if self.seen.keys() == self.entries.keys():
            return
        text = json.dumps(self.seen)
        try:
            private_folder(self.path.parent)
            with whole_file(self.path, private=True) as part:
                part.write_text(f'{_digest(text)}\n{text}', encoding='utf-8')
        except OSError as error:
            print(f'note: the scan of the masks is not remembered: {error}')
