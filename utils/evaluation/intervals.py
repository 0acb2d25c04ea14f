"""Confidence interval of a mean over images.

The percentile bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
chapter 13. It assumes independent images: if many show the same car or patient, the true interval
is wider.
"""

import numpy as np

RESAMPLES = 2000  # between seeds the ends move by less than a twentieth of the width


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """Return the interval that holds the mean of `values` (N,) with probability `level`.

    NaN values are left out; None for fewer than two values. The result depends on the order of the
    values and on the seed only.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return None
    generator = np.random.default_rng(seed)
    means = [generator.choice(values, len(values)).mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
