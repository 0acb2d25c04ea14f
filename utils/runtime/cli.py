"""Command-line options shared by the programs, and run_program, which reports errors.

Imports no torch, so that -h and wrong options answer at once.
"""

import argparse
import importlib
import math
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from .console import forgiving_console
from .errors import EXIT_INTERRUPTED, UserError, explain


class ProgramParser(argparse.ArgumentParser):
    """A parser in which the prefixes of the original's options stay unambiguous.

    original: its options, such as '--epochs'. A prefix that fits one of them and others of ours
    (--e: --epochs, --early-stop) means that one, as in scripts written for the original. A prefix
    of several of them, or of ours alone, is argparse's affair.
    """

    def __init__(self, description: str, original: str = '') -> None:
        super().__init__(description=description)
        self.original = {'--help', *original.split()}
        self.words: list[str] = []  # of the command line

    # Private to argparse, but the same from 3.10 to 3.14, with the option's name as second item.
    # Hidden aliases instead would have to be kept out of -h and of error messages.
    def _get_option_tuples(self, option_string: str) -> list:
        found = super()._get_option_tuples(option_string)
        known = [match for match in found if match[1] in self.original]
        return known if len(known) == 1 else found

    def parse_known_args(  # type: ignore[override]  # typeshed has overloads
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, and keep the words for `error`."""
        self.words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self.words, namespace)

    def check_settings(self, settings: dict) -> None:
        """Raise UserError for values that the options do not take, of a file that has kept them."""
        for action in self._actions:
            value = settings.get(action.dest)
            if value is None or value == ():
                continue
            if action.nargs == 0 and not isinstance(value, bool):
                fault = f'{value!r}: expected True or False'
            else:
                fault = self._fault_of(action, value)
            if fault:
                raise UserError(
                    f'the settings of the run to resume are damaged: {action.option_strings[0]} is '
                    f'{fault}. Start a new run from its weights with --load.'
                )

    def _fault_of(self, action: argparse.Action, value: object) -> str:
        """Return why an option does not take a value, '' if it does."""
        if action.nargs == 0:
            return ''
        values = value if isinstance(value, list | tuple) else [value]
        bands = all(isinstance(item, int) for item in values) and action.dest == 'background'
        parts = [':'.join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in values]
        try:
            self._get_values(action, [(':' if bands else ',').join(parts)])
        except argparse.ArgumentError as error:
            return error.message
        return ''

    def error(self, message: str) -> NoReturn:
        """Exit with the message; for a value that begins with a minus sign, say how to write it."""
        found = re.fullmatch(r'argument (\S+): expected one argument', message)
        names, options = (found[1].split('/') if found else []), self._option_string_actions
        for name, value in zip(self.words, self.words[1:], strict=False):
            if name in names and value.startswith('-') and value not in options:
                message += f'; a value that begins with a minus sign is written {name}={value}'
                break
        super().error(message)


def number_in(
    kind: type, low: float, high: float = float('inf'), above: bool = False
) -> Callable[[str], float]:
    """Return an argparse type: int or float from `low` to `high`; with `above`, over `low`."""

    def parse(text: str) -> float:
        """Return the number; argparse prints the error's text."""
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
        try:
            numbers = [int(band) for band in part.split(':')]
        except ValueError:
            numbers = []
        colour = len(numbers) == 3 and all(0 <= number <= 255 for number in numbers)
        if len(numbers) != 1 and not colour:
            raise argparse.ArgumentTypeError(
                f'{part!r}: expected whole numbers as 0,128,255 or colours as 0:0:0,255:0:0'
            )
        values.append(numbers if colour else numbers[0])
    return values


def background_value(text: str) -> int | list[int] | str:
    """Argparse type of --background: 'none', or a mask value as in value_list."""
    if text == 'none':
        return text
    values = value_list(text)
    if len(values) > 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected one value, as 0 or 0:0:0, or none')
    return values[0]


def fold_of(text: str) -> str:
    """Argparse type of --fold: 'K/N', the K-th of N parts."""
    number, slash, count = text.partition('/')
    whole = slash and number.isdecimal() and count.isdecimal()
    if not whole or not 1 <= int(number) <= int(count) or int(count) < 2:
        raise argparse.ArgumentTypeError(
            f'{text!r}: expected K/N, the K-th of N parts, from 1/N to N/N, with N of 2 or more'
        )
    return f'{int(number)}/{int(count)}'


def regular_expression(text: str) -> str:
    """Argparse type: a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f'{text!r} is not a regular expression: {error}') from None
    return text


def value_range(text: str) -> list[float]:
    """Argparse type of --image-range: 'LOW,HIGH', two numbers, the second one greater."""
    try:
        low, high = map(float, text.split(','))
    except ValueError:
        low = high = 0.0
    if not (low < high and math.isfinite(high - low)):
        raise argparse.ArgumentTypeError(
            f'{text!r}: expected LOW,HIGH, two numbers, as 0,2047; for a negative one '
            '--image-range=-1,1'
        )
    return [low, high]


def pixel_size(text: str) -> tuple[float, float]:
    """Argparse type of --surface-distances: 'MM', or 'ROW,COLUMN', of over 0."""
    number = number_in(float, 0, above=True)
    sizes = [number(part) for part in text.split(',')]
    if len(sizes) > 2 or not all(map(math.isfinite, sizes)):
        raise argparse.ArgumentTypeError(
            f'{text!r}: expected the height of a pixel and its width in mm, as 0.7,0.5, or one '
            'number for both'
        )
    return sizes[0], sizes[-1]


def count_or_auto(text: str) -> int | str:
    """Argparse type: 'auto', or a whole number from 1."""
    return 'auto' if text.lower() == 'auto' else int(number_in(int, 1)(text))


# fmt: off
def add_data_options(group: argparse._ArgumentGroup) -> None:
    """Add --images, --masks, --list, --mask-suffix and --resize-masks."""
    add = group.add_argument
    add('--images', type=Path, default='data/imgs', metavar='DIR',
        help="folder of the images, a stack, or a quoted pattern, 'train/*/*_img.png': what the "
        'stars match is the id of an image (default: %(default)s)')
    add('--masks', type=Path, default='data/masks', metavar='DIR',
        help="folder of their masks, or a pattern: 'train/*/*_mask.png' (default: %(default)s)")
    add('--list', type=Path, metavar='FILE',
        help='text or CSV file with the names of the images to use, or of images and masks, one a '
        'line (default: all images)')
    add('--mask-suffix', metavar='S',
        help="suffix of a mask's name after that of its image, e.g. _mask for Carvana (default: "
        'found from the names)')
    add('--resize-masks', action='store_true',
        help='stretch masks whose size differs from their image (default: report an error)')

def add_device_options(group: argparse._ArgumentGroup, workers: bool = True) -> None:
    """Add --amp, --device and, if asked for, --workers."""
    add = group.add_argument
    add('--amp', action='store_true', help='mixed precision, if the device is faster with it')
    add('--device', choices=['auto', 'cpu', 'cuda', 'mps'], default='auto',
        help='device of the network (default: auto, the first of cuda, mps and cpu found)')
    if workers:
        add('--workers', type=number_in(int, 0), metavar='N',
            help='processes that load images (default: 0 on a CPU, up to 8 for a GPU)')
# fmt: on


def add_debug_option(parser: argparse.ArgumentParser) -> None:
    """Add --debug, which run_program reads."""
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the process at once, without an exception, where it would raise one.

    Not where it is ignored, as in a job that a shell has started in the background.
    """
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not raises or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run_program(
    work: Callable[[argparse.Namespace], int | None], args: argparse.Namespace, *modules: str
) -> int:
    """Run `work(args)` in the process group of torchrun, if any, and return the exit code.

    modules: those that `work` imports, which are imported first: Ctrl-C ends the program at once
        then, where an import might swallow KeyboardInterrupt.
    An error that `explain` knows is printed; others, and all with --debug, show their traceback.
    """
    with _plain_interrupts():
        from .distributed import process_group  # here, because it imports torch

        for name in modules:
            importlib.import_module(name)
    with forgiving_console():
        try:
            with process_group():
                return work(args) or 0
        except KeyboardInterrupt:
            if args.debug:
                raise
            print('interrupted; files written so far are complete', file=sys.stderr)
            return EXIT_INTERRUPTED
        except (UserError, OSError, RuntimeError, MemoryError) as error:
            message = explain(error)
            if args.debug or message is None:
                raise
            print(f'error: {message}', file=sys.stderr)
            return getattr(error, 'exit_code', UserError.exit_code)
