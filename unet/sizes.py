"""Input and output sizes of a U-Net without padding.

Each 3 x 3 convolution removes one pixel on every side: 572 x 572 pixels give 388 x 388 class scores
(figure 1 of https://arxiv.org/abs/1505.04597). The four poolings need even sides, so that possible
input sides are 188, 204, 220, … pixels.
"""

DEPTH = 4  # poolings
LOST = 4  # pixels that the two convolutions of a level remove from a side
CONTEXT = 92  # pixels of the input around the output, on each side


def deepest_side(output: int) -> int:
    """Return the side at the deepest level, before its convolutions, for `output` scores."""
    side = output
    for _ in range(DEPTH):
        side = -(-(side + LOST) // 2)
    return side + LOST


def input_side(output: int) -> int:
    """Return the smallest possible input side that gives `output` scores or more, from 1."""
    side = deepest_side(output)
    for _ in range(DEPTH):
        side = 2 * side + LOST
    return side


def output_side(side: int) -> int:
    """Return the number of scores that an input side of `side` pixels gives.

    Raises ValueError, naming the nearest possible sides, if `side` is not possible.
    """
    possible = side - 2 * CONTEXT
    if possible < 1 or input_side(possible) != side:
        raise ValueError(
            f'without padding the network takes sides of {input_side(1)}, '
            f'{input_side(1) + 2**DEPTH}, … pixels, got {side}; the nearest are '
            f'{" and ".join(map(str, nearest_inputs(side)))}'
        )
    return possible


def nearest_inputs(side: int) -> list[int]:
    """Return the possible input sides below and above `side`, or the two smallest ones."""
    smallest, step = input_side(1), 2**DEPTH
    if side < smallest:
        return [smallest, smallest + step]
    below = smallest + (side - smallest) // step * step
    return [below, below + step]
