"""Event files of TensorBoard: the figures of metrics.csv and of steps between, the sample sheet."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

FLUSH_SECONDS = 10  # between writes of the figures of steps; a killed run loses so many at most
# TensorBoard draws a group for each word before a slash. Scores begin so; others are of training.
SCORES = ('dice', 'iou', 'precision', 'recall')


class TensorBoardLogger:
    """Writes figures and sample sheets into event files, by torch.utils.tensorboard.

    folder: of the event files; each process that continues a run adds one. step: the step from
    which to continue, 0 for a new run. TensorBoard forgets what earlier files say of later steps.
    """

    name = 'TensorBoard'

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # late: 0.2 s, and an extra package

        self.writer = SummaryWriter(
            str(folder), purge_step=step + 1 if step else None, flush_secs=FLUSH_SECONDS
        )
        self.waiting: tuple[int, dict] = step, {}  # the latest step and its figures

    def log_step(self, step: int, figures: dict) -> None:
        """Keep the figures of a training step until the next step is logged.

        A validation after the same step logs them anew: a figure has one value for each step.
        """
        if step != self.waiting[0]:
            self._write_waiting()
        self.waiting = step, self.waiting[1] | figures

    def log_validation(self, row: dict, sheet: Image.Image | None, _: nn.Module | None) -> None:
        """Write a row of metrics.csv, without empty cells, and the sample sheet."""
        step = row['step']
        self.log_step(step, {name: value for name, value in row.items() if name != 'step'})
        self._write_waiting()
        if sheet:
            self.writer.add_image('samples', np.asarray(sheet), step, dataformats='HWC')
        self.writer.flush()

    def close(self) -> None:
        """Write what is left, and close the event file."""
        self._write_waiting()
        self.writer.close()

    def _write_waiting(self) -> None:
        step, figures = self.waiting
        for name, value in figures.items():
            if value is not None:
                group = 'validation' if name.startswith(SCORES) else 'training'
                self.writer.add_scalar(f'{group}/{name}', value, step)
        self.waiting = step, {}
