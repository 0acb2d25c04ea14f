"""A step whose loss or gradient is not finite must not spoil a network; too many end the run.

Everything stays on the device: the guard costs no synchronisation, `bad_in_a_row` alone does.

A network that predicts one class everywhere has stopped learning; say so early.
"""

import torch
from torch import Tensor, nn

from utils.evaluation.metrics import FN, FP, TP

from .batchnorm import StatisticsSnapshot

MOST_IN_A_ROW = 20  # fp16's scaler needs a few to find its scale; more are no coincidence


class StepGuard:
    """Keeps a network's gradients and running statistics finite.

    Call `before_step`, then, with gradients there, `check`. `undo` takes back a step for other
    reasons, an error half-way for instance.
    """

    def __init__(self, model: nn.Module):
        self.parameters = list(model.parameters())
        self.snapshot = StatisticsSnapshot(model)
        device = self.parameters[0].device
        self._bad = torch.zeros((), dtype=torch.int64, device=device)
        self._in_a_row = torch.zeros((), dtype=torch.int64, device=device)

    def before_step(self) -> None:
        """Remember the running statistics, before the forward pass counts the batch."""
        self.snapshot.take()

    def check(self, loss: Tensor, norm: Tensor) -> None:
        """Where loss or gradient norm (scalars) is not finite, zero the gradients and go back."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._bad += ~finite
        self._in_a_row = (self._in_a_row + 1) * ~finite
        if finite.device.type == 'cpu' and finite:
            return  # looking costs nothing there, and spares a pass over all parameters
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(finite, parameter.grad, 0)
        self.snapshot.restore_unless(finite)

    def undo(self) -> None:
        """Put the running statistics back."""
        self.snapshot.restore()

    def bad_steps(self) -> tuple[int, int]:
        """How many steps were bad so far, and how many without a good one since; synchronises."""
        return int(self._bad), int(self._in_a_row)


PATIENCE = 3  # validations in a row: the first may well come before anything is learned


class CollapseWatch:
    """Counts validations in a row in which every pixel of every image got one and the same class.

    titles: the names of the classes, or else their mask values. A run that is resumed counts anew.
    """

    def __init__(self, titles: list[str]):
        self.titles, self.in_a_row = titles, 0

    def warning(self, counts: Tensor) -> str | None:
        """What to tell the user after a validation, once, when PATIENCE is reached.

        counts: (N, K, 3) of utils.metrics. A truth that is one class everywhere is no collapse.
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
