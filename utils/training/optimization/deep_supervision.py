"""Deep supervision: the coarser levels of the decoder learn the classes, too.

Each level has scores of the classes, a fixed random projection of its map, and all levels have one
loss beside the network's (Lee et al. 2015, https://arxiv.org/abs/1409.5185). A projection is
nothing to train, to save, or to send to other ranks, and the features before it fit themselves to
it (Hoffer et al. 2018, https://arxiv.org/abs/1801.04540); learned ones gained as much (dev/LOG.md).
Axis letters: B batch, C channels, H and W pixels, K classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from unet import UNet

from .loss import Totals

WIDTHS = (18, 15, 12)  # positions of the channels of up3, up2 and up1 in a network's widths
WEIGHT = 0.7  # of their loss


class DeepSupervision:
    """The loss of the decoder's coarser levels, of a network without context (padding 'same')."""

    def __init__(self, model: UNet, criterion: Callable[..., Tensor]) -> None:
        like = next(model.parameters())
        self.criterion = criterion
        self.projections = [
            _projection(model.n_classes, model.widths[position], position).to(like)
            for position in WIDTHS
        ]

    def scores(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return scores (B, K, h, w) of the maps (B, C, h, w) of up3, up2 and up1."""
        pairs = zip(maps, self.projections, strict=True)
        return [F.conv2d(level, projection.to(level.dtype)) for level, projection in pairs]

    def __call__(self, scores: Sequence[Tensor], masks: Tensor, totals: Totals) -> Tensor:
        """Return the weighted loss of all levels' pixels, as if of one image, a scalar.

        scores: as above. masks: (B, H, W) class indices or IGNORE, of which every second, fourth
            and eighth pixel is taken. totals: of the masks of all micro-batches.

        One loss for all levels takes a third of the launches of one each.
        """
        smaller = [
            masks[:, :: 2**k, :: 2**k][:, : level.shape[2], : level.shape[3]].flatten(1)
            for k, level in enumerate(scores, start=1)
        ]
        share = sum(4.0**-k for k in range(1, len(scores) + 1))  # of the image's pixels
        loss = self.criterion(
            torch.cat([level.flatten(2) for level in scores], dim=2).unsqueeze(3),
            torch.cat(smaller, dim=1).unsqueeze(2),
            totals=Totals(*(share * total for total in totals)),
        )
        return WEIGHT * loss


def _projection(classes: int, channels: int, seed: int) -> Tensor:
    """Return filters (K, C, 1, 1) of length 1 that add up to 0: maps after a ReLU have a mean."""
    generator = torch.Generator().manual_seed(seed)
    filters = torch.randn(classes, channels, generator=generator)
    filters -= filters.mean(1, keepdim=True)
    return F.normalize(filters)[:, :, None, None]
