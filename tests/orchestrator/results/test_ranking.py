"""Which settings could be the best: by hand, against scipy, and in simulated tables."""

from __future__ import annotations

from math import inf, isnan

import numpy as np
import pytest
from scipy import special, stats

from benchmarks.ranking import false_alarms, holm_against_best, moderated, power, tables
from prunesweep.orchestrator.results.ranking import (
    compare_with,
    fitted_prior,
    largest_t,
    moderated_pairs,
    rank,
)


def test_of_two_rivals_it_is_the_paired_t_test() -> None:
    values = np.array([[0.90, 0.93, 0.95, 0.91, 0.92], [0.92, 0.94, 0.95, 0.94, 0.95]])
    expected = stats.ttest_rel(*values)
    ranking = rank(values)
    assert ranking.p[0] == pytest.approx(expected.pvalue, abs=0.01)
    assert ranking.p[1] == 1
    interval = expected.confidence_interval(0.95)
    assert (ranking.low[0], ranking.high[0]) == pytest.approx((interval.low, interval.high), abs=0.001)


def test_variances_are_shrunk_as_smyth_says() -> None:
    random = np.random.default_rng(3)
    true = 2.0 * 10 / random.chisquare(10, 500_000)  # scaled inverse chi-square: s0^2 = 2, d0 = 10
    variances = true * random.chisquare(4, len(true)) / 4
    prior, df = fitted_prior(variances[:499_500], 4)  # as many as 1000 rivals make pairs
    assert prior == pytest.approx(2.0, rel=0.02)
    assert df == pytest.approx(10, rel=0.1)


def test_a_moderated_variance_by_hand() -> None:
    values = np.random.default_rng(0).normal(size=(6, 5)) * np.array([[1], [9], [1], [3], [1], [1]])
    pairs = moderated_pairs(values)
    upper = np.triu_indices(6, 1)
    variances = (values[:, None] - values[None]).var(axis=2, ddof=1)
    prior, df = fitted_prior(variances[upper], 4)
    assert 0 < df < inf
    expected = (df * prior + 4 * variances[0, 1]) / (df + 4)
    assert pairs.errors[0, 1] == pytest.approx((expected / 5) ** 0.5)
    assert pairs.df == pytest.approx(min(df + 4, 5 * 4))


def test_what_borrowing_needs() -> None:
    assert fitted_prior(np.array([1.0, 2.0, 9.0]), 4) == (0.0, 0.0), "three rivals have too few variances"
    assert fitted_prior(np.ones(10), 4) == (pytest.approx(1.0), inf)
    assert fitted_prior(np.zeros(10), 4) == (0.0, 0.0)


@pytest.mark.parametrize(("rivals", "df"), [(3, 8.0), (13, 48.0)])
def test_the_critical_value_is_near_tukey_s_and_not_below(rivals: int, df: float) -> None:
    tukey = stats.studentized_range.ppf(0.95, rivals, df) / 2**0.5
    assert tukey - 0.03 < largest_t(rivals, rivals * (rivals - 1) // 2, df).critical() < 1.05 * tukey


def test_many_rivals_are_bounded_without_a_simulation() -> None:
    bound = largest_t(61, 1830, 240.0).critical()
    assert bound == pytest.approx(float(special.stdtrit(240, 1 - 0.025 / 1830)))
    assert bound > largest_t(60, 1770, 236.0).critical()


def test_marks_and_intervals_agree() -> None:
    for values in tables(8, 5, 50, shift=2.0, seed=5):
        ranking = rank(values)
        assert ((ranking.p <= 0.05) == (ranking.high < 0)).all()
        assert (ranking.low <= ranking.high).all()


def test_against_one_that_was_named_fewer_tests_count() -> None:
    (values,) = tables(8, 5, 1, shift=2.0, seed=1)
    named = compare_with(values, 0)
    everything = rank(values)
    assert named.p[0] == 1
    assert named.p[-1] < everything.p[-1] or everything.p[-1] == 0
    assert (named.high - named.low)[1:].max() < (everything.high - everything.low).max() * 2


def test_differences_that_are_the_same_with_every_seed() -> None:
    row = np.array([0.25, 0.5, 0.75, 0.5, 0.25, 0.5])
    ranking = rank(np.array([row, row + 0.25]))
    assert ranking.p[0] == 2**-5, "the sign test"
    assert isnan(ranking.high[0])
    assert rank(np.array([row, row + 0.25])[:, :5]).p[0] == 2**-4
    assert (rank(np.array([row, row])).p == 1).all()


def test_equal_settings_are_kept_and_worse_ones_seen() -> None:
    """The whole simulation is `python -m benchmarks.ranking`; its figures are in docs/results.md."""
    for n, two, three in ((5, 0.55, 0.9), (10, 0.95, 0.99)):
        assert false_alarms(moderated, tables(13, n, 400)) <= 0.05
        assert power(moderated, tables(13, n, 200, shift=2.0)) >= two
        assert power(moderated, tables(13, n, 200, shift=3.0)) >= three
    assert false_alarms(holm_against_best, tables(13, 10, 200)) > 0.1, "the rule before, by the same count"
