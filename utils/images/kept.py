"""What was read from files last, kept for the next page of the same file."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

KEPT_BYTES = 2**30  # of each kind, in each process
ALWAYS_KEPT = 2  # the files of an image and of its mask, whatever their size

T = TypeVar('T')
State = tuple[str, int, int]  # of a file: path, size, time of modification


class Kept(Generic[T]):
    """Values of files, the last ones used: ALWAYS_KEPT, and more up to `limit`.

    Threads that want one file wait for the first of them to read it. A file that has changed is
    read again. size: bytes that a value takes.
    """

    def __init__(self, size: Callable[[T], int], limit: int = KEPT_BYTES):
        self._size, self._limit, self._total = size, limit, 0
        self._values: OrderedDict[State, T] = OrderedDict()
        self._unlock()
        if hasattr(os, 'register_at_fork'):  # another thread may hold a lock as a process forks
            os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        self._lock = threading.Lock()
        self._reading: dict[State, threading.Lock] = {}

    def get(self, path: Path, read: Callable[[Path], T]) -> T:
        """Return read(path), or what it returned for the same file before."""
        stat = path.stat()
        state = str(path), stat.st_size, stat.st_mtime_ns
        with self._lock:
            if state in self._values:
                self._values.move_to_end(state)
                return self._values[state]
            reading = self._reading.setdefault(state, threading.Lock())
        with reading:
            with self._lock:
                if state in self._values:
                    return self._values[state]
            value = read(path)
            with self._lock:
                self._values[state] = value
                self._total += self._size(value)
                self._reading.pop(state, None)
                while len(self._values) > ALWAYS_KEPT and self._total > self._limit:
                    self._total -= self._size(self._values.popitem(last=False)[1])
        return value
