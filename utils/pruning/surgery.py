"""Remove channels from a network: the smaller one computes what the dense one does without them.

A group is the channels of one layer, named by their position in `UNet.widths`. What has to be
removed with a channel follows from unet.widths.layers: its filter and bias, its entries in the
BatchNorm after it, and its columns in every layer that takes it. The output of an encoder block is
taken by two layers, the next block and, as the first part of the concatenation, the decoder's
block; the second part is the upsampled map. Bilinear upsampling has no channels of its own: its map
has those of the block below. The image's channels and the classes are never removed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from unet import UNet
from unet.widths import IMAGE, SCORES, UPSAMPLED, Layer, layers

Kept = Mapping[int, Tensor]  # of each group int64 indices of channels, ascending; absent: all


def groups(bilinear: bool) -> list[int]:
    """Return the groups whose channels can be chosen freely."""
    return [layer.output for layer in layers(bilinear)[:-1]]


def prune(model: UNet, kept: Kept) -> UNet:
    """Return the network with the kept channels only, in the model's mode, on its device.

    Before any training its logits are those of `model` with the outputs of the removed channels,
    after ReLU, set to zero. Raises ValueError for a group that is none of `groups`, and for
    channels that do not exist, repeat, are not ascending, or are none at all.
    """
    chosen = _all_channels(model)
    for group, channels in kept.items():
        if group not in groups(model.bilinear):
            raise ValueError(f'group {group} cannot be chosen; expected {groups(model.bilinear)}')
        _check(group, channels, model.widths[group])
        chosen[group] = channels
    if model.bilinear:
        chosen |= {up: chosen[up - 1] for up in UPSAMPLED}
    widths = [len(chosen[group]) for group in range(len(model.widths))]
    first = next(model.parameters())
    with torch.device('meta'):  # no memory, no time and no numbers for random weights
        smaller = UNet(
            model.n_channels, model.n_classes, model.bilinear, padding=model.padding,
            norm=model.norm, dropout=model.dropout, widths=widths,
        )  # fmt: skip
    smaller.to(first.dtype).to_empty(device=first.device)
    smaller.load_state_dict(_pruned_state(model, chosen))
    smaller.use_checkpointing(model.checkpointing)
    return smaller.train(model.training)


def _all_channels(model: UNet) -> dict[int, Tensor]:
    found = {group: torch.arange(width) for group, width in enumerate(model.widths)}
    found[IMAGE] = torch.arange(model.n_channels)
    found[SCORES] = torch.arange(model.n_classes)
    return found


def _check(group: int, channels: Tensor, width: int) -> None:
    listed = channels.tolist()
    if not listed or listed != sorted(set(listed)) or not 0 <= listed[0] <= listed[-1] < width:
        raise ValueError(
            f'group {group} is to keep {listed}; expected ascending channels from 0 to {width - 1}'
        )


def _columns(layer: Layer, chosen: Mapping[int, Tensor], widths: list[int]) -> Tensor:
    """Return the positions of the chosen channels among the inputs of a layer, int64.

    chosen: channels of each group, IMAGE included. widths: the dense network's.
    """
    found, start = [], 0
    for group in layer.inputs:
        found.append(chosen[group] + start)
        start += widths[group] if group != IMAGE else 0
    return torch.cat(found)


def _pruned_state(model: UNet, chosen: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """Return the state_dict of the smaller network."""
    state = model.state_dict()
    for layer in layers(model.bilinear):
        rows, taken = chosen[layer.output], _columns(layer, chosen, model.widths)
        weight = state[f'{layer.name}.weight']
        rows, taken = rows.to(weight.device), taken.to(weight.device)
        across = (0, 1) if layer.transposed else (1, 0)  # the axes of inputs and outputs
        weight = weight.index_select(across[0], taken).index_select(across[1], rows)
        state[f'{layer.name}.weight'] = weight
        entries = [f'{layer.name}.bias']
        if layer.norm:
            entries += [
                f'{layer.norm}.{k}' for k in ('weight', 'bias', 'running_mean', 'running_var')
            ]
        for name in entries:
            if name in state:
                state[name] = state[name].index_select(0, rows)
    return state
