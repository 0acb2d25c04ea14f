"""Sizes of a U-Net without padding: each 3 x 3 convolution takes a pixel off every side.

572 x 572 pixels become 388 x 388 class scores (figure 1 of https://arxiv.org/abs/1505.04597). An
input is possible where all four poolings meet even sides, which here is where the sides are 188,
204, 220, … pixels.
"""

DEPTH = 4  # poolings
LOST = 4  # pixels of a side that the two convolutions of a level take
# What an output lacks of its input on the left and at the top, and no less on the other two sides.
CONTEXT = 92


def deepest_side(output: int) -> int:
    """The side at the deepest level, before its convolutions, for at least `output` scores."""
    side = output
    for _ in range(DEPTH):
        side = -(-(side + LOST) // 2)
    return side + LOST


def input_side(output: int) -> int:
    """The smallest possible side of an input that gives at least `output` scores, from 1."""
    side = deepest_side(output)
    for _ in range(DEPTH):
        side = 2 * side + LOST
    return side


def output_side(side: int) -> int:
    """How many scores a side of so many pixels gives.

    Raises ValueError, with the nearest possible sides, for one that is not possible.
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
    """The two possible input sides nearest to `side`, which is none: below and above, if any."""
    smallest, step = input_side(1), 2**DEPTH
    if side < smallest:
        return [smallest, smallest + step]
    below = smallest + (side - smallest) // step * step
    return [below, below + step]
