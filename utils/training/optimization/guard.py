"""Guards against training that fails silently: steps that are not finite, one-class networks."""

import torch
from torch import Tensor, nn

from utils.evaluation.metrics import FN, FP, TP
from utils.runtime.errors import first_few

from .batchnorm import batch_counters, running_statistics

MOST_IN_A_ROW = 20  # steps; fp16's scaler skips a few to find its scale, more mean divergence
UNLEARNED = 0.1  # Dice
PATIENCE = 3  # validations: the first may come before anything is learned


class StepGuard:
    """Keeps gradients and BatchNorm's running statistics finite.

    Call `before_step`, then, when there are gradients, `check`. `undo` takes back an unfinished
    step. Nothing waits for the device except `bad_steps`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = list(model.parameters())
        # One list for each type: torch's _foreach functions take one launch for tensors of one.
        running, counters = running_statistics(model), batch_counters(model)
        self.snapshots = [
            (_bits([buffer.clone() for buffer in buffers]), _bits(buffers))
            for buffers in (running, counters)
            if buffers  # a network without BatchNorm has none
        ]
        zeros = torch.zeros(2, dtype=torch.int64, device=self.parameters[0].device)
        self._bad, self._in_a_row = zeros.unbind()

    def before_step(self) -> None:
        """Remember the running statistics, before the forward pass updates them."""
        for copies, buffers in self.snapshots:
            torch._foreach_copy_(copies, buffers)

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
        bits = _bits([p.grad for p in self.parameters if p.grad is not None])
        torch._foreach_mul_(bits, good.to(bits[0].dtype))
        for copies, buffers in self.snapshots:
            keep = good.to(buffers[0].dtype)
            torch._foreach_mul_(buffers, keep)
            torch._foreach_add_(buffers, torch._foreach_mul(copies, 1 - keep))

    def undo(self) -> None:
        """Put the running statistics back."""
        for copies, buffers in self.snapshots:
            torch._foreach_copy_(buffers, copies)

    def bad_steps(self) -> tuple[int, int]:
        """Return how many steps were bad so far, and how many since the last good one."""
        return int(self._bad), int(self._in_a_row)


def _bits(tensors: list[Tensor]) -> list[Tensor]:
    """Return tensors of one type as integers of the same memory.

    NaN times zero is NaN, but its bits times zero are those of 0.0. So a list is zeroed in one
    launch, where torch.where takes one a tensor: 4.3 ms a step on an H100 (dev/GPU.md).
    """
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return [t.view(integers[t.element_size()]) for t in tensors]


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


def describe_unlearned(scores: dict, titles: list[str]) -> str:
    """Return which classes a run has not learned, with their pixels and Dice; '' where none.

    scores: of the last validation, see evaluation.metrics.summarize. titles: as of CollapseWatch.
    A class that the truth of the validation set lacks is not judged.
    """
    missed = [
        f'{titles[row["class"]]} ({100 * row["share"]:.2g} % of the pixels, Dice '
        f'{row["dice_dataset"]:.3f})'
        for row in _unlearned(scores)
    ]
    if not missed:
        return ''
    return f'{len(missed)} of {len(titles)} classes are not learned: {first_few(missed, 8)}'


def unlearned_share(scores: dict | None) -> float:
    """Return the part of the pixels, 0 to 1, of the rarest class that a run has not learned."""
    return min((row['share'] for row in _unlearned(scores or {'classes': []})), default=1.0)


def _unlearned(scores: dict) -> list[dict]:
    classes = scores['classes']
    return [row for row in classes if row.get('share') and row['dice_dataset'] < UNLEARNED]
