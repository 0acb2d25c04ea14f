"""BatchNorm's running statistics: remembered, re-estimated, averaged over ranks.

They lag behind weights that move fast: after 88 images of a 96-image set, re-estimating them
raised Dice from 0.62 to 0.86.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from utils.runtime.distributed import all_reduce_sum, world_size


class StatisticsSnapshot:
    """A copy of all running statistics, for a step that may have to be computed again."""

    def __init__(self, model: nn.Module) -> None:
        self.buffers = list(model.buffers())
        self.copies = [buffer.clone() for buffer in self.buffers]

    def take(self) -> None:
        """Remember the statistics as they are."""
        if self.buffers:  # a network without BatchNorm has none
            torch._foreach_copy_(self.copies, self.buffers)  # one launch, not one a buffer

    def restore(self) -> None:
        """Put them back."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.copies)

    def restore_unless(self, good: Tensor) -> None:
        """Put them back where `good`, a boolean scalar on the device, is false."""
        for buffer, copy in zip(self.buffers, self.copies, strict=True):
            buffer.copy_(torch.where(good, buffer, copy))


@torch.no_grad()
def reestimate_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set every BatchNorm's running mean and variance to their averages over `batches`.

    batches: network inputs (B, C, H, W) float, at least one on all ranks together. The model keeps
    its mode and its weights (precise BN, https://arxiv.org/abs/2105.07576).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches, in torch's terms
    try:
        model.train()
        for images in batches:
            model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)
    counted = norms[0].num_batches_tracked
    average_statistics(model, 0.0 if counted is None else float(counted))


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Return the running means and variances of a network, not copied."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def average_statistics(model: nn.Module, weight: float) -> None:
    """Set the running statistics on all ranks to their average, each rank counting by `weight`."""
    if world_size() == 1:
        return
    statistics = running_statistics(model)
    total = statistics[0].new_full((1,), weight)
    torch._foreach_mul_(statistics, weight)
    all_reduce_sum([*statistics, total])
    torch._foreach_div_(statistics, total[0])
