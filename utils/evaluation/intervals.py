"""Confidence intervals of scores, by resampling the images."""

import numpy as np

RESAMPLES = 2000  # between seeds, an interval's ends move by under a twentieth of its width


def bootstrap_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Return the interval that holds the mean of independent `values` (N,) with this probability.

    NaN values are left out; None for fewer than two. The result depends on the order of the values:
    percentile bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
    chapter 13. If many images show the same car or patient, the true interval is wider.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return None
    generator = np.random.default_rng(0)
    means = [generator.choice(values, len(values)).mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
