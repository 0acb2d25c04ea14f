"""Guards against training that fails silently: steps that are not finite, one-class networks."""

import torch
from torch import Tensor, nn

from utils.evaluation.metrics import FN, FP, TP

from .batchnorm import StatisticsSnapshot

MOST_IN_A_ROW = 20  # steps; fp16's scaler skips a few to find its scale, more mean divergence
PATIENCE = 3  # validations: the first may come before anything is learned


class StepGuard:
    """Keeps gradients and BatchNorm's running statistics finite.

    Call `before_step`, then, when there are gradients, `check`. `undo` takes back an unfinished
    step. Nothing waits for the device except `bad_steps`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = list(model.parameters())
        self.snapshot = StatisticsSnapshot(model)
        device = self.parameters[0].device
        self._bad = torch.zeros((), dtype=torch.int64, device=device)
        self._in_a_row = torch.zeros((), dtype=torch.int64, device=device)

    def before_step(self) -> None:
        """Remember the running statistics, before the forward pass updates them."""
        self.snapshot.take()

    def check(self, loss: Tensor, norm: Tensor) -> None:
        """Where loss or gradient norm (scalars) is not finite, zero the gradients and go back."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._bad += ~finite
        self._in_a_row = (self._in_a_row + 1) * ~finite
        if finite.device.type == 'cpu' and finite:
            return  # on a CPU the test costs nothing and saves a pass over all parameters
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(finite, parameter.grad, 0)
        self.snapshot.restore_unless(finite)

    def undo(self) -> None:
        """Put the running statistics back."""
        self.snapshot.restore()

    def bad_steps(self) -> tuple[int, int]:
        """Return how many steps were bad so far, and how many since the last good one."""
        return int(self._bad), int(self._in_a_row)


class CollapseWatch:
    """Counts validations in a row in which all pixels of all images got the same class.

    titles: names of the classes, or else their mask values. A resumed run counts anew.
    """

    def __init__(self, titles: list[str]) -> None:
        self.titles, self.in_a_row = titles, 0

    def warning(self, counts: Tensor) -> str | None:
        """Return the warning for the user after a validation, once, when PATIENCE is reached.

        counts: (N, K, 3), see evaluation.metrics. Truth of one class everywhere is no collapse.
        """
        total = counts.sum(dim=0)  # (K, 3)
        predicted = torch.nonzero(total[:, TP] + total[:, FP]).flatten().tolist()
        truth = torch.nonzero(total[:, TP] + total[:, FN]).flatten().tolist()
        collapsed = len(predicted) == 1 and predicted != truth
        self.in_a_row = self.in_a_row + 1 if collapsed else 0
        if self.in_a_row != PATIENCE:
            return None
        return (
            f'warning: every pixel of {PATIENCE} validations was predicted as '
            f'{self.titles[predicted[0]]}. Look at samples.png: do the masks belong to the '
            'images? Then try another --learning-rate, or --loss-weights auto for a class that '
            'is small.'
        )
