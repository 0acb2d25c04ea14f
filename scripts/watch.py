"""Draw a training run in the terminal: progress, expected end, loss and Dice.

    python scripts/watch.py                       # the run in checkpoints/, until it has ended
    python scripts/watch.py checkpoints/quickstart --once

Reads metrics.csv and args.json of the run's folder, on this machine or in a folder of another one.
A row is there after each validation. Ctrl-C ends the display, not the run.
"""

import argparse
import json
import math
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.runtime.console import forgiving_console
from utils.runtime.errors import EXIT_INTERRUPTED, UserError, first_few
from utils.training.tracking.table import number, read_rows

WIDTH, BESIDE = 80, 38  # columns of the display, and those of names and numbers beside a curve
SECONDS = 2.0  # between two looks at the files
SILENT = 3  # intervals between rows without a new one, after which the run has probably ended
BLOCKS, ASCII = '▁▂▃▄▅▆▇█', '_.-:=+*#'  # from the lowest value to the highest
CURVES = {
    'loss': ('loss', '.4f'),
    'Dice': ('dice_dataset', '.4f'),
    'learning rate': ('learning_rate', '.2g'),
    'images a second': ('images_per_second', '.3g'),
    'peak memory MiB': ('peak_memory_mib', '.0f'),
}


@dataclass
class Run:
    """What the files of a run's folder say.

    written: when the latest row was, in Unix time; touched: when any file of the run was.
    """

    folder: Path
    settings: dict
    rows: list[dict[str, str]]
    written: float
    touched: float

    def whole(self, name: str) -> int:
        """Return a setting that is a whole number; 0 where it is missing, as in an older run."""
        value = self.settings.get(name)
        return value if isinstance(value, int) else 0

    @property
    def step(self) -> int:
        """The step of the latest row."""
        return int(finite(self.rows[-1], 'step') or 0) if self.rows else 0

    def started(self) -> float | None:
        """Return when the process that trains, or resumed, was started, in Unix time."""
        with suppress(KeyError, TypeError, ValueError):
            return datetime.fromisoformat(self.settings['started']).timestamp()
        return None

    def ended(self) -> str:
        """Return how the run has ended, '' as far as is known."""
        total, patience = self.whole('total_steps'), self.whole('early_stop')
        if total and self.step >= total:
            return f'finished at {clock(self.written)}'
        scores = [finite(row, 'dice_dataset') or 0 for row in self.rows]
        if patience and any(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience:
            return f'stopped early: Dice has not risen in {patience} validations'
        return ''

    def forecast(self, now: float) -> str:
        """Return how the run has ended, or when it will."""
        started, done = self.started(), self.step - self.whole('first_step')
        if self.ended() or started is None:
            return self.ended()
        if done <= 0 or self.written <= started:
            return self._before_rows(now, started)
        rows = sum((finite(row, 'step') or 0) > self.whole('first_step') for row in self.rows)
        silent, pace = now - self.written, (self.written - started) / done
        if silent > max(60, SILENT * (self.written - started) / rows):
            return f'no row for {duration(silent)}: the run has probably stopped'
        if not self.whole('total_steps'):
            auto = self.settings.get('epochs') == 'auto'
            return 'ends when validation Dice has stalled' if auto else ''
        left = self.written + pace * (self.whole('total_steps') - self.step) - now
        left = min(left, 1e9)  # 31 years: datetime ends in 9999
        return f'ends at about {clock(now + left)}, in {duration(left)}'

    def _before_rows(self, now: float, started: float) -> str:
        """Return what is known of a run that has not validated since its start, or resumption."""
        silent, pause = now - self.touched, self.settings.get('save_minutes')
        if silent > SILENT * 60 * (pause if isinstance(pause, int | float) else 10):  # of last.pth
            return f'no file written for {duration(silent)}: the run has probably stopped'
        since = f'started {duration(now - started)} ago'
        return f'the expected end is known after the next validation, {since}'


def read_run(folder: Path) -> Run:
    """Read the files of a run. Raises UserError for a folder without them."""
    table, settings = folder / 'metrics.csv', {}
    with suppress(OSError, ValueError, RecursionError):  # a run is told by either file
        settings = json.loads((folder / 'args.json').read_text(encoding='utf-8'))
    if not isinstance(settings, dict):
        settings = {}
    if table.is_file() or settings:
        rows = read_rows(table) if table.is_file() else []
        written = table.stat().st_mtime if table.is_file() else 0.0
        return Run(folder, settings, rows, written, touched(folder))
    found = sorted(path.parent for path in Path('checkpoints').rglob('metrics.csv'))
    raise UserError(
        f'{folder} has no run: expected metrics.csv and args.json, which train.py writes into its '
        f'--output. Runs in checkpoints: {first_few(found) or "none"}.'
    )


def touched(folder: Path) -> float:
    """Return when a file of a folder was written last, in Unix time."""
    times = [folder.stat().st_mtime]
    for path in folder.iterdir():
        with suppress(OSError):  # a temporary file that has gone
            times.append(path.stat().st_mtime)
    return max(times)


def finite(row: dict[str, str], column: str) -> float | None:
    """Return a cell's number, None if it holds none or one that is not finite."""
    value = number(row, column)
    return value if value is not None and math.isfinite(value) else None


def clock(moment: float) -> str:
    """Return a Unix time as the local time of day, with the date if that is not today's."""
    local = datetime.fromtimestamp(moment)
    return f'{local:%H:%M}' if local.date() == datetime.now().date() else f'{local:%Y-%m-%d %H:%M}'


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that fit, as '3 h 12 min'."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f'{seconds} s'
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, 'd'), (hours, 'h'), (minutes, 'min')]
    return ' '.join([f'{count} {unit}' for count, unit in parts if count][:2])


def sparkline(values: list[float | None], width: int, levels: str) -> str:
    """Return a character for each value, or for the mean of several where they exceed the width.

    None and values that are not finite leave a gap.
    """
    count = min(len(values), width)
    means: list[float | None] = []
    for k in range(count):
        part = values[k * len(values) // count : (k + 1) * len(values) // count]
        known = [value for value in part if value is not None and math.isfinite(value)]
        means.append(sum(known) / len(known) if known else None)
    heights = [mean for mean in means if mean is not None]
    low, span = min(heights, default=0), max(heights, default=0) - min(heights, default=0)
    top = len(levels) - 1
    shares = [None if mean is None else (mean - low) / span if span else 0.5 for mean in means]
    return ''.join(' ' if share is None else levels[round(top * share)] for share in shares)


def draw(run: Run, now: float, width: int = WIDTH, unicode: bool = True) -> list[str]:
    """Return the lines of the display, of at most `width` columns."""
    epochs, total = run.whole('epochs'), run.whole('total_steps')
    epoch = run.rows[-1].get('epoch', '?') if run.rows else '1'
    place = f'epoch {epoch}' + (f' of {epochs}' if epochs else '')
    steps = f', step {run.step}' + (f' of {total}' if total else '')
    recipe = f', recipe {run.settings["recipe"]}' if 'recipe' in run.settings else ''
    lines = [f'{place}{steps}{recipe}, in {run.folder}']
    if total:
        share, length = min(1, run.step / total), max(0, width - BESIDE)
        full, empty = '█░' if unicode else '#.'
        lines.append(f'{full * round(length * share):{empty}<{length}} {share:4.0%}')
    told = run.forecast(now)
    lines += [told, ''] if run.rows else ['no validation so far', *filter(None, [told])]
    for name, (column, form) in CURVES.items():
        values = [number(row, column) for row in run.rows]
        known = [value for value in values if value is not None]
        if known:
            curve = sparkline(values, max(0, width - BESIDE), BLOCKS if unicode else ASCII)
            lines.append(f'{name:<16}{known[0]:>10{form}} {curve} {known[-1]:{form}}')
    best = max(run.rows, key=lambda row: finite(row, 'dice_dataset') or 0, default={})
    if score := finite(best, 'dice_dataset'):
        where = f'epoch {best.get("epoch")}, step {best.get("step")}'
        lines += ['', f'best Dice {score:.4f} at {where}']
    return [line[:width] for line in lines]


def watch(folder: Path, once: bool) -> None:
    """Print the display; in a terminal draw it anew until the run has ended."""
    try:
        (BLOCKS + '░').encode(sys.stdout.encoding or 'ascii')
        unicode = True
    except UnicodeEncodeError:
        unicode = False
    width = min(WIDTH, shutil.get_terminal_size().columns)
    run, height = read_run(folder), 0
    while True:
        lines = draw(run, time.time(), width, unicode)
        lines += [''] * (height - len(lines))
        if height:
            print(f'\x1b[{height}A', end='')  # up, over the lines of before
        print('\n'.join(f'{line}\x1b[K' if height else line for line in lines), flush=True)
        height = len(lines)
        if once or run.ended():
            return
        time.sleep(SECONDS)
        with suppress(UserError, OSError):  # a new run is about to begin in the folder
            run = read_run(folder)


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description='Draw a training run in the terminal')
    add = parser.add_argument
    add('folder', type=Path, nargs='?', default='checkpoints', metavar='DIR',
        help="the run's folder, --output of train.py (default: checkpoints)")  # fmt: skip
    add('--once', action='store_true',
        help='draw once, as it does where the output is no terminal')  # fmt: skip
    args = parser.parse_args(argv)
    with forgiving_console():
        try:
            watch(args.folder, args.once or not sys.stdout.isatty())
        except (UserError, OSError) as error:
            print(f'error: {error}', file=sys.stderr)
            return UserError.exit_code
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
    return 0


if __name__ == '__main__':
    sys.exit(main())
