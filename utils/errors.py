"""A user's mistake is one clear message and exit code 2; --debug shows the traceback."""

import argparse
import sys
from collections.abc import Callable, Iterable

EXIT_INTERRUPTED = 130  # what shells report for Ctrl-C


class UserError(Exception):
    """Something the user can mend. The text says what was found, what was expected, what to do."""

    exit_code = 2


class DivergedError(UserError):
    """The loss is no number any more: the settings are wrong for this data or this machine."""

    exit_code = 3


def run_program(work: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run `work(args)` and return the exit code: its own (None is 0), or a UserError's, 2."""
    try:
        return work(args) or 0
    except UserError as error:
        if args.debug:
            raise
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if args.debug:
            raise
        print('interrupted: files written so far are whole', file=sys.stderr)
        return EXIT_INTERRUPTED


def first_few(names: Iterable[object], count: int = 3) -> str:
    """'a, b, c and 9 more', for messages about many files."""
    names = [str(name) for name in names]
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count]) + more
