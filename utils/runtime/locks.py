"""A lock on a folder: two runs must not write into one."""

import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from .errors import UserError
from .files import lock_file

LOCK = '.in-use.lock'


class FolderLock:
    """Holds a folder for this process. The system releases the lock when the process ends.

    The lock is one of the system on a file, which works over NFS where that is set up for locks.
    Raises UserError, naming the owner, if another process holds the folder.
    """

    def __init__(self, folder: Path):
        self.path: Path | None = folder / LOCK
        while True:
            self.file = _open(self.path)
            try:
                lock_file(self.file)
            except BlockingIOError:
                os.close(self.file)
                raise _in_use(folder, self.path) from None
            except OSError:  # a file system without locks
                break
            if self.path.exists() and os.path.samestat(os.fstat(self.file), self.path.stat()):
                break
            os.close(self.file)  # of a process that has just ended, which has removed it
        owner = {'process': os.getpid(), 'host': socket.gethostname()}
        owner |= {'since': f'{datetime.now():%Y-%m-%d %H:%M:%S}'}
        os.ftruncate(self.file, 0)
        os.write(self.file, json.dumps(owner).encode())

    def release(self) -> None:
        """Let others use the folder."""
        if self.path:
            self.path.unlink(missing_ok=True)
            os.close(self.file)
            self.path = None


def check_unlocked(folder: Path) -> None:
    """Raise UserError, naming the owner, if another process holds the folder."""
    path = folder / LOCK
    if not path.exists():
        return
    file = _open(path)
    try:
        lock_file(file)
    except BlockingIOError:
        raise _in_use(folder, path) from None
    except OSError:
        pass  # a file system without locks
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0), 0o644)


def _in_use(folder: Path, path: Path) -> UserError:
    owner = ''
    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
        found = json.loads(path.read_text(encoding='utf-8'))
        owner = f' (process {found["process"]} on {found["host"]}, since {found["since"]})'
    return UserError(
        f'another run is writing into {folder}{owner}. Wait for it, or name another folder with '
        '--output.'
    )
