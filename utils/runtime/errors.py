"""A user's mistake is one clear message and exit code 2; --debug shows the traceback."""

from collections.abc import Iterable
from typing import NamedTuple

EXIT_INTERRUPTED = 130  # what shells report for Ctrl-C


class UserError(Exception):
    """Something the user can mend. The text says what was found, what was expected, what to do.

    kind: of a mistake in the data, to report those of a kind together.
    """

    exit_code = 2

    def __init__(self, text: str, kind: str = 'of no use'):
        super().__init__(text)
        self.kind = kind


class Problem(NamedTuple):
    """One thing that is wrong with the data; `pairs` are the ids to leave out to be rid of it."""

    kind: str
    text: str
    pairs: tuple[str, ...] = ()


def by_kind(problems: Iterable[Problem], shown: int = 3) -> list[str]:
    """Lines that list problems, those of a kind together, of each kind the first few in full."""
    kinds: dict[str, list[str]] = {}
    for problem in sorted(problems):
        kinds.setdefault(problem.kind, []).append(problem.text)
    lines = []
    for kind, texts in kinds.items():
        lines.append(f'{len(texts)} {kind}:')
        lines += [f'  {text}' for text in texts[:shown]]
        lines += [f'  and {len(texts) - shown} more'] if len(texts) > shown else []
    return lines


def data_error(problems: list[Problem]) -> UserError:
    """The error of data with problems."""
    count = '1 problem' if len(problems) == 1 else f'{len(problems)} problems'
    return UserError('\n'.join([f'{count} with the data:', *by_kind(problems)]))


class DivergedError(UserError):
    """The loss is no number any more: the settings are wrong for this data or this machine."""

    exit_code = 3


def explain(error: Exception) -> str | None:
    """What to tell the user of an error; None for one that is ours and wants its traceback."""
    text = str(error)
    if isinstance(error, UserError):
        # A data worker's error arrives as its traceback, the message last.
        return text.rpartition('UserError: ')[2].strip() if text.startswith('Caught ') else text
    if isinstance(error, OSError):
        return f'{error.filename or "file"}: {error.strerror or text}; files written are whole'
    if 'does not have a deterministic implementation' in text:
        return f'{text.splitlines()[0]:.200} Leave --deterministic out.'
    if text.startswith('DataLoader worker'):
        return (
            f'a process that loads images has died ({text.splitlines()[0].strip():.200}), for '
            'lack of memory most often, in a container of shared memory. Try fewer --workers, or '
            '--workers 0; files written are whole, and training goes on with --resume.'
        )
    if 'out of memory' in text or "can't allocate memory" in text:
        return (
            f'out of memory: {text.splitlines()[0]} Try a smaller --scale or --batch-size, or '
            '--amp; --device cpu where the GPU is too small.'
        )
    return None


def first_few(names: Iterable[object], count: int = 3) -> str:
    """'a, b, c and 9 more', for messages about many files."""
    names = [str(name) for name in names]
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count]) + more
