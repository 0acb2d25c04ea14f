"""Validation during training: score the network, and warn when it predicts one class only."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader
from tqdm import tqdm

from utils.evaluation.dice import dice_reference
from utils.evaluation.metrics import number, summarize
from utils.evaluation.scoring import count_at_scale

from .optimization.batchnorm import reestimate_statistics
from .optimization.guard import CollapseWatch
from .state import TrainState

if TYPE_CHECKING:
    from .data import TrainingData
    from .recorder import Recorder


@dataclass
class Validator:
    """Scores the network of a run on its validation set, and has the scores recorded.

    precise_statistics: re-estimate BatchNorm's running statistics first, from training images.
    """

    state: TrainState
    data: 'TrainingData'
    recorder: 'Recorder'
    precise_statistics: bool

    def __post_init__(self) -> None:
        self.collapse = CollapseWatch(self.data.dataset.masks.titles)

    def validate(self) -> None:
        """Score, print, tell the schedule, and record; without a validation set only record."""
        with self.recorder.meter.paused():
            training, scores = self.recorder.meter.figures(), None
            if self.precise_statistics:
                with self.state.precision.autocast():
                    reestimate_statistics(self.state.model, self.data.statistics_batches())
            loader = self.data.validation_loader
            if loader is not None:  # not `if loader`: a rank's shard may be empty
                scores = self._score(loader, training['loss'])
            self.recorder.log_validation(training, scores)

    def _score(self, loader: DataLoader, loss: float) -> dict:
        state, masks = self.state, self.data.dataset.masks
        counts = count_at_scale(state.model, loader, state.precision, self.data.dataset.decode)
        batch_size = self.data.sampler.batch_size
        scores = summarize(counts, masks, batch_size)
        state.schedule.after_validation(dice_reference(counts, batch_size))  # the original's
        tqdm.write(
            f'Epoch {state.epoch + 1}, step {state.step}: Validation Dice score: '
            f'{number(scores["dice_dataset"])}, per image {number(scores["dice_per_image"])}, '
            f'loss {loss:.3f}'
        )
        if warning := self.collapse.warning(counts):
            tqdm.write(warning)
        if state.decay_begins(scores['dice_dataset']):
            self.recorder.tracker.set_total_steps(state.total_steps)
            tqdm.write(
                f'Validation has stalled: the learning rate now decays to 0, until epoch '
                f'{state.epochs}, step {state.total_steps}'
            )
        return scores
