"""Distillation: a network learns the scores of its teacher beside the masks.

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unet import UNet
from utils.masks.encoding import IGNORE
from utils.training.optimization.loss import Totals

if TYPE_CHECKING:
    from utils.training.builder import TrainingRun


class Distillation:
    """A training criterion: the given one plus the divergence from the teacher's probabilities.

    The teacher sees the images that the network sees, augmented, through a hook on the network.
    """

    def __init__(self, teacher: UNet, criterion: Callable[..., Tensor]):
        self.teacher = teacher.eval().requires_grad_(False)
        self.criterion = criterion
        self.taught: Tensor | None = None  # the teacher's logits for the latest images

    @classmethod
    def attach(cls, run: 'TrainingRun', teacher: UNet) -> 'Distillation':
        """Make a run learn from the teacher, which is moved to its device."""
        teacher = teacher.to(run.state.precision.device).to(memory_format=torch.channels_last)
        step = run.step_runner.step
        step.criterion = found = cls(teacher, step.criterion)
        run.state.model.register_forward_hook(found._ask_teacher)
        return found

    @torch.no_grad()
    def _ask_teacher(self, model: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:  # not where statistics are re-estimated, and images scored
            self.taught = self.teacher(*inputs)

    def __call__(
        self, logits: Tensor, masks: Tensor, *border: Tensor, totals: Totals | None = None
    ) -> Tensor:
        """Return the loss of the network's latest logits, a scalar; see segmentation_loss."""
        if self.taught is None:
            raise ValueError('the teacher has seen no images; the network must compute its logits')
        taught = self.taught[..., : logits.shape[2], : logits.shape[3]]
        loss = self.criterion(logits, masks, *border, totals=totals)
        return loss + distillation_loss(logits, taught, masks, totals)


def distillation_loss(
    logits: Tensor, taught: Tensor, masks: Tensor, totals: Totals | None = None
) -> Tensor:
    """Return the Kullback-Leibler divergence from the taught probabilities, a scalar float32.

    logits, taught: (B, K, H, W) float; K = 1 is the foreground's logit. masks: (B, H, W), of which
    pixels of value IGNORE do not count. The mean is over the pixels that count, or with the totals
    of a step over all of its pixels.
    """
    with torch.autocast(logits.device.type, enabled=False):
        student, teacher = (_log_probabilities(scores) for scores in (logits, taught))
        divergence = (teacher.exp() * (teacher - student)).sum(1)  # (B, H, W)
        counts = masks != IGNORE
        whole = totals.pixels if totals else counts.sum()
        return (divergence * counts).sum() / whole.clamp(min=1)


def _log_probabilities(logits: Tensor) -> Tensor:
    logits = logits.float()
    if logits.shape[1] == 1:  # sigmoid is softmax with a background logit of 0
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return logits.log_softmax(dim=1)
