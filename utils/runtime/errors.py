"""Errors that users can correct. They end a program with one message and exit code 2."""

import re
from collections.abc import Iterable, Sequence
from errno import ENOMEM
from itertools import groupby
from typing import NamedTuple

EXIT_INTERRUPTED = 130  # what shells report after Ctrl-C


class UserError(Exception):
    """An error that the user can correct. Its text says what was found, expected, and what to do.

    kind: category of an error in the data, by which reports group them.
    """

    exit_code = 2

    def __init__(self, text: str, kind: str = 'unusable'):
        super().__init__(text)
        self.kind = kind


# Scripts written for milesial/Pytorch-UNet ("the original") catch what it raises, for instance to
# try another data set. These are errors of its types, too.


class MissingFolderError(UserError, FileNotFoundError):
    """A folder that does not exist."""


class EmptyFolderError(UserError, RuntimeError):
    """A folder without pictures."""


class MissingMaskError(UserError, IndexError):
    """An image without a mask."""


class PairError(UserError, AssertionError):
    """An image or mask in several files, or an image and a mask of different sizes."""


class ScaleError(UserError, AssertionError):
    """A scale outside (0, 1], or one at which no pixel of an image is left."""


class ClassIndexError(UserError, AssertionError):
    """A class index that a network does not have."""


class MaskKindError(UserError, ValueError):
    """A mask that is no picture of grey values or colours, or of another kind than the others."""


class Problem(NamedTuple):
    """An error in the data. `pairs` are the ids of the pairs to leave out to be rid of it."""

    kind: str
    text: str
    pairs: tuple[str, ...] = ()


def by_kind(problems: Iterable[Problem], shown: int = 3) -> list[str]:
    """Return lines that list the problems by kind, at most `shown` texts of each kind."""
    lines = []
    for kind, group in groupby(sorted(problems), lambda problem: problem.kind):
        texts = [problem.text for problem in group]
        lines.append(f'{len(texts)} {kind}:')
        lines += [f'  {text}' for text in texts[:shown]]
        lines += [f'  and {len(texts) - shown} more'] if len(texts) > shown else []
    return lines


def data_error(problems: list[Problem], proposals: Sequence[str] = ()) -> UserError:
    """Return one UserError that lists all problems, and options by which the files would pair."""
    heading = f'{len(problems)} problem{"s" * (len(problems) != 1)} with the data:'
    return UserError('\n'.join([heading, *by_kind(problems), *proposed(proposals)]))


def proposed(ways: Sequence[str]) -> list[str]:
    """Return the lines that propose options, or a command that makes masks; none without."""
    commands = [way for way in ways if not way.startswith('--')]
    options = [way for way in ways if way.startswith('--')]
    lines = ['These options pair the files:', *(f'  {text}' for text in options)] if options else []
    if commands:
        lines += ['There are annotations that are no masks. This makes masks of them:']
    return [*lines, *(f'  {text}' for text in commands)]


class DivergedError(UserError):
    """The loss or the weights are not finite: the settings do not suit the data or the device."""

    exit_code = 3


def explain(error: BaseException) -> str | None:
    """Return the message for the user, None for a bug, whose traceback should be shown."""
    text = str(error)
    if isinstance(error, UserError):
        # The error of a dataloader worker arrives as a traceback that ends with the message.
        name = f'{type(error).__name__}: '
        return text.rpartition(name)[2].strip() if text.startswith('Caught ') else text
    if is_memory_failure(error):
        reason = next(filter(MEMORY_FAILURES.search, text.splitlines()), 'no main memory is left')
        return (
            f'out of memory: {reason.strip().rstrip("."):.300}. Use a smaller --scale or '
            '--batch-size, or --amp, or --device cpu if the GPU is too small.'
        )
    if isinstance(error, BlockingIOError) or "can't start new thread" in text:
        return (
            f'the system allows no more threads or processes ({text.splitlines()[0]:.200}). Use '
            '--workers 0, end other programs, or raise the limit: ulimit -u, or --pids-limit of a '
            'container.'
        )
    if isinstance(error, OSError):
        reason = error.strerror or text
        return f'{error.filename or "file"}: {reason}; files written so far are complete'
    if 'does not have a deterministic implementation' in text:
        return f'{text.splitlines()[0]:.200} Leave --deterministic out.'
    if 'no kernel image is available' in text:
        return (
            'this build of torch has no code for this GPU (no kernel image is available). Install '
            'a build for it, see https://pytorch.org/get-started, or use --device cpu.'
        )
    if 'shared memory segment /dev/shm/nccl' in text:
        return (
            'NCCL, which connects the GPUs, found no shared memory. Give the container more with '
            '--shm-size=8g, or set NCCL_SHM_DISABLE=1.'
        )
    if text.startswith('DataLoader worker'):
        return (
            f'a process that loads images has died ({text.splitlines()[0].strip():.200}), most '
            'likely because it ran out of memory, or of shared memory in a container. Use fewer '
            '--workers, or --workers 0; give a container more with --shm-size=8g. Files written '
            'so far are complete; --resume continues the training.'
        )
    return None


# Errors of torch that have no type of their own: main memory; CUDA's libraries, such as cuBLAS,
# cuDNN and NCCL, which allocate memory of the GPU themselves. That a library is not initialized is
# what it says on a full card at its first call.
MEMORY_FAILURES = re.compile(
    r"out of memory|no main memory|(can't|Cannot|Unable to|Failed to) allocate"
    r'|\bCU\w+_ALLOC\w*_FAILED|\bCU\w+_STATUS_NOT_INITIALIZED|Failed to CUDA (host )?(c|m)alloc'
)


def is_memory_failure(error: BaseException) -> bool:
    """Return whether an error says that main memory, or the GPU's, is used up."""
    no_memory = isinstance(error, MemoryError) or getattr(error, 'errno', None) == ENOMEM
    text = str(error)
    return no_memory or (not text.startswith('DataLoader') and bool(MEMORY_FAILURES.search(text)))


def shown(name: object) -> str:
    """Return a name for a message, on one line: line breaks and tabs are escaped."""
    return str(name).replace('\n', '\\n').replace('\r', '\\r').replace('\t', '\\t')


def first_few(names: Iterable[object], count: int = 3) -> str:
    """Return 'a, b, c and 9 more', for messages about many files."""
    texts = [shown(name) for name in names]
    more = f' and {len(texts) - count} more' if len(texts) > count else ''
    return ', '.join(texts[:count]) + more
