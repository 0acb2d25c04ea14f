"""metrics.csv, the table of a run's figures: read while it is written, and cut for a resumed run.

Imports no torch, so that scripts/watch.py answers at once.
"""

import csv
import io
from pathlib import Path

from utils.runtime.errors import UserError
from utils.runtime.files import append_csv, whole_file


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of metrics.csv. What follows the last line break is being written.

    A row with too few or too many cells is left out. Raises UserError for a file that is no table.
    """
    try:
        with path.open(newline='', encoding='utf-8') as file:
            whole = file.read().rpartition('\n')[0]
        rows = list(csv.DictReader(io.StringIO(whole, newline='')))
    except (ValueError, csv.Error) as error:
        raise not_a_table(path, error) from error
    return [row for row in rows if None not in row and None not in row.values()]


def number(row: dict[str, str], column: str) -> float | None:
    """Return a cell's number, None if there is no such column or the cell holds none."""
    try:
        return float(row.get(column) or '')
    except ValueError:
        return None


def keep_rows_until(path: Path, step: int) -> None:
    """Remove the rows after `step`: a resumed run will log them again.

    Raises UserError for a file that is no table of metrics.
    """
    if not path.exists():
        return
    rows = read_rows(path)
    try:
        kept = [row for row in rows if int(row['step']) <= step]
    except (ValueError, LookupError) as error:
        raise not_a_table(path, error) from error
    with whole_file(path) as part:
        part.touch()
        append_csv(part, kept)


def not_a_table(path: Path, error: Exception) -> UserError:
    """Return the error for a file that is not what train.py wrote."""
    return UserError(
        f'{path} is not the table that train.py wrote: {type(error).__name__}: {error}. Move '
        'it away; a resumed run begins a new one.'
    )
