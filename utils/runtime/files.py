"""Files: atomic writes, checks of output paths, the user's cache folder, torch.load, CSV."""

import csv
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

# torch.load warns of pickle protocols and sparse tensors, about which users can do nothing.
LOADERS = r'torch\.(serialization|_weights_only_unpickler)'
warnings.filterwarnings('ignore', category=UserWarning, module=LOADERS)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path of the same suffix beside `path`, and move it there on success.

    At any moment, power failures included, `path` is the old file or the new one, both complete.
    """
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        yield temporary
        with temporary.open('r+b') as file:  # Windows flushes only files open for writing
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove temporary files of whole_file that a killed process left in `folder`."""
    for part in folder.glob('.*.part.*'):
        part.unlink(missing_ok=True)


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
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'unet' / name


def read_torch_file(path: Path) -> object:
    """Return what torch.save wrote, on the CPU, never running code; ValueError if it did not."""
    import torch  # here, because image files need no torch

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    # The reader interprets whatever bytes it is given, so any exception is possible.
    except Exception as error:
        raise ValueError(f'not a file of torch.save: {type(error).__name__}') from error


def append_csv(path: Path, rows: list[dict]) -> None:
    """Append rows, after a header if the file is new. None is written as an empty cell.

    A file that is there keeps its columns: an older version's, if an old run is resumed.
    """
    if not rows:
        return
    with path.open('a+', newline='', encoding='utf-8') as file:
        file.seek(0)
        header = next(csv.reader(file), None)
        names = header or list(rows[0])
        writer = csv.DictWriter(file, fieldnames=names, extrasaction='ignore')
        if not header:
            writer.writeheader()
        writer.writerows(rows)
