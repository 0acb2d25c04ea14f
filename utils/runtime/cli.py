"""Command-line options that the programs share; nothing heavy is imported, so -h is quick.

A user's mistake is one clear message and exit code 2; --debug shows the traceback.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import EXIT_INTERRUPTED, UserError, explain


def number_in(
    kind: type, low: float, high: float = float('inf'), above: bool = False
) -> Callable[[str], float]:
    """An argparse type: an int or float from `low` (or, with `above`, over it) to `high`."""

    def parse(text: str) -> float:
        """The number of an argument; argparse prints the error's text."""
        bound = f'{"over" if above else "from"} {low:g}' + (f' to {high:g}' if high < 1e18 else '')
        expected = f'expected {"a whole number" if kind is int else "a number"} {bound}'
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text!r}: {expected}') from None
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f'{text}: {expected}')
        return value

    return parse


def value_list(text: str) -> list[int | list[int]]:
    """An argparse type: mask values '0,128' or colours '0:0:0,255:0:0', as ints or [R, G, B]."""
    values: list = []
    for part in text.split(','):
        bands = part.split(':')
        try:
            numbers = [int(band) for band in bands]
        except ValueError:
            numbers = []
        colour = len(numbers) == 3 and all(0 <= number <= 255 for number in numbers)
        if len(numbers) != 1 and not colour:
            raise argparse.ArgumentTypeError(
                f'{part!r}: expected whole numbers as 0,128,255 or colours as 0:0:0,255:0:0'
            )
        values.append(numbers if colour else numbers[0])
    return values


def fold_of(text: str) -> str:
    """An argparse type: 'K/N', the K-th of N parts."""
    number, slash, count = text.partition('/')
    whole = slash and number.isdecimal() and count.isdecimal()
    if not whole or not 1 <= int(number) <= int(count) or int(count) < 2:
        raise argparse.ArgumentTypeError(
            f'{text!r}: expected K/N, the K-th of N parts, from 1/N to N/N, with N of 2 or more'
        )
    return f'{int(number)}/{int(count)}'


def regular_expression(text: str) -> str:
    """An argparse type: a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no regular expression: {error}') from None
    return text


def channel_count(text: str) -> int | str:
    """An argparse type: 'auto', or a whole number from 1."""
    return text if text == 'auto' else number_in(int, 1)(text)


# fmt: off
def add_data_options(group: argparse._ArgumentGroup) -> None:
    """--images, --masks, --mask-suffix and --resize-masks."""
    add = group.add_argument
    add('--images', type=Path, default='data/imgs', metavar='DIR',
        help='folder of the images (default: %(default)s)')
    add('--masks', type=Path, default='data/masks', metavar='DIR',
        help='folder of their masks (default: %(default)s)')
    add('--mask-suffix', metavar='S',
        help="what a mask's name has after its image's, _mask for Carvana (default: found "
        'from the names)')
    add('--resize-masks', action='store_true',
        help='stretch masks of another size than their image (default: they are a mistake)')

def add_device_options(group: argparse._ArgumentGroup, workers: bool = True) -> None:
    """--amp, --device and, unless there is nothing for them to do, --workers."""
    add = group.add_argument
    add('--amp', action='store_true', help='mixed precision, where the device has it')
    add('--device', choices=['auto', 'cpu', 'cuda', 'mps'], default='auto',
        help='where the network runs (default: the best there is)')
    if workers:
        add('--workers', type=number_in(int, 0), metavar='N',
            help='processes that load images (default: 0 beside a CPU that computes, else up to '
            '8)')

# fmt: on


def add_debug_option(parser: argparse.ArgumentParser) -> None:
    """--debug, which utils.errors.run_program reads."""
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')


def run_program(work: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run `work(args)` in the process group of torchrun, if there is one; return the exit code.

    That is the one `work` returns (None is 0), or a UserError's, 2.
    """
    from .distributed import process_group  # late: it imports torch

    try:
        with process_group():
            return work(args) or 0
    except KeyboardInterrupt:
        if args.debug:
            raise
        print('interrupted: files written so far are whole', file=sys.stderr)
        return EXIT_INTERRUPTED
    except (UserError, OSError, RuntimeError) as error:
        message = explain(error)
        if args.debug or message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        return getattr(error, 'exit_code', UserError.exit_code)
