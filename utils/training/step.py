"""One optimizer step: forward and backward pass, gradients of all ranks, update.

Axis letters: B batch, C channels, H and W pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from unet import MIN_SIZE
from utils.data.dataloader import ShuffledBatchSampler, to_device
from utils.inference.logits import logits_of
from utils.masks.encoding import IGNORE
from utils.masks.weight_map import from_bytes
from utils.runtime.distributed import rank, world_size
from utils.runtime.errors import UserError, first_few
from utils.runtime.memory import one_out_of_memory_error
from utils.runtime.precision import MixedPrecision

from .optimization.deep_supervision import DeepSupervision
from .optimization.guard import StepGuard
from .optimization.loss import Totals, segmentation_loss, sum_totals
from .optimization.parallel import Replica, StepTotals
from .state import TrainState

SMALLEST_HALVED = 4 * MIN_SIZE  # pixels; smaller images have too little left when halved

MicroBatch = dict[str, Tensor]  # of the dataloader; TrainStep takes tuples on the device


@dataclass
class TrainStep:
    """Forward and backward pass and update of one global batch.

    network: the model, or the compiled one; of several ranks its Replica, or the compiled one.
    criterion: gives the loss from logits, masks and, with a weight map, border weights; and, given
        the totals of `sum_totals`, the share of a micro-batch in the loss of a step.
    max_gradient_norm: longer gradients are clipped to this.
    supervision: adds losses of the decoder's coarser levels, which the reported loss leaves out.
    """

    network: nn.Module
    optimizer: Optimizer
    precision: MixedPrecision
    guard: StepGuard
    criterion: Callable[..., Tensor] = segmentation_loss
    max_gradient_norm: float = 1.0
    sum_totals: Callable[[Iterable[tuple[Tensor, ...]]], Totals] = sum_totals
    supervision: DeepSupervision | None = None

    def __call__(
        self,
        micro_batches: Sequence,
        images: int,
        totals: StepTotals | None = None,
        load: Callable[..., tuple[Tensor, ...]] = tuple,
        filler: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the gradient norm before clipping, scalars on the device.

        micro_batches: this rank's, as many as any other rank's. `load` makes each images
            (B, C, H, W) float in [0, 1], masks (B, H, W) of class indices or IGNORE, and border
            weights (B, H, W) where there is a weight map, on the device.
        images: number of images in the global batch, by which ranks weigh BatchNorm's statistics.
        totals: of all masks of the step; by default they are summed here.
        filler: the first micro-batch is one: its masks are all IGNORE.
        A loss or gradient that is not finite becomes a gradient of zero (see StepGuard).
        """
        if totals is None:
            all_masks = ((masks, *border) for _, masks, *border in map(load, micro_batches))
            totals = self.totals(len(micro_batches), all_masks)
        self.guard.before_step()
        self.optimizer.zero_grad(set_to_none=True)
        loss: Tensor | float = 0.0
        own_images = 0
        for k, batch in enumerate(micro_batches):
            pictures, masks, *border = load(batch)
            last = k == len(micro_batches) - 1
            with self._gathering_gradients(last):
                logits, scores = self._forward(pictures, masks)
                own_images += 0 if filler and k == 0 else len(pictures)
                known = {'totals': totals.wait()} if totals else {}
                part_loss = self.criterion(logits, masks, *border, **known)
                loss = loss + part_loss.detach()
                if self.supervision:
                    total = known.get('totals') or self.sum_totals([(masks, *border)])
                    part_loss = part_loss + self.supervision(scores, masks, total)
                self._backward(part_loss, loss, own_images / images if last else None)
            if filler and k == 0:  # not before the backward pass, which needs the statistics
                self.guard.undo()
        loss = self.replica.collect() if self.replica else torch.as_tensor(loss)
        self.precision.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.guard.parameters, self.max_gradient_norm)
        self.guard.check(loss, norm)
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        return loss, norm

    def _forward(self, pictures: Tensor, masks: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits, and the scores of the levels that are supervised beside them."""
        with self.precision.autocast():
            if self.supervision is None:
                return logits_of(self.network, pictures, (masks.shape[1], masks.shape[2])), []
            logits, *maps = self.network(pictures, every_level=True)
            return logits, self.supervision.scores(maps)

    @property
    def replica(self) -> Replica | None:
        """The network's replica on this rank; None in one process."""
        network = getattr(self.network, '_orig_mod', self.network)  # of the compiled one
        return network if isinstance(network, Replica) else None

    def totals(
        self, count: int, masks: Iterable[tuple[Tensor, ...]], flags: Sequence[int] = ()
    ) -> StepTotals | None:
        """Return the totals of `count` micro-batches' masks and border weights, without waiting.

        None for one micro-batch of one process, which needs none. flags: see StepTotals.
        """
        alone = count == 1 and world_size() == 1
        return None if alone else StepTotals(self.sum_totals(masks), flags)

    def _gathering_gradients(self, last: bool) -> AbstractContextManager:
        """Let the ranks sum their gradients in the last micro-batch's backward pass alone."""
        return nullcontext() if last or self.replica is None else self.replica.no_sync()

    def _backward(self, part_loss: Tensor, loss: Tensor, fraction: float | None) -> None:
        """Add the gradients of a micro-batch; with the last one's, send what rides along."""
        scaled = self.precision.scaler.scale(part_loss)
        if self.replica is None:
            scaled.backward()
            return
        if fraction is not None:
            scaled = self.replica.carry(scaled, loss, fraction)
        self.replica.backward(scaled)

    def undo(self) -> None:
        """Take back what an unfinished step has changed, so that it can be computed again."""
        self.guard.undo()
        self.precision.renew_scaler()
        self.optimizer.zero_grad(set_to_none=True)


@dataclass
class StepRunner:
    """Computes the steps of a run from the dataloader's micro-batches.

    When memory runs out in one process, the same step is computed again with activation
    checkpointing, which then stays on. coarse: part of the run, 0 to 1, that begins it at half the
    resolution.
    """

    state: TrainState
    step: TrainStep
    sampler: ShuffledBatchSampler
    seed: int
    scale: float
    coarse: float
    _riding: list[int] = field(default_factory=list)  # this rank's flags, for the next step
    _agreed: list[int] = field(default_factory=list)  # the maximum of those that rode last

    def run_step(self, micro_batches: list[MicroBatch]) -> tuple[Tensor, int]:
        """Compute and count the next step; return its loss, a scalar, and its number of images."""
        position = self.state.step_in_epoch
        images = self.sampler.images_in_step(position)
        filler = self.sampler.ends_with_filler(position)
        if filler:
            micro_batches = [emptied(micro_batches[-1]), *micro_batches[:-1]]
        if self.state.model.dropout:  # so that a resumed run draws the same numbers
            rng = np.random.default_rng((self.seed, self.state.step, rank()))
            torch.manual_seed(int(rng.integers(2**63)))
        try:
            with one_out_of_memory_error():
                masks = map(self.masks, micro_batches)
                # Flags of the epoch before have been dealt with at its end.
                flags = self._riding if position else [0] * len(self._riding)
                totals = self.step.totals(len(micro_batches), masks, flags)
                loss, _ = self.step(micro_batches, images, totals, self.on_device, filler)
        except torch.OutOfMemoryError as error:
            failure = str(error).splitlines()[0]
        else:
            self._agreed = totals.flags() if totals else []
            self.state.advance()
            return loss, images
        # Outside `except`, whose traceback would keep every activation alive.
        self._enable_checkpointing(micro_batches, failure)
        return self.run_step(micro_batches)

    def agree(self, *flags: int) -> list[int]:
        """Return each flag's maximum over all ranks; call it once after each step.

        In one process it is that of now. Of several ranks, the flags ride on the next step's
        totals: all learn of them one step later, without a collective for it.
        """
        if world_size() == 1:
            return list(flags)
        agreed = self._agreed or [0] * len(flags)
        # A flag that all have just learned of has done its work.
        pairs = zip(flags, agreed, strict=True)
        self._riding = [flag if flag > known else 0 for flag, known in pairs]
        return agreed

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
        """Return the masks of on_device, and border weights as bytes, where they were loaded."""
        masks = batch['mask']
        if 'border' in batch:
            return masks, batch['border']
        halved = self._is_coarse() and can_be_halved(batch['image'], masks)
        return (masks[:, ::2, ::2] if halved else masks,)

    def _enable_checkpointing(self, micro_batches: list[MicroBatch], failure: str) -> None:
        """Turn on activation checkpointing; raise UserError where that cannot help."""
        model = self.state.model
        sizes = {f'{b["image"].shape[3]} x {b["image"].shape[2]}' for b in micro_batches}
        tried = (
            f'batch size {self.sampler.batch_size}, images of {first_few(sorted(sizes))}, '
            f'{self.state.precision.name}'
        )
        # Other ranks wait for the gradients of this step, or have made it already.
        if model.checkpointing or world_size() > 1:
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


def emptied(batch: MicroBatch) -> MicroBatch:
    """Return a micro-batch none of whose pixels counts, with which a rank fills its turn."""
    empty = {'mask': torch.full_like(batch['mask'], IGNORE)}
    if 'border' in batch:
        empty['border'] = torch.zeros_like(batch['border'])
    return batch | empty


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
