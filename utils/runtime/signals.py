"""Signals: a stopped training finishes its step and saves; dataloader workers end with it."""

import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any

# By signal, the exit code of a stopped training: 128 + the signal's number, as shells expect, but 0
# for SIGUSR1, which schedulers send before the time limit: --resume continues the run.
EXIT_CODES = {'SIGINT': 130, 'SIGTERM': 143, 'SIGUSR1': 0}
# Windows has no SIGUSR1.
NUMBERS = [getattr(signal, name) for name in EXIT_CODES if hasattr(signal, name)]


class StopRequest:
    """Context that catches signals. `received` is the signal's name, once `sync` was called.

    Before `catch_all` it catches SIGUSR1 only, so that a job that is still loading its data trains
    a step and saves; Ctrl-C and SIGTERM end it at once. In a thread, where Python allows no
    handlers, it catches none.
    With one process, a second signal takes effect at once. With several it does not, because
    torchrun repeats the signal (and sends SIGKILL after 30 seconds).
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._caught = 0
        self._restore = ExitStack()  # sets the former handlers

    def __enter__(self) -> 'StopRequest':
        self._handle([number for number in NUMBERS if number.name == 'SIGUSR1'])
        return self

    def catch_all(self) -> None:
        """Catch the other signals, too: training begins, which ends with a saved step."""
        self._handle([number for number in NUMBERS if number.name != 'SIGUSR1'])

    def _handle(self, numbers: list[signal.Signals]) -> None:
        main = threading.current_thread() is threading.main_thread()
        for number in numbers if main else ():
            handler = signal.signal(number, self._catch)
            self._restore.callback(signal.signal, number, handler)

    def __exit__(self, *error: object) -> None:
        self._restore.close()

    @property
    def exit_code(self) -> int:
        """The program's exit code; 0 if no signal was received."""
        return EXIT_CODES[self.received] if self.received else 0

    def sync(self, *flags: int, agree: Callable[..., list[int]] | None = None) -> list[int]:
        """Set `received` if any rank has caught a signal; return each flag's maximum over ranks.

        agree: returns the maxima of numbers, by default by a collective of its own.
        """
        from .distributed import all_reduce_max  # late, as SIGUSR1 is caught before torch is there

        caught, *highest = (agree or all_reduce_max)(self._caught, *flags)
        if caught:
            self.received = signal.Signals(caught).name
        return highest

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught = number
        if int(os.environ.get('WORLD_SIZE', '1')) == 1:  # of torchrun
            self._restore.close()


def prepare_worker(worker: int) -> None:
    """Worker_init_fn of a DataLoader: ignore signals; end with the parent, or if a batch is lost.

    Ctrl-C reaches every process, but only the parent handles it. torch's workers check every 5
    seconds whether their parent has changed. A worker whose parent was killed before the first
    check waits forever (1 of 25 runs that were killed as they began). This thread notices at once.
    """
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # W&B reports which packages are imported, and raises an error for one that a forked process
    # imports first (0.31.0: torchvision, in the first image whose colours change).
    hooks = sys.modules.get('wandb.sdk.lib.import_hooks')
    if hooks is not None:
        hooks.unregister_all_post_import_hooks()
    # A batch that finds no shared memory (Docker's 64 MB) is lost in the thread that sends it, and
    # the parent would wait for it for ever. It is told of a worker that ends.
    queue: Any = multiprocessing.queues.Queue
    queue._on_queue_feeder_error = staticmethod(_end)


def _end(error: Exception, batch: object) -> None:
    os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)  # only the main thread could end the process otherwise
