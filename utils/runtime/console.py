"""Output for the terminal: it holds any name, and stops no work when its reader goes away."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

# Characters by which a file's name could steer the terminal; progress bars move the cursor.
CONTROL = re.compile(r'[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]')
CURSOR = re.compile(r'(\x1b\[\d*[ABK]|\x1b\[0?m)')


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
