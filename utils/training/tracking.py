"""What a run leaves to read: metrics.csv and args.json always, W&B when asked.

Nothing leaves the machine unless the user is logged in to W&B, and no logger stops a training.
"""

import contextlib
import csv
import json
import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from utils.runtime.files import append_csv, whole_file

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn


class Tracker:
    """Writes a run's figures.

    output: the run's folder. args: the run's settings, written to args.json. mode: 'auto',
    'online', 'offline' or 'disabled', W&B's. resumed_step: the step from which to go on with
    metrics.csv and, by `run_id`, with the W&B run; None begins anew.
    """

    def __init__(
        self,
        output: Path,
        args: dict,
        mode: str = 'auto',
        resumed_step: int | None = None,
        run_id: str | None = None,
    ):
        self.csv_path = output / 'metrics.csv'
        _keep_rows_until(self.csv_path, resumed_step or 0)
        with whole_file(output / 'args.json') as part:
            part.write_text(json.dumps(args, indent=1, default=str) + '\n', encoding='utf-8')
        self.run = None
        mode = wandb_mode(mode)
        if mode != 'disabled':
            self._guarded(lambda: self._start_wandb(output, args, mode, run_id))

    @property
    def run_id(self) -> str | None:
        """What a resumed run needs to go on with the same W&B run."""
        return self.run.id if self.run else None

    def log_step(self, step: int, figures: dict) -> None:
        """Figures of one training step, to W&B only."""
        if self.run:
            self._guarded(lambda: self.run.log(figures, step=step))

    def log_validation(
        self,
        row: dict,
        sheet: 'Image.Image | None' = None,
        histograms_of: 'nn.Module | None' = None,
    ) -> None:
        """A row of metrics.csv, and the same to W&B with a sample sheet and weight histograms."""
        append_csv(self.csv_path, [row])
        if self.run:
            self._guarded(lambda: self._log_wandb(row, sheet, histograms_of))

    def close(self) -> None:
        """End the W&B run."""
        if self.run:
            self._guarded(self.run.finish)

    def _start_wandb(self, output: Path, args: dict, mode: str, run_id: str | None) -> None:
        import wandb  # here: 0.9 s that only its users should pay

        self.run = wandb.init(
            project='U-Net', dir=str(output), config=args, mode=mode, id=run_id, resume='allow'
        )

    def _log_wandb(self, row: dict, sheet: 'Image.Image', model: 'nn.Module | None') -> None:
        import wandb

        figures = {key: value for key, value in row.items() if value is not None}
        if sheet is not None:
            figures['samples'] = wandb.Image(sheet, caption='image, truth, prediction')
        for name, parameter in model.named_parameters() if model else ():
            figures[f'weights/{name}'] = wandb.Histogram(parameter.detach().float().cpu())
            if parameter.grad is not None:
                figures[f'gradients/{name}'] = wandb.Histogram(parameter.grad.float().cpu())
        self.run.log(figures, step=row['step'])

    def _guarded(self, call: Callable[[], object]) -> None:
        """Run a W&B call; the first failure is said once, and W&B is left alone from then on."""
        try:
            call()
        # Anything may come out of a logger, a network or a full disk: none of it is worth a run.
        except Exception as error:  # noqa: BLE001
            self.run = None
            print(f'warning: W&B failed and is off from here ({type(error).__name__}: {error})')


class SilentTracker(Tracker):
    """Writes nothing: for all processes but the main one."""

    def __init__(self):
        self.run = None

    def log_validation(self, *_: object) -> None:
        """Nothing."""


def wandb_mode(mode: str) -> str:
    """What 'auto' means here: online (or WANDB_MODE) with an API key set, else disabled."""
    if mode != 'auto':
        return mode
    return os.environ.get('WANDB_MODE', 'online') if _has_api_key() else 'disabled'


def _has_api_key() -> bool:
    """Whether `wandb login` has been run, found out without importing wandb (0.9 s)."""
    if os.environ.get('WANDB_API_KEY'):
        return True
    host = urlparse(os.environ.get('WANDB_BASE_URL', 'https://api.wandb.ai')).hostname
    named = os.environ.get('NETRC')
    files = [Path(named)] if named else [Path.home() / '.netrc', Path.home() / '_netrc']
    for file in files:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(file).authenticators(host):
                return True
    return False


def _keep_rows_until(path: Path, step: int) -> None:
    """Remove what a run logged between its last checkpoint and its end: it will come again."""
    if not path.exists():
        return
    with path.open(newline='', encoding='utf-8') as file:
        # A row that a kill has torn lacks its last cells.
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    with whole_file(path) as part:
        part.touch()
        append_csv(part, [row for row in rows if int(row['step']) <= step])
