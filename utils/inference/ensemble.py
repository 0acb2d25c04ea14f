"""Several networks as one, which gives the average of their probabilities."""

from collections.abc import Sequence

from utils.runtime.errors import UserError

from .predictor import Predictor


def average(predictors: Sequence[Predictor], names: Sequence[object]) -> Predictor:
    """One predictor of networks that take the same images and tell the same classes.

    names: of the predictors, for the UserError where they do not fit together.
    """
    first = predictors[0]
    for other, name in zip(predictors[1:], names[1:], strict=True):
        facts = {
            'channels': (first.model.n_channels, other.model.n_channels),
            'outputs': (first.model.n_classes, other.model.n_classes),
            'mask values': (first.mask_values, other.mask_values),
            'class names': (first.masks.names, other.masks.names),
            'scale': (first.scale, other.scale),
        }
        wrong = [f'{what} {one} and {two}' for what, (one, two) in facts.items() if one != two]
        if wrong:
            raise UserError(
                f'{names[0]} and {name} cannot be averaged: {", ".join(wrong)}. Give networks that '
                'were trained alike (--scale sets one scale for all).'
            )
    first.models = first.networks = [predictor.model for predictor in predictors]
    return first
