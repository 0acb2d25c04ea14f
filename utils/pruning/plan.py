"""Which channels to keep for a given cost."""

import math

import torch
from torch import Tensor

from unet import UNet
from unet.widths import follow_below

from .surgery import Kept, groups


def choose_channels(
    model: UNet,
    importance: dict[int, Tensor],
    limit: float,
    size: tuple[int, int],
    multiple: int = 8,
) -> Kept:
    """Return the channels to keep so that an image costs at most `limit` multiply-adds.

    importance: of the channels of each group, see importance. size: (height, width) of the images.
    multiple: widths that shrink become multiples of it, and no width falls below it.

    Channels go in portions that reach the next multiple, the least important ones of a group first.
    Next is always the portion with the least importance for each multiply-add that it saves with
    the widths of that moment, of a group that then keeps its even share, see `even_shares`. Raises
    ValueError if the smallest network costs more than `limit`.
    """
    order = {group: importance[group].argsort(stable=True) for group in groups(model.bilinear)}
    widths, shares = list(model.widths), even_shares(model, limit, size, multiple)
    while (now := model.multiply_adds(size, widths)) > limit:
        options = []
        for group, ranked in order.items():
            after = (widths[group] - 1) // multiple * multiple
            if after < shares[group]:
                continue
            less = [*widths[:group], after, *widths[group + 1 :]]
            less = follow_below(less) if model.bilinear else less
            first = model.widths[group] - widths[group]  # channels that are removed already
            portion = ranked[first : model.widths[group] - after]
            lost = importance[group][portion].sum().item()
            options.append((lost / (now - model.multiply_adds(size, less)), group, less))
        widths = min(options)[2]
    kept = {}
    for group, ranked in order.items():
        if removed := model.widths[group] - widths[group]:
            kept[group] = torch.sort(ranked[removed:]).values
    return kept


def even_shares(model: UNet, limit: float, size: tuple[int, int], multiple: int = 8) -> list[int]:
    """Return the widths of a network that costs at most `limit`, all in the same proportion.

    By importance alone, layers of 256 channels became bottlenecks of 8; of networks for four
    classes, those scored 7 points less on other pictures than evenly pruned ones (dev/LOG.md).
    Widths are rounded to multiples; none grows. Raises ValueError if no such network exists.
    """
    for percent in range(100, -1, -1):
        widths = _narrowed(model, percent / 100, multiple)
        if model.multiply_adds(size, widths) <= limit:
            return widths
    raise ValueError(
        f'no network of these groups costs at most {limit:.0f} multiply-adds; the cheapest takes '
        f'{model.multiply_adds(size, widths)}'
    )


def _narrowed(model: UNet, part: float, multiple: int) -> list[int]:
    """Return `part` of each width, rounded to a multiple of at least one, and none wider."""
    rounded = [multiple * max(1, round(part * width / multiple)) for width in model.widths]
    widths = [min(pair) for pair in zip(model.widths, rounded, strict=True)]
    return follow_below(widths) if model.bilinear else widths


def round_count(cost: float) -> int:
    """Return in how many rounds to reach a part of the cost: each keeps at least a quarter.

    One round and 12 epochs served for a quarter; more rounds were not compared (dev/LOG.md).
    """
    return max(1, math.ceil(round(math.log(1 / cost, 4), 9)))


def portion_of(widths: list[int]) -> int:
    """Return the number whose multiples widths become: 8, which processors like, or less.

    A network with few channels gets less, so that a quarter of its narrowest layer can be left.
    """
    return next(n for n in (8, 4, 2, 1) if n == 1 or 4 * n <= min(widths))


def least_cost(model: UNet, size: tuple[int, int]) -> int:
    """Return the multiply-adds of the smallest network that choose_channels can leave."""
    return model.multiply_adds(size, _narrowed(model, 0, portion_of(model.widths)))
