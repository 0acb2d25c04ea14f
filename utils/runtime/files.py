"""Files: atomic writes, checks of output paths, the user's cache folder, CSV."""

import codecs
import csv
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

PART = '.unet-{}.part{}'  # name of a temporary file: random digits, suffix of the target
# Such names, and those of earlier versions, which had the target's name and a process id.
PARTS = re.compile(r'\.(unet-[0-9a-f]{8}|.+\.\d+)\.part(\.\w+)?')
PART_AGE = 24 * 3600  # seconds; older temporary files were left by killed processes
CONTAINER_MARKS = (Path('/.dockerenv'), Path('/run/.containerenv'))  # of Docker and of Podman
ROOT = Path('/')  # in a container its own layer, which is removed with it
SPECIAL = ('/dev', '/proc')  # what lies here is written to, never replaced, such as /dev/stdout

_swept: set[Path] = set()  # folders in which this process has looked for old temporary files


def read_text(path: Path, expected: str) -> str:
    """Return the text of a file that people write: UTF-8, or UTF-16 with its mark, as of Windows.

    Raises UserError for a file that is none; `expected` says what it should be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}; expected {expected}') from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode('utf-16' if wide else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path} is no text in UTF-8 (byte {error.start}); expected {expected}'
        ) from error


@contextmanager
def whole_file(path: Path, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path of the same suffix in `path`'s folder, and move it there on success.

    At any moment, power failures included, `path` is the old file or the new one, both complete. A
    link stays, and its target is replaced; a device or pipe is written to. The old file's mode is
    kept. private: only the user may read a new file.
    """
    if path.exists() and not _replaceable(path):
        with _naming(path), _written_to(path) as temporary:
            yield temporary
        return
    target = path.resolve() if path.is_symlink() else path
    folder = target.parent.absolute()
    if folder not in _swept:
        _swept.add(folder)
        remove_parts(folder)
    temporary = target.with_name(PART.format(secrets.token_hex(4), target.suffix))
    # O_EXCL: a link that somebody has put there is not followed.
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600 if private else 0o666
    lock = None
    try:
        lock = os.open(temporary, flags, mode)
        lock_file(lock)
        if target.exists():
            temporary.chmod(mode)  # whatever the umask
        with _naming(path):
            yield temporary
            os.fsync(lock)
        temporary.replace(target)
    except OSError as error:
        if error.filename == str(temporary):  # the user knows the name of the target only
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if lock is not None:
            os.close(lock)
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name `path` in errors of the system without a file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def remove_parts(folder: Path) -> None:
    """Remove temporary files of whole_file in `folder` that a killed process left: old, unlocked.

    A process that writes one holds a lock on it, which the system releases when it ends.
    """
    for part in folder.iterdir():
        with suppress(OSError):
            if not PARTS.fullmatch(part.name) or time.time() - part.lstat().st_mtime < PART_AGE:
                continue
            file = os.open(part, os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0))
            try:
                lock_file(file)
                part.unlink()
            finally:
                os.close(file)


def _replaceable(path: Path) -> bool:
    """Return whether an existing path may be replaced: a regular file, not one of SPECIAL."""
    return path.is_file() and not str(path.resolve()).startswith(SPECIAL)


@contextmanager
def _written_to(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and write its content to `path` on success."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, f'part{path.suffix}')
        yield temporary
        with temporary.open('rb') as file, path.open('wb') as special:
            shutil.copyfileobj(file, special)


def lock_file(file: int) -> None:
    """Lock an open file for this process; raise BlockingIOError if another holds a lock on it."""
    if fcntl:  # Windows has none, and lets nobody remove a file that is open
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_output_file(path: Path) -> None:
    """Raise UserError if no file can be written at `path`: its folder is missing, or it is one."""
    if not path.parent.is_dir():
        raise UserError(
            f'{path} cannot be written: no folder {path.parent} to write into. Make it first.'
        )
    if path.is_dir():
        raise UserError(f'{path} is a folder; expected the name of a file to write')


def check_output_folder(path: Path) -> None:
    """Raise UserError if no folder can be at `path`: it is a file, or its parent is missing."""
    if path.exists() and not path.is_dir():
        raise UserError(f'{path} is a file; expected the name of a folder to write into')
    if not path.is_dir():
        check_output_file(path)


def user_cache(name: str) -> Path:
    """Return this project's folder `name` in the user's cache folder. It may not exist yet."""
    return _cache_base() / 'unet' / name


def _cache_base() -> Path:
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')


def container_note(path: Path) -> str:
    """Return what becomes of a file when the container is removed, '' outside of containers."""
    if not any(mark.exists() for mark in CONTAINER_MARKS):
        return ''
    existing = next(parent for parent in path.absolute().parents if parent.is_dir())
    if existing.stat().st_dev != ROOT.stat().st_dev:
        return ', on a volume that outlives the container'
    return f', lost with the container: mount a volume at {_cache_base()} (docs/docker.md)'


def private_folder(folder: Path) -> None:
    """Make a folder that only the user may enter, if it does not exist."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):  # of another user
        folder.chmod(0o700)  # those of earlier versions were open to all


def append_csv(path: Path, rows: list[dict]) -> None:
    """Append rows, after a header if the file is new. None is written as an empty cell.

    A file that is there keeps its columns: an older version's, if an old run is resumed.
    """
    if not rows:
        return
    # Names that are no text, in no encoding, keep their bytes.
    with (
        _naming(path),
        path.open('a+', newline='', encoding='utf-8', errors='surrogateescape') as file,
    ):
        file.seek(0)
        header = next(csv.reader(file), None)
        names = header or list(rows[0])
        writer = csv.DictWriter(file, fieldnames=names, extrasaction='ignore')
        if not header:
            writer.writeheader()
        writer.writerows(rows)
