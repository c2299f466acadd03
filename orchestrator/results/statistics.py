"""Intervals of means, and differences over shared seeds. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan, sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunesweep.workers.lazy import LazyModule

if TYPE_CHECKING:
    from scipy import special as special
else:
    special = LazyModule("scipy.special")  # a quarter of a second, and a table of few seeds needs none of it

Floats = NDArray[np.float64]
Interval = Literal["t", "bootstrap"]

SIGNIFICANCE = 0.05
"""A setting is shown to be worse where its adjusted p value is at most this."""

CONSTANT = 1e-12
"""Differences whose deviation is at most this share of their mean are all the same, but for rounding."""

LEVEL = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Paired:
    """The differences over `n` shared seeds: mean, sample deviation, interval of the mean.

    All but `mean` are NaN with fewer than two seeds, and everything without any.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float


def t_margin(std: ArrayLike, n: ArrayLike, level: float = LEVEL) -> Floats:
    """Half the width of Student's interval for a mean over `n` values of sample deviation `std`; NaN for n < 2.

    >>> t_margin([1.0, 1.0], [3, 1]).round(3).tolist()
    [2.484, nan]
    """
    n = np.where(np.asarray(n) < 2, nan, n)
    return np.asarray(special.stdtrit(n - 1, 0.5 + level / 2) * std / np.sqrt(n), float)


def bootstrap(values: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The percentile bootstrap's interval for the mean, with fixed random numbers; NaN for fewer than two values.

    With the three to five seeds of most sweeps it is too narrow: it can reach no farther than the values themselves,
    and it leaves out the small-sample factor that makes Student's interval wide.

    >>> [round(bound, 3) for bound in bootstrap([0.91, 0.92, 0.94, 0.95, 0.93])]
    [0.918, 0.942]
    """
    from scipy import stats  # takes half a second

    values = np.asarray(values, float)
    if len(values) < 2:
        return nan, nan
    resampled = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return float(resampled.low), float(resampled.high)


Sample = tuple[float, float, int]
"""Mean, sample deviation, and how many values."""


def hedges_g(first: Sample, second: Sample) -> float | None:
    """The effect size of Hedges (1981): the difference of means over the pooled deviation, corrected for few values.

    g = (m1 - m2) / s (1 - 3 / (4 df - 1)), s^2 the mean of the variances by their n - 1, df = n1 + n2 - 2. None with
    fewer than two values on a side, and where s is 0.

    >>> round(hedges_g((0.95, 0.01, 5), (0.93, 0.01, 5)), 4)  # 2 (1 - 3 / 31)
    1.8065
    >>> hedges_g((0.95, 0.0, 5), (0.93, 0.0, 5)) is None
    True
    """
    (mean1, std1, n1), (mean2, std2, n2) = first, second
    if min(n1, n2) < 2:
        return None
    df = n1 + n2 - 2
    pooled = sqrt(((n1 - 1) * std1**2 + (n2 - 1) * std2**2) / df)
    if pooled <= CONSTANT * max(abs(mean1), abs(mean2)):
        return None
    return (mean1 - mean2) / pooled * (1 - 3 / (4 * df - 1))


def paired(first: Mapping[Any, float], second: Mapping[Any, float], level: float = LEVEL) -> Paired:
    """`first` minus `second`, values by seed, over the seeds that both have, with Student's interval.

    Where the differences are all the same, but not zero, as of one test image with every seed, nothing is known of
    their spread, and there is no interval.

    >>> difference = paired({0: 0.95, 1: 0.93, 2: 0.96}, {0: 0.94, 1: 0.91, 2: 0.93, 3: 0.50})
    >>> difference.n, round(difference.mean, 6), round(difference.low, 4)
    (3, 0.02, -0.0048)
    """
    differences = np.array([first[seed] - second[seed] for seed in first if seed in second])
    n = len(differences)
    if n < 2:
        return Paired(float(differences[0]) if n else nan, nan, n, nan, nan)
    mean, std = float(differences.mean()), float(differences.std(ddof=1))
    if mean and std <= CONSTANT * abs(mean):
        return Paired(mean, 0.0, n, nan, nan)
    margin = float(t_margin(std, n, level))
    return Paired(mean, std, n, mean - margin, mean + margin)
