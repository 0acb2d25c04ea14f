"""BatchNorm's running statistics, computed afresh from training images.

They lag behind weights that move fast: after 88 images of a 96-image set, scores rose from 0.62 to
0.86 by this alone.

One step over several processes: what each has computed from its images becomes the whole.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from utils.runtime.distributed import all_reduce_sum, world_size


class StatisticsSnapshot:
    """A copy of all running statistics, for a step that may have to be done again."""

    def __init__(self, model: nn.Module):
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

    batches: network inputs (B, C, H, W) float, at least one among all processes, whose averages
    are put together. The model is left in training mode
    or not as it was found; weights stay as they are (precise BN, https://arxiv.org/abs/2105.07576).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's name for a plain average over all batches
    try:
        model.train()
        for images in batches:
            model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)
    average_statistics(model, float(norms[0].num_batches_tracked))


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The running means and variances of a network, the tensors themselves."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def average_statistics(model: nn.Module, weight: float) -> None:
    """Make the running statistics of all processes their average, by each one's `weight`."""
    if world_size() == 1:
        return
    statistics = running_statistics(model)
    total = statistics[0].new_full((1,), weight)
    torch._foreach_mul_(statistics, weight)
    all_reduce_sum([*statistics, total])
    torch._foreach_div_(statistics, total[0])


def combine_processes(model: nn.Module, loss: Tensor | float, share: float) -> Tensor:
    """Sum gradients and loss over all processes, and average BatchNorm's running statistics.

    loss: a scalar, and gradients: this process's terms of the sums; a process without an image
    has none of either. share: its part of the step's images, 0 to 1, and the weight of its
    statistics, which so are the same everywhere after every step. Returns the whole step's loss;
    one process's is what it was.

    All in one piece after the backward pass, not in buckets during it as torch's
    DistributedDataParallel does: until here no process has waited for another, so that any may run
    out of memory (out_of_memory_together), or have no image or fewer batches than another. That
    costs a transfer a step, 124 MB at the default width, which DDP would hide behind computing.
    """
    if world_size() == 1:
        return loss
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters]
    statistics = running_statistics(model)
    if statistics:
        torch._foreach_mul_(statistics, share)
    whole = gradients[0].new_zeros(1) + loss
    all_reduce_sum([*gradients, *statistics, whole])
    return whole[0]
