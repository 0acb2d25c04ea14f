"""Channels of the layers of a U-Net, as data: widths, the layers between them, and their cost.

A network's widths are 22 numbers in the order of its layers: for inc and down1 to down4 the
channels after the first and after the second convolution; then for up1 to up4 the channels after
upsampling, after the first and after the second convolution. Bilinear upsampling keeps channels:
there the channels after upsampling are those of the block below.

Imports no torch. H and W are pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .sizes import output_side

COUNT = 22
IMAGE, SCORES = -2, -1  # positions after the widths: n_channels and n_classes
ENCODER = ('inc', *(f'down{k}.maxpool_conv.1' for k in range(1, 5)))
UPSAMPLED = (10, 13, 16, 19)  # positions of the channels after upsampling


@dataclass(frozen=True)
class Layer:
    """A convolution: its name in the network, and the positions of its channels in the widths.

    inputs: one position, or two whose channels are concatenated in this order.
    """

    name: str
    inputs: tuple[int, ...]
    output: int

    @property
    def transposed(self) -> bool:
        """Whether it upsamples; its weight is (inputs, outputs, 2, 2)."""
        return self.name.endswith('.up')

    @property
    def norm(self) -> str | None:
        """Name of the BatchNorm (or Identity) after it, None if there is none."""
        return None if self.output == SCORES or self.transposed else self._after(1)

    @property
    def activation(self) -> str:
        """Name of the module whose output the next layers take."""
        return self.name if self.norm is None else self._after(2)

    def _after(self, steps: int) -> str:
        block, _, number = self.name.rpartition('.')
        return f'{block}.{int(number) + steps}'


def layers(bilinear: bool = False) -> list[Layer]:
    """Return the convolutions in the order of the forward pass."""
    found = []
    before = IMAGE
    for level, block in enumerate(ENCODER):
        mid, out = 2 * level, 2 * level + 1
        found.append(Layer(f'{block}.double_conv.0', (before,), mid))
        found.append(Layer(f'{block}.double_conv.3', (mid,), out))
        before = out
    for k, up in enumerate(UPSAMPLED):
        block, skip, mid, out = f'up{k + 1}', 7 - 2 * k, up + 1, up + 2
        if not bilinear:
            found.append(Layer(f'{block}.up', (before,), up))
            before = up
        found.append(Layer(f'{block}.conv.double_conv.0', (skip, before), mid))
        found.append(Layer(f'{block}.conv.double_conv.3', (mid,), out))
        before = out
    return [*found, Layer('outc.conv', (before,), SCORES)]


def default_widths(base_channels: int, bilinear: bool = False) -> list[int]:
    """Return the widths of a network that doubles its channels at each level down."""
    c = base_channels
    down = [n * c for n in (1, 1, 2, 2, 4, 4, 8, 8)]
    if bilinear:  # interpolation keeps channels, so the blocks halve them
        return down + [n * c for n in (8, 8, 8, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1, 1)]
    return down + [n * c for n in (16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1)]


def check_widths(widths: Sequence[int], bilinear: bool = False) -> None:
    """Raise ValueError unless these are 22 whole numbers from 1 that make a network."""
    if len(widths) != COUNT or not all(type(w) is int and w > 0 for w in widths):
        raise ValueError(f'widths are {list(widths)}; expected {COUNT} whole numbers from 1')
    if bilinear and list(widths) != follow_below(widths):
        raise ValueError(
            f'widths are {list(widths)}; bilinear upsampling keeps channels, so those after '
            f'upsampling must be those of the block below: {follow_below(widths)}'
        )


def follow_below(widths: Sequence[int]) -> list[int]:
    """Return widths whose channels after upsampling are those of the block below (bilinear)."""
    followed = list(widths)
    for up in UPSAMPLED:
        followed[up] = followed[up - 1]  # the block before this one is the one below it
    return followed


def layer_pixels(size: tuple[int, int], bilinear: bool = False, padding: str = 'same') -> list[int]:
    """Return the pixels H x W of each layer's output, in the order of `layers`, for one image.

    size: (height, width) of the image. Raises ValueError for one that a network without padding
        cannot take.
    """
    sides = [_layer_sides(side, bilinear, padding) for side in size]
    return [height * width for height, width in zip(*sides, strict=True)]


def _layer_sides(side: int, bilinear: bool, padding: str) -> list[int]:
    if padding != 'same':
        output_side(side)  # which refuses sides that are not possible
    lost = 0 if padding == 'same' else 2  # by a 3 x 3 convolution
    found, skips = [], []
    for level in range(5):
        side = side // 2 if level else side
        found += [side - lost, side - 2 * lost]
        side -= 2 * lost
        skips.append(side)
    for skip in reversed(skips[:-1]):
        side *= 2
        if not bilinear:
            found.append(side)
        side = skip if padding == 'same' else side  # odd sizes are padded
        found += [side - lost, side - 2 * lost]
        side -= 2 * lost
    return [*found, side]


def multiply_adds(
    widths: Sequence[int],
    size: tuple[int, int] = (16, 16),
    n_channels: int = 3,
    n_classes: int = 2,
    bilinear: bool = False,
    padding: str = 'same',
) -> int:
    """Return the multiplications of all convolutions for one image of `size` (height, width).

    The network of width 64 with 2 classes takes 735,040 a pixel where sides are multiples of 16.
    """
    channels = [*widths, n_channels, n_classes]
    pixels = layer_pixels(size, bilinear, padding)
    total = 0
    for layer, area in zip(layers(bilinear), pixels, strict=True):
        taps = 9 if layer.norm else 1  # of 2 x 2 transposed ones, one reaches each output pixel
        total += taps * area * channels[layer.output] * sum(channels[k] for k in layer.inputs)
    return total
