"""Scores of instances (cells) in a mask. Axis letters: H and W pixels."""

import numpy as np

from utils.masks.components import label_components


def count_merged(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Return how many true cells are found, how many of these are merged, and how many there are.

    predicted, truth: (H, W) integers, 0 the background; cells are connected components. A true
    cell is found in the predicted component that covers most of it, if that covers at least half
    of its pixels. It is merged if another cell is found in the same component.
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
