"""Output for people: any name, a reader that goes away, progress in terminals and in log files."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import length_hint
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:  # late, as -h needs none
    from tqdm import tqdm

# Characters by which a file's name could steer the terminal; progress bars move the cursor.
CONTROL = re.compile(r'[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]')
CURSOR = re.compile(r'(\x1b\[\d*[ABK]|\x1b\[0?m)')

FIRST_LINE, NEXT_LINES = 5.0, 30.0  # seconds until a line of progress in a log file
# In tqdm's terms; without a total there are no remaining seconds.
LINE = '{desc}: {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]'
LINE_WITHOUT_TOTAL = '{desc}: {n_fmt} {unit} [{elapsed}, {rate_fmt}{postfix}]'

Item = TypeVar('Item')


class Console:
    """A text stream for people: control characters are escaped, a broken pipe is forgotten."""

    def __init__(self, stream: TextIO):
        self.stream, self.broken = stream, False

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text, cursor movements unchanged and other control characters as \\x1b."""
        parts = CURSOR.split(text)
        parts[::2] = [CONTROL.sub(_escaped, part) for part in parts[::2]]
        self._attempt(lambda: self.stream.write(''.join(parts)))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._attempt(self.stream.flush)

    def _attempt(self, work: Callable[[], object]) -> None:
        if self.broken:
            return
        try:
            work()
        except BrokenPipeError:  # as of `| head -1`
            self.broken = True
            # What is left in the buffer goes nowhere, and Python's exit finds no error.
            with suppress(OSError, ValueError), open(os.devnull, 'w') as null:  # noqa: PTH123
                os.dup2(null.fileno(), self.stream.fileno())


def _escaped(match: re.Match) -> str:
    return f'\\x{ord(match[0]):02x}'


@contextmanager
def forgiving_console() -> Iterator[None]:
    """Make standard output and standard error Consoles that encode any character."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')
    sys.stdout, sys.stderr = Console(before[0]), Console(before[1])  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before


class ProgressLines:
    """Progress as lines of a log file: after 5 seconds, every 30 seconds, and the last state.

    Has what is used here of tqdm's interface. leave: print the last state of short work, too.
    """

    def __init__(
        self, title: str, total: int | None, unit: str, leave: bool, initial: int = 0
    ) -> None:
        self.title, self.unit, self.leave = title, unit, leave
        self.total: Any = total  # typeshed has no None for format_meter
        self.n = self.initial = initial
        self.postfix = ''
        self.printed: tuple[int, str] | None = None  # n and postfix of the latest line
        self.started = time.monotonic()
        self.due = self.started + FIRST_LINE

    def __enter__(self) -> 'ProgressLines':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Print the last state, unless that was done."""
        long = time.monotonic() - self.started >= FIRST_LINE
        if (self.leave or long) and self.printed != (self.n, self.postfix):
            self._print()

    def update(self, n: int = 1) -> None:
        """Count n more items, and print a line if one is due."""
        self.n += n
        if time.monotonic() >= self.due:
            self._print()

    def set_postfix_str(self, text: str) -> None:
        """Set what lines say after the rate."""
        self.postfix = text

    def _print(self) -> None:
        from tqdm import tqdm

        now = time.monotonic()
        self.due, self.printed = now + NEXT_LINES, (self.n, self.postfix)
        line = tqdm.format_meter(
            self.n, self.total, now - self.started, prefix=self.title, unit=self.unit,
            bar_format=LINE if self.total else LINE_WITHOUT_TOTAL, postfix=self.postfix,
            initial=self.initial,
        )  # fmt: skip
        sys.stdout.flush()  # both may go to one file
        print(line, file=sys.stderr, flush=True)


def progress_bar(
    title: str,
    total: int | None,
    unit: str = 'it',
    *,
    leave: bool = False,
    delay: float = 0,
    initial: int = 0,
    hidden: bool = False,
) -> 'tqdm | ProgressLines':
    """Return a progress display on standard error: a bar in a terminal, else lines.

    It is a context manager; `update` counts. leave: keep the bar at the end. delay: seconds until
    the bar is there. initial: items that were done before. hidden: show nothing.
    """
    if not (hidden or sys.stderr.isatty()):
        return ProgressLines(title, total, unit, leave, initial)
    from tqdm import tqdm

    return tqdm(
        desc=title, total=total, leave=leave, unit=unit, delay=delay, initial=initial,
        disable=hidden, dynamic_ncols=True,
    )  # fmt: skip


def progress(
    items: Iterable[Item], title: str, total: int | None = None, unit: str = 'it', delay: float = 0
) -> Iterator[Item]:
    """Yield the items, and display how many are done; see progress_bar."""
    with progress_bar(title, total or length_hint(items) or None, unit, delay=delay) as bar:
        for item in items:
            yield item
            bar.update()
