"""Which settings could be the best: moderated paired tests between all rivals.

Rivals have the same seeds, and a seed is the same initial network, data order and often the same pretraining for all of
them, so settings are compared by their differences seed by seed. The variance of the differences between two settings
rests on few seeds. It is moderated as limma does (Smyth 2004, Linear models and empirical Bayes methods, sections 3 and
6): shrunk towards a prior that is fitted to the variances of all pairs of rivals. With a prior variance s0^2 of d0
degrees of freedom, n seeds and a sample variance s^2,

    moderated variance = (d0 s0^2 + (n - 1) s^2) / (d0 + n - 1),    t = mean / sqrt(moderated variance / n)

has a t distribution with d0 + n - 1 degrees of freedom. As in limma, these are at most what all rivals have together,
here (k - 1)(n - 1) for k rivals.

A setting could be the best unless some rival is better by more than chance allows. Its interval is that of the
setting's mean minus the best mean of the others (Hsu 1984, Constrained simultaneous confidence intervals for multiple
comparisons with the best). Hsu's critical value, Dunnett's, protects one best setting. Where several are equally good
it is exceeded by some of them too often, so the critical value here is that of all pairs: equal settings are all kept
in 95 % of tables, and all intervals of a table cover what they are of in 95 %. It comes from a seeded simulation of the
largest of all |t|, with denominators that are independent, which errs on the wide side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import floor, inf, log, sqrt

import numpy as np
from numpy.typing import NDArray

from prunesweep.orchestrator.results.statistics import CONSTANT, SIGNIFICANCE, Floats, special

Places = NDArray[np.intp]

FEWEST_SEEDS = 5
"""With fewer seeds nothing is ranked."""

FEWEST_RIVALS = 5
"""Fewer have too few variances to borrow from each other: theirs stand for themselves."""

DRAWS = 20_000
CHUNK = 1_000
BLOCK = 64
"""Rivals whose differences to all others are in memory at once."""

MOST_RIVALS = 60
"""With more the largest of all |t| is bounded by Bonferroni instead of simulated: they would be thousands of pairs."""


@dataclass(frozen=True)
class Ranking:
    """Of each rival: the p value of its being the best or as good, and the interval of its mean minus the best other.

    `p` is adjusted for all pairs; at most 5 % where a rival is shown to be worse, and then `high` is below 0. `low` and
    `high` are NaN where every difference is the same with each seed, so that nothing is known of its spread.
    """

    p: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Pairs:
    """Of all ordered pairs [K, K]: mean difference and its standard error; and the degrees of freedom they share."""

    means: Floats
    errors: Floats
    df: float
    n: int

    def t(self, place: Places | tuple[slice, int]) -> Floats:
        """|t| of some of the pairs; 0 without a standard error."""
        means, errors = np.abs(self.means[place]), self.errors[place]
        return np.divide(means, errors, out=np.zeros_like(means), where=errors > 0)


def rank(values: Floats) -> Ranking:
    """Rank rivals by their values [K, N] over the same N seeds; more is better. At least two of each."""
    pairs = moderated_pairs(values)
    count = len(values)
    draws = largest_t(count, count * (count - 1) // 2, pairs.df)
    critical = draws.critical()
    behind, low, high = np.empty(count), np.empty(count), np.empty(count)
    for rows in _blocks(count):
        means, errors = pairs.means[rows], pairs.errors[rows]  # the error of a rival and itself is 0
        margin = np.where(errors > 0, critical * errors, np.nan)
        low[rows], high[rows] = _least(means - margin), _least(means + margin)
        behind[rows] = np.max(pairs.t(rows), axis=1, where=means < 0, initial=0.0)
    p = np.array([draws.p(t) for t in behind])
    return Ranking(np.minimum(p, _sign_tests(pairs, count)), low, high)


def compare_with(values: Floats, reference: int) -> Ranking:
    """As `rank`, of each rival minus one of them that was named beforehand: two-sided, as many tests as others."""
    pairs = moderated_pairs(values)
    count = len(values)
    draws = largest_t(count, count - 1, pairs.df)
    p = np.array([draws.p(t) for t in pairs.t((slice(None), reference))])
    means, errors = pairs.means[:, reference], pairs.errors[:, reference]
    constant = (errors == 0) & (means != 0)
    p[constant] = min(1.0, (count - 1) * 2.0 ** (1 - pairs.n))
    margin = np.where(errors > 0, draws.critical() * errors, np.nan)
    return Ranking(p, means - margin, means + margin)


def moderated_pairs(values: Floats) -> Pairs:
    """The moderated paired t of all pairs of rivals, of their values [K, N]."""
    count, n = values.shape
    means, variances = np.empty((count, count)), np.empty((count, count))
    seeds = np.ascontiguousarray(values.T)  # seeds come first, so that numpy adds whole arrays up
    for rows in _blocks(count):  # at once they would take N times the memory
        differences = seeds[:, rows, None] - seeds[:, None, :]
        means[rows], variances[rows] = differences.mean(axis=0), differences.var(axis=0, ddof=1)
    variances[variances <= (CONSTANT * means) ** 2] = 0.0
    prior, prior_df = fitted_prior(variances[~np.tri(count, dtype=bool)], n - 1)
    errors = variances
    for rows in _blocks(count):
        errors[rows] = np.sqrt(_moderated(variances[rows], n - 1, prior, prior_df) / n)
    np.fill_diagonal(errors, 0.0)
    return Pairs(means, errors, min(prior_df + n - 1, (count - 1) * (n - 1)), n)


def _moderated(variances: Floats, df: int, prior: float, prior_df: float) -> Floats:
    if prior_df == inf:
        return np.full_like(variances, prior)
    return (prior_df * prior + df * variances) / (prior_df + df)


def _blocks(count: int) -> list[Places]:
    """The rivals, so many at a time that what is computed of them and all others takes little memory."""
    return np.array_split(np.arange(count), count // BLOCK + 1)


def fitted_prior(variances: Floats, df: int) -> tuple[float, float]:
    """The prior variance and its degrees of freedom, from the variances of all pairs of rivals, `df` degrees each.

    Moments of the logarithms match (Smyth 2004, section 6.2). Two changes make up for what limma has and a table has
    not, thousands of independent variances. Those of pairs that share a setting have a correlation of about 1/4, so
    that they vary less among themselves than around their mean. And of few rivals they may look alike by chance, so
    their variance is taken for 1 + 2 / rivals times as large. The degrees are infinite where the variances then
    differ no more than chance lets equal ones, and 0 with fewer than `FEWEST_RIVALS`. Variances of 0 count as very
    small.

    >>> fitted_prior(np.array([1.0, 1.1, 0.9, 1.0, 1.2, 0.9, 1.0, 1.1, 0.9, 1.0]), 4)[1]
    inf
    >>> fitted_prior(np.array([1.0, 1.1, 0.9]), 4)
    (0.0, 0.0)
    """
    rivals = (1 + sqrt(1 + 8 * len(variances))) / 2
    if rivals < FEWEST_RIVALS or not np.median(variances):
        return 0.0, 0.0
    floored = np.maximum(variances, 1e-5 * np.median(variances))
    logs = np.log(floored)
    logs -= special.digamma(df / 2)  # in place: of 2,000 rivals there are 2 million
    logs += log(df / 2)
    shared = 2 * (rivals - 2) / (len(variances) - 1)
    spread = float(logs.var(ddof=1)) / (1 - shared / 4) * (1 + 2 / rivals)
    excess = spread - float(special.polygamma(1, df / 2))
    if excess <= 0:
        return float(floored.mean()), inf
    prior_df = 2 * _inverse_trigamma(excess)
    return float(np.exp(logs.mean() + special.digamma(prior_df / 2) - log(prior_df / 2))), prior_df


def _inverse_trigamma(value: float) -> float:
    """Newton's method on 1 / trigamma, which is convex (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, y))
        y += step
        if -step / y < 1e-8:
            break
    return y


def _least(bounds: Floats) -> Floats:
    """The least of each row that is known; NaN where none is."""
    least = np.where(np.isnan(bounds), inf, bounds).min(axis=1)
    return np.where(least == inf, np.nan, least)


def _sign_tests(pairs: Pairs, count: int) -> Floats:
    """Of rivals that are behind another one by the same difference with every seed, p by the sign test; else 1."""
    constant = (pairs.errors == 0) & (pairs.means < 0)
    p = min(1.0, count * (count - 1) / 2 * 2.0 ** (1 - pairs.n))
    return np.where(constant.any(axis=1), p, 1.0)


@dataclass(frozen=True)
class LargestT:
    """The distribution of the largest |t| of several tests, as sorted draws, or bounded by Bonferroni."""

    draws: Floats | None
    tests: int
    df: float

    def p(self, t: float) -> float:
        """How probable it is that chance alone makes so large a |t|, or a larger one, anywhere among the tests."""
        if self.draws is None:
            return float(min(1.0, self.tests * 2 * special.stdtr(self.df, -t)))
        return 1 - float(np.searchsorted(self.draws, t, side="left")) / len(self.draws)

    def critical(self) -> float:
        """The largest |t| that chance exceeds in 5 %."""
        if self.draws is None:
            return float(-special.stdtrit(self.df, SIGNIFICANCE / 2 / self.tests))
        return float(self.draws[int((1 - SIGNIFICANCE) * len(self.draws))])


def largest_t(count: int, tests: int, df: float) -> LargestT:
    """Of `count` rivals with `df` degrees of freedom: of all pairs, or of one rival with each of the others.

    The degrees are rounded down, so that few distributions are simulated.
    """
    return _largest_t(count, tests, floor(2 * df) / 2 if df < 8 else floor(df))


@lru_cache(maxsize=256)
def _largest_t(count: int, tests: int, df: float) -> LargestT:
    if count > MOST_RIVALS:
        return LargestT(None, tests, df)
    random = np.random.default_rng(0)
    first, second = np.triu_indices(count, 1)
    first, second = first[:tests], second[:tests]  # the first rival with each other one comes first
    largest = [_chunk(random, count, first, second, df) for _ in range(DRAWS // CHUNK)]
    return LargestT(np.sort(np.concatenate(largest)), tests, df)


def _chunk(random: np.random.Generator, count: int, first: Places, second: Places, df: float) -> Floats:
    means = random.standard_normal((CHUNK, count))
    t = means.take(first, axis=1)  # by an index it takes four times as long
    t -= means.take(second, axis=1)
    errors = random.chisquare(df, t.shape)
    errors *= 2  # in place: each of these arrays is 14 MB at most
    errors /= df
    np.sqrt(errors, out=errors)
    np.abs(t, out=t)
    t /= errors
    return np.asarray(t.max(axis=1))
