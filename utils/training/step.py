"""One optimizer step: forward and backward pass, gradients of all ranks, update.

Axis letters: B batch, C channels, H and W pixels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from unet import MIN_SIZE
from utils.data.dataloader import ShuffledBatchSampler, to_device
from utils.inference.logits import logits_of
from utils.masks.weight_map import from_bytes
from utils.runtime import distributed
from utils.runtime.distributed import rank, world_size
from utils.runtime.errors import UserError, first_few
from utils.runtime.memory import one_out_of_memory_error
from utils.runtime.precision import MixedPrecision

from .optimization.batchnorm import running_statistics
from .optimization.guard import StepGuard
from .optimization.loss import Totals, segmentation_loss, sum_totals
from .state import TrainState

SMALLEST_HALVED = 4 * MIN_SIZE  # pixels; smaller images have too little left when halved

MicroBatch = dict[str, Tensor]  # of the dataloader; TrainStep takes tuples on the device


@dataclass
class TrainStep:
    """Forward and backward pass and update of one global batch.

    network: the model, or the compiled one.
    criterion: gives the loss from logits, masks and, with a weight map, border weights; and, given
        the totals of `sum_totals`, the share of a micro-batch in the loss of a step.
    max_gradient_norm: longer gradients are clipped to this.
    """

    network: nn.Module
    optimizer: Optimizer
    precision: MixedPrecision
    guard: StepGuard
    criterion: Callable[..., Tensor] = segmentation_loss
    max_gradient_norm: float = 1.0
    sum_totals: Callable[[Iterable[tuple[Tensor, ...]]], Totals] = sum_totals

    def __call__(
        self,
        micro_batches: Iterable[tuple[Tensor, ...]],
        images: int,
        totals: Totals | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the gradient norm before clipping, scalars on the device.

        micro_batches: this rank's images (B, C, H, W) float in [0, 1], masks (B, H, W) of class
            indices or IGNORE, and border weights (B, H, W) where there is a weight map.
        images: number of images in the global batch; a micro-batch's loss counts by its fraction.
        totals: of all masks of the step, by which the micro-batches' losses count instead; those
            of a list are summed here.
        A loss or gradient that is not finite becomes a gradient of zero (see StepGuard).
        """
        if isinstance(micro_batches, list):
            all_masks = [(masks, *border) for _, masks, *border in micro_batches]
            totals = self.totals(len(all_masks), all_masks)
        self.guard.before_step()
        self.optimizer.zero_grad(set_to_none=True)
        loss: Tensor | float = 0.0
        fraction = 0.0
        with distributed.out_of_memory_on_all_ranks():
            for pictures, masks, *border in micro_batches:
                part = len(pictures) / images
                with self.precision.autocast():
                    logits = logits_of(self.network, pictures, (masks.shape[1], masks.shape[2]))
                if totals:
                    part_loss = self.criterion(logits, masks, *border, totals=totals)
                else:
                    part_loss = self.criterion(logits, masks, *border) * part
                self.precision.scaler.scale(part_loss).backward()
                loss, fraction = loss + part_loss.detach(), fraction + part
        loss = combine_ranks(self.network, loss, fraction)
        self.precision.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.max_gradient_norm)
        self.guard.check(loss, norm)
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        return loss, norm

    def totals(self, count: int, masks: Iterable[tuple[Tensor, ...]]) -> Totals | None:
        """Return the totals of `count` micro-batches' masks and border weights, without waiting.

        None for one micro-batch, which needs none, and on several ranks: each would have to wait
        for the others' totals before its first micro-batch.
        """
        return self.sum_totals(masks) if count > 1 and world_size() == 1 else None

    def undo(self) -> None:
        """Take back what an unfinished step has changed, so that it can be computed again."""
        self.guard.undo()
        self.precision.renew_scaler()
        self.optimizer.zero_grad(set_to_none=True)


@dataclass
class StepRunner:
    """Computes the steps of a run from the dataloader's micro-batches.

    When memory runs out, the same step is computed again with activation checkpointing, which then
    stays on. coarse: part of the run, 0 to 1, that begins it at half the resolution.
    """

    state: TrainState
    step: TrainStep
    sampler: ShuffledBatchSampler
    seed: int
    scale: float
    coarse: float

    def run_step(self, micro_batches: list[MicroBatch]) -> tuple[Tensor, int]:
        """Compute and count the next step; return its loss, a scalar, and its number of images."""
        images = self.sampler.images_in_step(self.state.step_in_epoch)
        if self.state.model.dropout:  # so that a resumed run draws the same numbers
            rng = np.random.default_rng((self.seed, self.state.step, rank()))
            torch.manual_seed(int(rng.integers(2**63)))
        try:
            with one_out_of_memory_error():
                totals = self.step.totals(len(micro_batches), map(self.masks, micro_batches))
                on_device = (self.on_device(batch) for batch in micro_batches)
                loss, _ = self.step(on_device, images, totals)
        except torch.OutOfMemoryError as error:
            failure = str(error).splitlines()[0]
            # Raised after the exchange of gradients: other ranks may have updated already.
            alone = world_size() > 1 and not isinstance(error, distributed.OutOfMemoryOnAnyRank)
        else:
            self.state.advance()
            return loss, images
        # Outside `except`, whose traceback would keep every activation alive.
        self._enable_checkpointing(micro_batches, failure, alone)
        return self.run_step(micro_batches)

    def on_device(self, batch: MicroBatch) -> tuple[Tensor, ...]:
        """Return a batch's images, masks and any border weights on the device."""
        device = self.state.precision.device
        images, masks = to_device(batch, device)
        if 'border' in batch:  # border weights have the full resolution, so no coarse steps
            return images, masks, from_bytes(batch['border'].to(device, non_blocking=True))
        return halve_resolution(images, masks) if self._is_coarse() else (images, masks)

    def _is_coarse(self) -> bool:
        return self.state.step < self.coarse * self.state.schedule.plan.fewest

    def masks(self, batch: MicroBatch) -> tuple[Tensor, ...]:
        """Return the masks of on_device, which takes the images to the device one batch at a time.

        With a weight map also border weights, as the dataloader's bytes.
        """
        masks = batch['mask'].to(self.state.precision.device, non_blocking=True)
        if 'border' in batch:
            return masks, batch['border']
        halved = self._is_coarse() and can_be_halved(batch['image'], masks)
        return (masks[:, ::2, ::2] if halved else masks,)

    def _enable_checkpointing(
        self, micro_batches: list[MicroBatch], failure: str, alone: bool
    ) -> None:
        """Turn on activation checkpointing; raise UserError where that cannot help."""
        model = self.state.model
        sizes = {f'{b["image"].shape[3]} x {b["image"].shape[2]}' for b in micro_batches}
        tried = (
            f'batch size {self.sampler.batch_size}, images of {first_few(sorted(sizes))}, '
            f'{self.state.precision.name}'
        )
        if model.checkpointing or alone:
            again = ', even with activation checkpointing' if model.checkpointing else ''
            raise UserError(
                f'out of memory with {tried}{again}: {failure}. '
                f'Try a smaller --batch-size (-b 1), --scale (-s {self.scale / 2:g}), or --amp. '
                'What was saved last continues with --resume.'
            )
        tqdm.write(f'note: out of memory with {tried}; activation checkpointing is on from here')
        self.step.undo()
        if self.state.step == 0:  # the first step may have allocated part of the optimizer's state
            self.step.optimizer.state.clear()
        model.use_checkpointing()
        self.step.network = model  # not the compiled one
        torch.cuda.empty_cache()


def combine_ranks(model: nn.Module, loss: Tensor | float, fraction: float) -> Tensor:
    """Sum gradients and loss over all ranks, and average BatchNorm's running statistics.

    loss: a scalar, this rank's term of the sum; 0 on a rank without an image.
    fraction: of the global batch on this rank, 0 to 1: the weight of its statistics.

    Return the loss of the global batch. All tensors are sent as one after the backward pass, not in
    buckets during it as by torch's DistributedDataParallel: until here no rank has waited for
    another, so any may run out of memory, or have fewer micro-batches than another. That costs a
    transfer a step, 124 MB at the default width, which DDP would hide behind computing.
    """
    if world_size() == 1:
        return torch.as_tensor(loss)
    gradients = []
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    statistics = running_statistics(model)
    if statistics:
        torch._foreach_mul_(statistics, fraction)
    whole = gradients[0].new_zeros(1) + loss
    distributed.all_reduce_sum([*gradients, *statistics, whole])
    return whole[0]


def halve_resolution(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return images (B, C, H, W) float and masks (B, H, W) at half the size, rounded up.

    A step on them takes a quarter of the time (dev/LOG.md). BatchNorm's statistics differ, and are
    re-estimated before they are used. Images are resized bilinearly with antialiasing; of masks
    every second pixel is taken. Both stay as they are where can_be_halved says so.
    """
    if not can_be_halved(images, masks):
        return images, masks
    height, width = masks.shape[1:]
    size = (-(-height // 2), -(-width // 2))
    smaller = F.interpolate(images, size, mode='bilinear', antialias=True)
    return smaller, masks[:, ::2, ::2]


def can_be_halved(images: Tensor, masks: Tensor) -> bool:
    """Return whether both have a half: not if H or W is under 64 pixels, or images have context.

    Of context beside the scored pixels, halving would leave too little.
    """
    return min(masks.shape[1:]) >= SMALLEST_HALVED and images.shape[2:] == masks.shape[1:]
