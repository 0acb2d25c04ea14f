"""Everything that a run writes: checkpoints, metrics.csv, curves, sample sheet, loggers."""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor
from tqdm import tqdm

from utils.evaluation.metrics import SCORES
from utils.inference.checkpoint import Checkpoint, NotFiniteError, model_config, save_checkpoint
from utils.runtime.console import ProgressLines, progress_bar
from utils.runtime.distributed import is_main_process, world_size
from utils.runtime.errors import DivergedError
from utils.runtime.memory import peak_memory

from .duration.steps import enough_epochs
from .optimization.guard import (
    MOST_IN_A_ROW,
    StepGuard,
    describe_unlearned,
    unlearned_share,
)
from .plots import draw_curves, write_samples
from .progress import Meter
from .resume import launcher
from .run_folder import keep_newest
from .state import TrainState
from .tracking.tracker import Tracker

if TYPE_CHECKING:
    from .data import TrainingData

SECONDS_PER_READING = 1.0  # of the loss; each reading waits for the device
KEPT_OF_AUTO = 1  # --keep with --epochs auto, which may train hundreds of short epochs
Batches = TypeVar('Batches')


@dataclass
class Recorder:
    """Writes what a run leaves in its output folder; only rank 0 writes files."""

    args: argparse.Namespace
    state: TrainState
    data: 'TrainingData'
    tracker: Tracker
    guard: StepGuard
    meter: Meter = field(default_factory=Meter)
    scores: dict | None = None  # of the latest validation
    last_saved: Path | None = None  # the newest checkpoint
    saved_at: float = field(default_factory=time.monotonic)
    bar: 'tqdm | ProgressLines' = field(default_factory=lambda: progress_bar('', None, hidden=True))

    def load_state_dict(self, state: dict, scores: dict | None) -> None:
        """Continue with the record of a resumed run, from its last.pth."""
        self.meter.load_state(state['meter'])
        self.scores, self.last_saved = scores, self.args.output / 'last.pth'

    def progress(self, steps: Iterable[Batches]) -> Iterator[Batches]:
        """Yield the steps of an epoch; show a progress bar and measure the wait for data."""
        if not self.state.step_in_epoch:
            self.meter = Meter()
        title = f'Epoch {self.state.epoch + 1}/{self.state.epochs or "auto"}'
        total = len(self.data.training)
        self.bar = progress_bar(title, total, 'img', leave=True, initial=self.meter.images)
        with self.bar:
            yield from self.meter.timed(steps)

    def count_step(self, loss: Tensor, images: int) -> None:
        """Count the latest step; show and log progress once a second and before validations.

        Raises DivergedError where the latest steps were all skipped by the guard.
        """
        self.meter.add(loss, images)
        self.bar.update(images)
        if not (self.state.validation_due() or self.meter.due(SECONDS_PER_READING)):
            return
        figures = self.meter.figures()
        self.bar.set_postfix_str(
            f'loss {figures["loss"]:.3f}, data wait {figures["data_wait"]:.0%}'
        )
        skipped, in_a_row = self.guard.bad_steps()
        if in_a_row >= min(MOST_IN_A_ROW, self.state.total_steps - self.state.first_step):
            raise self.diverged(f'loss or gradient was not finite in {in_a_row} steps in a row')
        # The names of metrics.csv, under which loggers get the same figures with each validation.
        figures |= {'skipped_steps': skipped, 'learning_rate': self.state.learning_rate}
        figures['peak_memory_mib'] = peak_memory(self.state.precision.device)
        self.tracker.log_step(self.state.step, figures | {'epoch': self.state.epoch + 1})

    def log_validation(self, training: dict, scores: dict | None) -> None:
        """Add a row to metrics.csv, draw samples.png, and save best.pth at the highest Dice.

        training: the meter's figures. scores: see metrics.summarize, None without a validation set.
        """
        self.scores = scores
        state = self.state
        row: dict = {'epoch': state.epoch + 1, 'step': state.step}
        row |= {'learning_rate': state.learning_rate} | training
        row['peak_memory_mib'] = peak_memory(state.precision.device)
        row |= {name: scores and scores[name] for name in [*SCORES, 'dice_reference']}
        for name in ('dice', 'iou'):  # the latter is the mIoU of the literature
            row[f'{name}_all_classes'] = scores and scores['all_classes'][f'{name}_dataset']
        sheet = None
        if is_main_process():
            path = self.args.output / 'samples.png'
            sheet = write_samples(path, state, self.data.samples(), self.data.dataset.masks)
        self.tracker.log_validation(row, sheet, state.model if self.args.wandb_histograms else None)
        if state.is_best(scores['dice_dataset'] if scores else None):
            self._save('best.pth')

    def end_epoch(self) -> None:
        """Write checkpoint_epoch{N}.pth, last.pth and curves.png; remove what --keep does not."""
        epoch = self.state.epoch
        self._save(f'checkpoint_epoch{epoch}.pth')
        tqdm.write(f'Checkpoint {epoch} saved! {self.last_saved}')
        self.save_last()
        if is_main_process():
            draw_curves(self.args.output / 'metrics.csv', self.args.output / 'curves.png')
            if keep := self.args.keep or (self.args.epochs == 'auto' and KEPT_OF_AUTO):
                keep_newest(self.args.output, epoch, keep)

    def saving_due(self) -> bool:
        """Return whether last.pth is older than --save-minutes."""
        return time.monotonic() - self.saved_at >= 60 * self.args.save_minutes

    def save_last(self) -> None:
        """Write last.pth, which holds all that --resume needs."""
        self.saved_at = time.monotonic()
        settings = {k: v for k, v in vars(self.args).items() if k not in ('resume', 'debug')}
        record = self.state.state_dict() | {
            'args': {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
            'data': self.data.fingerprint(),
            'run': self.tracker.uid,
            'wandb': self.tracker.run_id,
            'processes': world_size(),
            'meter': self.meter.state(),
        }
        self._save('last.pth', record)

    def how_to_resume(self) -> str:
        """Return the command that continues this run."""
        return f'{launcher(world_size())} train.py --resume {self.args.output / "last.pth"}'

    def summary(self) -> str:
        """Return where the results are, how to predict with them, and which classes they lack."""
        best = self.state.best_dice
        model = self.last_saved if best is None else self.args.output / 'best.pth'
        lines = [] if best is None else [f'Best validation Dice {best:.4f}.']
        titles = self.data.dataset.masks.titles
        if self.scores and (unlearned := describe_unlearned(self.scores, titles)):
            lines.append(f'note: {unlearned}. {self._how_to_learn_more()}')
        return '\n'.join([*lines, f'Predict with: python predict.py -m {model} -i IMAGE'])

    def _how_to_learn_more(self) -> str:
        """Return what to try where classes are not learned: what this run has not done yet."""
        others = []
        equal = 1 / len(self.data.dataset.masks.values)  # share of each if all were as common
        if not self.args.loss_weights and unlearned_share(self.scores) < equal:
            others.append('--loss-weights auto, which raises rare classes')
        if self.args.scale < 1:
            others.append(f'-s {min(1, 2 * self.args.scale):g}, which keeps thin things')
        new = f'; or, in a new run, {" and ".join(others)}' if others else ''
        epochs = self.state.epochs or self.state.epoch  # the former is not known yet with auto
        more = max(2 * epochs, enough_epochs(self.args.recipe, self.state.steps_per_epoch))
        return f'Try more epochs: {self.how_to_resume()} -e {more}{new}.'

    def close(self) -> None:
        """End the progress display of an epoch that failed, and the loggers."""
        self.bar.close()
        self.tracker.close()

    def diverged(self, what: str) -> DivergedError:
        """Return the error that ends a training in which `what` is not finite any more."""
        state = self.state
        return DivergedError(
            f'{what} at epoch {state.epoch + 1}, step {state.step} (precision '
            f'{state.precision.name}, learning rate {state.last_rate:.2g}). Last good file: '
            f'{self.last_saved or "none yet"}. Try a lower --learning-rate, or leave --amp out.'
        )

    def _save(self, name: str, training: dict | None = None) -> None:
        path = self.args.output / name
        checkpoint = Checkpoint(
            model=model_config(self.state.model),
            weights=self.state.model.state_dict(),
            **self.data.dataset.masks.to_checkpoint(),
            scale=self.data.dataset.scale,
            decode=self.data.dataset.decode,
            image_range=self.data.dataset.image_range,
            metrics=self.scores,
            training=training,
        )
        try:
            if is_main_process():
                save_checkpoint(checkpoint, path)
        except NotFiniteError as error:
            raise self.diverged(str(error)) from error
        self.last_saved = path
