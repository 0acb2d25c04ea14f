"""A network that predicts one class everywhere has stopped learning; say so early."""

import torch
from torch import Tensor

from .metrics import FN, FP, TP

PATIENCE = 3  # validations in a row: the first may well come before anything is learned


class CollapseWatch:
    """Counts validations in a row in which every pixel of every image got one and the same class.

    titles: the names of the classes, or else their mask values. A run that is resumed counts anew.
    """

    def __init__(self, titles: list[str]):
        self.titles, self.in_a_row = titles, 0

    def warning(self, counts: Tensor) -> str | None:
        """What to tell the user after a validation, once, when PATIENCE is reached.

        counts: (N, K, 3) of utils.metrics. A truth that is one class everywhere is no collapse.
        """
        total = counts.sum(dim=0)  # (K, 3)
        predicted = torch.nonzero(total[:, TP] + total[:, FP]).flatten().tolist()
        truth = torch.nonzero(total[:, TP] + total[:, FN]).flatten().tolist()
        collapsed = len(predicted) == 1 and predicted != truth
        self.in_a_row = self.in_a_row + 1 if collapsed else 0
        if self.in_a_row != PATIENCE:
            return None
        return (
            f'warning: every pixel of {PATIENCE} validations was predicted as '
            f'{self.titles[predicted[0]]}. Look at samples.png: do the masks belong to the '
            'images? Then try another --learning-rate, or --loss-weights auto for a class that '
            'is small.'
        )
