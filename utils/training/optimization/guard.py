"""Guards against training that fails silently: steps that are not finite, one-class networks."""

import torch
from torch import Tensor, nn

from utils.evaluation.metrics import FN, FP, TP

MOST_IN_A_ROW = 20  # steps; fp16's scaler skips a few to find its scale, more mean divergence
PATIENCE = 3  # validations: the first may come before anything is learned


class StepGuard:
    """Keeps gradients and BatchNorm's running statistics finite.

    Call `before_step`, then, when there are gradients, `check`. `undo` takes back an unfinished
    step. Nothing waits for the device except `bad_steps`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters, self.buffers = list(model.parameters()), list(model.buffers())
        self.copies = [buffer.clone() for buffer in self.buffers]
        zeros = torch.zeros(2, dtype=torch.int64, device=self.parameters[0].device)
        self._bad, self._in_a_row = zeros.unbind()

    def before_step(self) -> None:
        """Remember the running statistics, before the forward pass updates them."""
        if self.buffers:  # a network without BatchNorm has none
            torch._foreach_copy_(self.copies, self.buffers)  # one launch, not one a buffer

    def check(self, loss: Tensor, norm: Tensor) -> None:
        """Where loss or gradient norm (scalars) is not finite, zero the gradients and go back."""
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._bad = self._bad + ~finite
        self._in_a_row = (self._in_a_row + 1) * ~finite
        # On a CPU the test costs nothing and saves a pass over all parameters.
        if finite.device.type != 'cpu' or not finite:
            self.keep_if(finite)

    def keep_if(self, good: Tensor) -> None:
        """Keep gradients and statistics where `good`, a boolean scalar on the device, is true."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(good, parameter.grad, 0)
        for buffer, copy in zip(self.buffers, self.copies, strict=True):
            buffer.copy_(torch.where(good, buffer, copy))

    def undo(self) -> None:
        """Put the running statistics back."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.copies)

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
