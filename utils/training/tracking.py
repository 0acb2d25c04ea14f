"""Logging of a run: metrics.csv and args.json always, Weights & Biases if the user is logged in.

A failing logger never stops a training.
"""

import contextlib
import csv
import json
import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from PIL import Image
from torch import nn

from utils.runtime.files import append_csv, whole_file

if TYPE_CHECKING:
    import wandb


class Tracker:
    """Writes a run's figures to metrics.csv and W&B, and its settings to args.json.

    output: the run's folder. mode: --wandb. step: the step from which to continue metrics.csv.
    run_id: of the W&B run to continue.
    """

    run: 'wandb.Run | None' = None

    def __init__(
        self, output: Path, args: dict, mode: str = 'auto', step: int = 0, run_id: str | None = None
    ) -> None:
        self.csv_path = output / 'metrics.csv'
        _keep_rows_until(self.csv_path, step)
        with whole_file(output / 'args.json') as part:
            part.write_text(json.dumps(args, indent=1, default=str) + '\n', encoding='utf-8')
        mode = wandb_mode(mode)
        if mode == 'disabled':
            return
        with self._guarded():
            import wandb  # late: 0.9 s that only its users should pay

            self.run = wandb.init(
                project='U-Net', dir=str(output), config=args, id=run_id, resume='allow',
                mode=mode,  # type: ignore[arg-type]  # one of --wandb's choices
            )  # fmt: skip

    @property
    def run_id(self) -> str | None:
        """The id by which a resumed run continues the same W&B run."""
        return self.run.id if self.run else None

    def log_step(self, step: int, figures: dict) -> None:
        """Log the figures of one training step, to W&B only."""
        with self._guarded():
            if self.run:
                self.run.log(figures, step=step)

    def log_validation(
        self, row: dict, sheet: Image.Image | None = None, model: nn.Module | None = None
    ) -> None:
        """Append a row to metrics.csv; log it to W&B, with the sheet and a model's histograms."""
        append_csv(self.csv_path, [row])
        if not self.run:
            return
        with self._guarded():
            import wandb

            figures = {key: value for key, value in row.items() if value is not None}
            if sheet:
                figures['samples'] = wandb.Image(sheet, caption='image, truth, prediction')
            for name, parameter in model.named_parameters() if model else ():
                for kind, tensor in (('weights', parameter), ('gradients', parameter.grad)):
                    if tensor is not None:
                        values = tensor.detach().float().cpu()
                        figures[f'{kind}/{name}'] = wandb.Histogram(values)  # type: ignore[arg-type]
            self.run.log(figures, step=row['step'])

    def close(self) -> None:
        """End the W&B run."""
        with self._guarded():
            if self.run:
                self.run.finish()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn W&B off, with a warning, at the first error of a call."""
        try:
            yield
        # A logger, a network or a full disk may raise anything; none of it is worth a run.
        except Exception as error:  # noqa: BLE001
            self.run = None
            print(f'warning: W&B failed and is off from here ({type(error).__name__}: {error})')


class SilentTracker(Tracker):
    """Writes nothing: for all ranks but the first."""

    def __init__(self) -> None:
        pass

    def log_validation(self, *_: object) -> None:
        """Log nothing."""


def wandb_mode(mode: str) -> str:
    """Resolve 'auto': online (or WANDB_MODE) where an API key is set, else disabled."""
    if mode != 'auto':
        return mode
    return os.environ.get('WANDB_MODE', 'online') if _has_api_key() else 'disabled'


def _has_api_key() -> bool:
    """Return whether `wandb login` has been run, without importing wandb."""
    if os.environ.get('WANDB_API_KEY'):
        return True
    host = urlparse(os.environ.get('WANDB_BASE_URL', 'https://api.wandb.ai')).hostname
    named = os.environ.get('NETRC')
    for file in [named] if named else [Path.home() / '.netrc', Path.home() / '_netrc']:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if host and netrc.netrc(file).authenticators(host):
                return True
    return False


def _keep_rows_until(path: Path, step: int) -> None:
    """Remove the rows after `step`: a resumed run will log them again."""
    if not path.exists():
        return
    with path.open(newline='', encoding='utf-8') as file:
        # A row that a kill has torn lacks its last cells.
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    with whole_file(path) as part:
        part.touch()
        append_csv(part, [row for row in rows if int(row['step']) <= step])
