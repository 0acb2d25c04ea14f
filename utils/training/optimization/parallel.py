"""Data parallelism: each rank trains a replica of the network on its part of each step.

A step communicates twice. While the forward pass runs, a few numbers are gathered (`StepTotals`);
while the backward pass runs, torch's DistributedDataParallel (DDP) sums the gradients in buckets.
The loss and BatchNorm's running statistics ride in the first bucket (`Replica.carry`), so that they
are equal on all ranks after each step at no further collective: 48 kB beside 124 MB of gradients at
the default width.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unet import UNet
from utils.runtime import distributed
from utils.runtime.distributed import world_size

from .batchnorm import running_statistics
from .loss import Totals


class StepTotals:
    """Totals of the masks of a step on all ranks, gathered while the forward pass runs.

    own: those of this rank's micro-batches. Reading them waits for the device only if the masks
    were summed there (--cache device).
    flags: whole numbers, as many on every rank, of which all ranks learn the maximum.
    """

    def __init__(self, own: Totals, flags: Sequence[int] = ()) -> None:
        self.own = own
        self._gathering = None
        if world_size() > 1:
            self._gathering = distributed.Gathering([float(own.weight), float(own.pixels), *flags])

    def wait(self) -> Totals:
        """Return the totals of all ranks, of the types of `own`."""
        if self._gathering is None:
            return self.own
        weight, pixels, *_ = self._gathering.wait().sum(dim=0)
        return Totals(weight.to(self.own.weight.dtype), pixels.to(self.own.pixels.dtype))

    def flags(self) -> list[int]:
        """Return the maximum of each flag over the ranks."""
        if self._gathering is None:
            return []
        return [int(flag) for flag in self._gathering.wait()[:, 2:].amax(dim=0)]


class Replica(DistributedDataParallel):
    """This rank's copy of a network, called like it; rank 0's parameters are copied to all.

    Gradients are sums over ranks, not DDP's averages: losses are parts of a step's loss. They stay
    in the buckets (gradient_as_bucket_view). `static_graph` is left out: it would save the search
    for unused parameters, of which a U-Net has none, and fails when accumulation begins with
    `no_sync`. `broadcast_buffers` is off, because running statistics are averaged instead.
    """

    def __init__(self, model: UNet) -> None:
        # torch 2.14 has renamed the option.
        named = 'forward_sync_buffers' in inspect.signature(DistributedDataParallel).parameters
        buffers = 'forward_sync_buffers' if named else 'broadcast_buffers'
        options: dict[str, Any] = {buffers: False, 'gradient_as_bucket_view': True}
        with distributed.lost_process_reported():
            super().__init__(_Carrier(model), **options)
        self.padding = model.padding  # which logits_of asks for
        self.statistics = running_statistics(model)
        self.register_comm_hook(None, self._sum_bucket)

    def carry(self, loss: Tensor, whole: Tensor, fraction: float) -> Tensor:
        """Return `loss`, whose backward pass sends the loss and running statistics to all ranks.

        loss: of the last micro-batch, perhaps scaled. whole: this rank's part of the step's loss, a
            scalar. fraction: of the step's images on this rank, 0 to 1: its statistics' weight.
        """
        riding: nn.Parameter = self.module.riding
        riding.grad = None
        weighted = torch._foreach_mul(self.statistics, fraction) if self.statistics else []
        values = torch.cat([*(part.flatten() for part in weighted), whole.reshape(1).to(riding)])
        return _Ride.apply(loss, riding, values)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients. Raises LostProcessError where another rank has ended."""
        self.failure: RuntimeError | None = None
        with distributed.lost_process_reported(lambda: self.failure):
            loss.backward()

    def collect(self) -> Tensor:
        """Set the running statistics to their averages, and return the loss of all ranks."""
        sums = self.module.riding.grad
        if self.statistics:
            parts = sums[:-1].split([part.numel() for part in self.statistics])
            shaped = [p.view(s.shape) for p, s in zip(parts, self.statistics, strict=True)]
            torch._foreach_copy_(self.statistics, shaped)
        return sums[-1].clone()

    def _sum_bucket(
        self, state: None, bucket: dist.GradBucket
    ) -> torch.futures.Future[torch.Tensor]:
        return distributed.sum_bucket(bucket.buffer()).then(self._summed)

    def _summed(self, future: torch.futures.Future) -> Tensor:
        try:
            return future.value()[0]
        except RuntimeError as error:  # which the backward pass raises as an error of its own
            self.failure = error
            raise


class _Carrier(nn.Module):
    """A network beside a parameter whose gradient takes what rides along.

    It is the last parameter, because DDP fills its buckets from the end, where a backward pass
    begins.
    """

    def __init__(self, model: UNet) -> None:
        super().__init__()
        self.model = model
        size = 1 + sum(part.numel() for part in running_statistics(model))
        self.riding = nn.Parameter(next(model.parameters()).new_zeros(size))

    def forward(self, images: Tensor, every_level: bool = False) -> Tensor | list[Tensor]:
        """Return what UNet.forward does."""
        return self.model(images, every_level)


class _Ride(torch.autograd.Function):
    """The identity of a loss; its backward pass gives a parameter the values as its gradient."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, riding: Tensor, values: Tensor) -> Tensor:
        """Return the loss, a scalar. riding, values: (N,)."""
        ctx.save_for_backward(values)
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        """Return the gradients of loss, riding and values."""
        (values,) = ctx.saved_tensors
        return gradient, values, None
