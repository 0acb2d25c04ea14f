"""How many cells a mask takes for one with another. Axis letters: H and W pixels."""

import numpy as np

from utils.masks.components import label_components


def count_merged(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Of two masks: true cells that are found, those of them that are merged, and all there are.

    predicted, truth: (H, W) integers, 0 the background; cells are their connected pieces. A true
    cell is found in the predicted piece that has most of its pixels, if that has at least half of
    them; it is merged where another is found in the same piece.
    """
    cells, pieces = label_components(truth), label_components(predicted)
    shared = np.zeros((cells.max() + 1, pieces.max() + 1), dtype=np.int64)
    np.add.at(shared, (cells.ravel(), pieces.ravel()), 1)
    sizes = shared[1:].sum(axis=1)
    shared = shared[1:, 1:]
    if not shared.size:
        return 0, 0, len(sizes)
    piece = shared.argmax(axis=1)
    found = 2 * shared.max(axis=1) >= sizes
    held = np.bincount(piece[found], minlength=shared.shape[1])
    return int(found.sum()), int(held[held > 1].sum()), len(sizes)
