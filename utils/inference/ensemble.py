"""Several trained networks whose probabilities are averaged."""

from utils.images.pixel_range import widest_range
from utils.runtime.errors import UserError

from .predictor import Predictor


def average_predictors(predictors: list[Predictor], names: list[str]) -> Predictor:
    """Return the first predictor, changed to average the probabilities of all.

    Where their ranges of pixel values differ, as those of the folds of a cross-validation do,
    images are read in a range that holds all, and each network gets its own. Raises UserError,
    with `names`, if they take different images or predict different classes.
    """
    first = predictors[0]
    for other, name in zip(predictors[1:], names[1:], strict=True):
        compared = {
            'channels': (first.model.n_channels, other.model.n_channels),
            'outputs': (first.model.n_classes, other.model.n_classes),
            'mask values': (first.masks.values, other.masks.values),
            'class names': (first.masks.names, other.masks.names),
            'scale': (first.scale, other.scale),
            'images decoded as by the original:': (first.as_original, other.as_original),
            'a range of pixel values:': (bool(first.image_range), bool(other.image_range)),
        }
        wrong = [f'{what} {one} and {two}' for what, (one, two) in compared.items() if one != two]
        if wrong:
            raise UserError(
                f'{names[0]} and {name} cannot be averaged: {", ".join(wrong)}. Use networks with '
                'the same classes, channels and scale (--scale sets one scale for all).'
            )
    first.models = [predictor.model for predictor in predictors]
    first.networks = [*first.models]
    first.ranges = [predictor.image_range for predictor in predictors]
    first.image_range = widest_range([known for known in first.ranges if known])
    return first
