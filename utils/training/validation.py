"""Validation during training: score the network, and warn when it predicts one class only."""

from typing import TYPE_CHECKING

from tqdm import tqdm

from utils.evaluation.metrics import number, summarize
from utils.evaluation.scoring import count_at_scale

from .optimization.batchnorm import reestimate_statistics
from .optimization.guard import CollapseWatch

if TYPE_CHECKING:
    from .data import TrainingData
    from .recorder import Recorder
    from .state import TrainState


class Validator:
    """Scores the network of a run on its validation set, and has the scores recorded.

    precise_statistics: re-estimate BatchNorm's running statistics first, from training images.
    """

    def __init__(
        self,
        state: 'TrainState',
        data: 'TrainingData',
        recorder: 'Recorder',
        precise_statistics: bool,
    ) -> None:
        self.state, self.data, self.recorder = state, data, recorder
        self.precise_statistics = precise_statistics
        self.collapse = CollapseWatch(data.dataset.masks.titles)

    def validate(self) -> None:
        """Score, print, tell the schedule, and record; without a validation set only record.

        The time it takes does not count as training.
        """
        with self.recorder.meter.paused():
            self._validate()

    def _validate(self) -> None:
        training = self.recorder.meter.figures()
        if self.precise_statistics:
            self.reestimate_statistics()
        loader, scores = self.data.validation_loader, None
        if loader is not None:  # not `if loader`: a rank's shard may be empty
            masks, batch_size = self.data.dataset.masks, self.data.sampler.batch_size
            counts = count_at_scale(self.state.model, loader, self.state.precision)
            scores = summarize(counts, masks.values, batch_size, masks.names)
            self.state.schedule.after_validation(scores['dice_reference'])
            tqdm.write(
                f'Epoch {self.state.epoch + 1}, step {self.state.step}: validation Dice '
                f'{number(scores["dice_dataset"])}, per image {number(scores["dice_per_image"])}, '
                f'loss {training["loss"]:.3f}'
            )
            if warning := self.collapse.warning(counts):
                tqdm.write(warning)
        self.recorder.log_validation(training, scores)

    def reestimate_statistics(self) -> None:
        """Set BatchNorm's running statistics from training images, in the run's precision."""
        with self.state.precision.autocast():
            reestimate_statistics(self.state.model, self.data.statistics_batches())
