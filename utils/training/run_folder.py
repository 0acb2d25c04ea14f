"""The output folder of a training run: opened, an earlier run set aside, kept small."""

import argparse
import json
import secrets
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import torch

from utils.runtime.distributed import is_main_process
from utils.runtime.errors import Problem, UserError
from utils.runtime.files import whole_file
from utils.runtime.locks import FolderLock, check_unlocked

from .tracking.tracker import SilentTracker, Tracker


def open_output(
    args: argparse.Namespace, state: dict | None, left_out: list[Problem], total_steps: int | None
) -> Tracker:
    """Open the run's folder; set an earlier run aside unless resumed; return the tracker.

    state: of the run to resume, None for a new run. total_steps: of the run, for
    scripts/watch.py; None where --epochs auto has not told it yet.
    """
    if not is_main_process():
        return SilentTracker()
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f'--output {args.output} is a file; expected a folder. Name another.')
    args.output.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(args.output)
    aside = None if state else set_aside_earlier_run(args.output)
    if aside:
        print(f'note: the files of an earlier run are now in {aside}')
    if left_out:
        with whole_file(args.output / 'left_out.txt') as part:
            text = '\n'.join(p.text for p in left_out) + '\n'
            part.write_text(text, encoding='utf-8', errors='surrogateescape')
    run = (state or {}).get('run') or secrets.token_hex(8)
    settings = vars(args) | {'command': sys.argv, 'torch': torch.__version__, 'commit': _commit()}
    step, run_id = (state['step'], state['wandb']) if state else (0, None)
    settings |= {'run': run, 'total_steps': total_steps, 'first_step': step}
    settings['started'] = datetime.now().astimezone().isoformat(timespec='seconds')
    tracker = Tracker(args.output, settings, args.wandb, step, run_id, bool(args.tensorboard))
    tracker.uid, tracker.lock = run, lock
    return tracker


def check_output(output: Path, state: dict | None) -> None:
    """Raise UserError if another run uses the folder, or if its files are of another run.

    state: of the run to resume, None for a new run.
    """
    check_unlocked(output)
    if state is None or 'run' not in state:  # runs of earlier versions had no id
        return
    with suppress(OSError, ValueError, RecursionError):
        settings = json.loads((output / 'args.json').read_text(encoding='utf-8'))
        found = settings.get('run') if isinstance(settings, dict) else None
        if found not in (None, state['run']):
            raise UserError(
                f'{output / "last.pth"} is of another run than the other files in {output}, which '
                'would be mixed. Move last.pth into a folder of its own, and resume it there.'
            )


def _commit() -> str | None:
    """Return the git commit of this checkout, None where git or the repository is missing."""
    try:
        return subprocess.run(
            ['git', 'rev-parse', 'HEAD'],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None


def set_aside_earlier_run(output: Path) -> Path | None:
    """Move an earlier run's files from `output` to output/earlier-DATE; return that, if any."""
    names = 'best.pth last.pth args.json metrics.csv curves.png samples.png left_out.txt'.split()
    files = [output / name for name in [*names, 'wandb', 'tensorboard'] if (output / name).exists()]
    files += sorted(output.glob('checkpoint_epoch*.pth'))
    if not files:
        return None
    folder = output / f'earlier-{datetime.now():%Y%m%d-%H%M%S-%f}'
    folder.mkdir()
    for file in files:
        file.rename(folder / file.name)
    return folder


def keep_newest(output: Path, epoch: int, count: int) -> None:
    """Remove checkpoint_epoch{N}.pth except those of the `count` epochs up to `epoch`."""
    for path in output.glob('checkpoint_epoch*.pth'):
        number = path.stem.removeprefix('checkpoint_epoch')
        if number.isdigit() and int(number) <= epoch - count:
            path.unlink()
