"""What earlier scans read, remembered in the user's cache folder; never in the data set."""

import hashlib
import json
from pathlib import Path

from .files import whole_file
from .pairing import Pair

CACHE_VERSION = 2  # raise it when the same file would give other facts


class ScanCache:
    """Plain facts of the pairs of two folders, in one JSON file; one that is no use is empty.

    rule: how masks were read, where that changes what was counted.
    """

    def __init__(self, pairs: list[Pair], folder: Path, rule: str = ''):
        self.folders = (pairs[0].image.parent, pairs[0].mask.parent)
        places = f'{pairs[0].image.parent.resolve()}|{pairs[0].mask.parent.resolve()}|{rule}'
        self.path = folder / f'{hashlib.sha256(places.encode()).hexdigest()[:16]}.json'
        self.seen: dict = {}  # what goes back into the file: entries of files since gone do not
        try:
            content = json.loads(self.path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            content = None
        usable = isinstance(content, dict) and content.get('version') == CACHE_VERSION
        self.entries = content['pairs'] if usable else {}

    def _key(self, pair: Pair) -> str:
        stats = [
            # Files of other folders, a validation set's, may have the names of the first ones.
            (p.name if p.parent == folder else str(p.resolve()), s.st_size, s.st_mtime_ns)
            for p, folder in zip((pair.image, pair.mask), self.folders, strict=True)
            if (s := p.stat())
        ]
        return json.dumps(stats)

    def get(self, pair: Pair) -> list | None:
        """What is remembered of a pair whose files have not changed since."""
        key = self._key(pair)
        entry = self.entries.get(key)
        if entry is not None:
            self.seen[key] = entry
        return entry

    def put(self, pair: Pair, entry: list) -> None:
        """Remember a pair's facts."""
        self.seen[self._key(pair)] = entry

    def write(self) -> None:
        """Replace the cache file; a home that cannot be written to costs the next start's time."""
        if self.seen.keys() == self.entries.keys():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = {'version': CACHE_VERSION, 'pairs': self.seen}
            with whole_file(self.path) as part:
                part.write_text(json.dumps(content), encoding='utf-8')
        except OSError as error:
            print(f'note: the scan of the masks is not remembered: {error}')
