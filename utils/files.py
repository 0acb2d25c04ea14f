"""Files that appear whole or not at all, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix; on success its file takes the place.

    At any moment, power failures included, `path` is the old file or the new one, both complete.
    """
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        yield temporary
        with temporary.open('r+b') as file:  # Windows flushes only what it may write
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove what a killed process left half written in `folder`."""
    for part in folder.glob('.*.part.*'):
        part.unlink(missing_ok=True)


def user_cache(name: str) -> Path:
    """Our folder `name` in the user's cache folder, which may not be there yet."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'unet' / name
