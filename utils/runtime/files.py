"""Files that appear whole or not at all, whatever happens while they are written.

Array files (.npy, .pt, .pth) to pixels, and pixels to the channels a network takes.

Pixels are (H, W, C), uint8, or float32 in [0, 1] for types of more than 8 bits. No array file is
ever unpickled. Axis letters: H and W pixels, C channels.

What a run leaves to read: metrics.csv and args.json always, W&B when asked.

Nothing leaves the machine unless the user is logged in to W&B, and no logger stops a training.
"""

import csv
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


def read_torch_file(path: Path) -> object:
    """What torch.save wrote, on the CPU, without running code from the file.

    Raises ValueError for anything else.
    """
    import torch  # here, because pictures need no torch

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    # The reader interprets whatever bytes it is given, so any exception may come of them.
    except Exception as error:
        raise ValueError(f'not a file of torch.save: {type(error).__name__}') from error


def append_csv(path: Path, rows: list[dict]) -> None:
    """Append rows, with a header where the file is new; None is written as an empty cell."""
    if not rows:
        return
    with path.open('a', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)
