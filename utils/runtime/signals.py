"""Asking a training to stop: it ends the step it is in, saves, and goes."""

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType

from .distributed import all_reduce_max, world_size

# What a stopped training returns: shells expect 128 + the signal; a scheduler that warns with
# SIGUSR1 before its time limit should see success, since the run goes on with --resume.
EXIT_CODES = {'SIGINT': 130, 'SIGTERM': 143, 'SIGUSR1': 0}


class StopRequest:
    """While entered, signals are noted, and `agree` tells in `received` which has come.

    A second one acts at once, unless there are other processes: torchrun sends the same signal
    again, and after 30 seconds SIGKILL.
    """

    def __init__(self):
        self.received: str | None = None
        self._noted = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> 'StopRequest':
        for name in EXIT_CODES:
            if hasattr(signal, name):  # Windows has no SIGUSR1
                number = getattr(signal, name)
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def exit_code(self) -> int:
        """Of the program, after a signal was received."""
        return EXIT_CODES[self.received]

    def agree(self, *flags: int) -> list[int]:
        """Receive what any process has noted; returns the highest of each of `flags` in any."""
        noted, *flags = all_reduce_max(self._noted, *flags)
        if noted:
            self.received = signal.Signals(noted).name
        return flags

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number
        if world_size() == 1:
            self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


def prepare_worker(worker: int) -> None:
    """worker_init_fn of a DataLoader: a worker ends with its training, whatever ended that.

    Ctrl-C reaches every process, but only the first decides. torch's workers ask every 5 seconds
    whether their parent has changed, and one whose parent was killed before it first asked waits
    for ever (one of 25 runs killed as they began); the thread here is told at once.
    """
    del worker
    for name in EXIT_CODES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # no thread but the first can end a process otherwise
