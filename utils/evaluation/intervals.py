"""How far a mean over images can be trusted: an interval by resampling the images.

The percentile bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
chapter 13. It takes images as independent: where many are of one car or patient, the interval that
holds is wider.
"""

import numpy as np

RESAMPLES = 2000  # the ends move by less than a twentieth of the width from seed to seed


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """The interval that holds the mean of `values` (N,) with probability `level`.

    NaN values are left out. The same for the same values in the same order. None for fewer than
    two values, of which nothing can be said.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return None
    generator = np.random.default_rng(seed)
    means = [generator.choice(values, len(values)).mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
