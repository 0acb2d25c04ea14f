"""Writes a run's figures and settings, here and to the loggers that are wanted.

A failing logger never stops a training.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import nn

from utils.runtime.files import append_csv, whole_file
from utils.runtime.locks import FolderLock

from .event_files import TensorBoardLogger
from .table import keep_rows_until
from .weights_and_biases import WandbLogger, wandb_mode


class Logger(Protocol):
    """Where a Tracker logs figures besides metrics.csv. `name` is for warnings."""

    name: str

    def log_step(self, step: int, figures: dict) -> None:
        """Log the figures of one training step."""

    def log_validation(self, row: dict, sheet: Image.Image | None, model: nn.Module | None) -> None:
        """Log a row of metrics.csv, the sample sheet, and what else is known of the model."""

    def close(self) -> None:
        """Write what is left."""


class Tracker:
    """Writes a run's figures to metrics.csv, W&B and TensorBoard, and its settings to args.json.

    output: the run's folder. mode: --wandb. step: the step from which to continue metrics.csv.
    run_id: of the W&B run to continue. tensorboard: --tensorboard.
    """

    uid: str | None = None  # of the training run, in args.json and last.pth
    lock: FolderLock | None = None  # on `output`

    def __init__(
        self,
        output: Path,
        args: dict,
        mode: str = 'auto',
        step: int = 0,
        run_id: str | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.csv_path, self.settings = output / 'metrics.csv', args
        self.loggers: list[Logger] = []
        keep_rows_until(self.csv_path, step)
        self._write_settings()
        mode = wandb_mode(mode)
        if mode != 'disabled':
            self._start(WandbLogger.name, lambda: WandbLogger(mode, output, args, run_id))
        if tensorboard:
            folder = output / 'tensorboard'
            self._start(TensorBoardLogger.name, lambda: TensorBoardLogger(folder, step))

    @property
    def run_id(self) -> str | None:
        """The id by which a resumed run continues the same W&B run."""
        return next((log.run.id for log in self.loggers if isinstance(log, WandbLogger)), None)

    def set_total_steps(self, total_steps: float) -> None:
        """Write into args.json how long the run is, which --epochs auto tells late."""
        self.settings['total_steps'] = total_steps
        self._write_settings()

    def log_step(self, step: int, figures: dict) -> None:
        """Log the figures of one training step, to the loggers only."""
        self._each(lambda logger: logger.log_step(step, figures))

    def log_validation(
        self, row: dict, sheet: Image.Image | None = None, model: nn.Module | None = None
    ) -> None:
        """Append a row to metrics.csv; log it, with the sheet, and to W&B a model's histograms."""
        append_csv(self.csv_path, [row])
        self._each(lambda logger: logger.log_validation(row, sheet, model))

    def close(self) -> None:
        """End the loggers, and let others use the folder."""
        self._each(lambda logger: logger.close())
        if self.lock:
            self.lock.release()

    def _write_settings(self) -> None:
        with whole_file(self.csv_path.with_name('args.json')) as part:
            text = json.dumps(self.settings, indent=1, default=str)
            part.write_text(text + '\n', encoding='utf-8')

    def _start(self, name: str, make: Callable[[], Logger]) -> None:
        if error := _error_of(lambda: self.loggers.append(make())):
            _warn(name, error)

    def _each(self, work: Callable[[Logger], None]) -> None:
        """Call `work` with each logger; turn one off, with a warning, at its first error."""
        for logger in list(self.loggers):
            if error := _error_of(work, logger):
                self.loggers.remove(logger)
                _warn(logger.name, error)


class SilentTracker(Tracker):
    """Writes nothing: for all ranks but the first."""

    def __init__(self) -> None:
        self.loggers = []

    def log_validation(self, *_: object) -> None:
        """Log nothing."""

    def set_total_steps(self, _: float) -> None:
        """Write nothing."""


def _error_of(work: Callable[..., None], *arguments: object) -> Exception | None:
    """Do the work; return the error that it raised, if any."""
    try:
        work(*arguments)
    # A logger, a network or a full disk may raise anything; none of it is worth a run.
    except Exception as error:  # noqa: BLE001
        return error
    return None


def _warn(name: str, error: Exception) -> None:
    print(f'warning: {name} failed and is off from here ({type(error).__name__}: {error})')
