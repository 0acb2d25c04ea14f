"""One step over several processes: what each has computed from its images becomes the whole."""

import torch
from torch import Tensor, nn

from .batchnorm import running_statistics
from .distributed import add_up, size


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
    if size() == 1:
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
    add_up([*gradients, *statistics, whole])
    return whole[0]
