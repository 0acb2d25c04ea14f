"""Thinning of the borders between objects to lines of one pixel. Axis letters: H and W pixels.

Borders lose their outermost pixels from the north, south, east and west in turn, those that may go
without joining two objects and are no end of a line: Rosenfeld, "A characterization of parallel
thinning algorithms", Information and Control 29 (1975), proves that this keeps what is connected.
"""

import numpy as np

# Row and column of the neighbours, clockwise from the north.
NEIGHBOURS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
DIRECTIONS = (0, 4, 2, 6)  # north, south, east, west


def _make_table() -> np.ndarray:
    """Return (256,) bool: whether a pixel with these border neighbours (bit k: the k-th) may go.

    The objects around it must be one, connected by shared edges, and two neighbours be border.
    """
    free = 1 - (np.arange(256)[:, None] >> np.arange(8) & 1)  # (256, 8)
    diagonal, straight = np.roll(free, -1, axis=1), np.roll(free, -2, axis=1)
    parts = (free - free * diagonal * straight)[:, ::2].sum(axis=1)
    return (parts == 1) & (free.sum(axis=1) < 7)


MAY_GO = _make_table()


def thin_borders(labels: np.ndarray) -> np.ndarray:
    """Return a label image (H, W) whose objects have grown until lines of one pixel part them.

    labels: integers; border is where they are 0. The surroundings of the image are border, too, so
    that lines keep reaching its edge. The time is linear in the pixels: each round looks only at
    the neighbours of pixels that the last round removed.
    """
    padded = np.pad(labels, 1)
    grown, border = padded.ravel(), padded.ravel() == 0
    inside = np.pad(np.ones(labels.shape, dtype=bool), 1).ravel()
    steps = np.array([row * padded.shape[1] + column for row, column in NEIGHBOURS])
    mark = np.zeros(len(grown), dtype=np.int64)
    active = np.flatnonzero(border & inside)
    while len(active):
        removed = []
        for step in steps[list(DIRECTIONS)]:
            pixels = active[border[active] & ~border[active + step]]
            around = np.packbits(border[pixels[:, None] + steps], axis=1, bitorder='little')
            pixels = pixels[MAY_GO[around[:, 0]]]
            grown[pixels] = grown[pixels + step]
            border[pixels] = False
            removed.append(pixels)
        near = (np.concatenate(removed)[:, None] + steps).ravel()
        near = near[border[near] & inside[near]]
        order = np.arange(len(near))
        mark[near] = order
        active = near[mark[near] == order]  # each once
    return grown.reshape(padded.shape)[1:-1, 1:-1]
