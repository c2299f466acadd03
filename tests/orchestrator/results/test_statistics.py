"""Intervals and differences over seeds, against scipy and by hand; the examples in the docstrings."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from prunesweep.orchestrator.results.aggregation import aggregate
from prunesweep.orchestrator.results.statistics import Sample, bootstrap, hedges_g, paired, t_margin
from prunesweep.workers.errors import UserError

DOCUMENTED = {
    "prunesweep.orchestrator.results.statistics": 4,
    "prunesweep.orchestrator.results.aggregation": 1,
    "prunesweep.orchestrator.results.compare": 1,
    "prunesweep.orchestrator.results.pareto": 1,
}
DOCUMENTED |= {
    "prunesweep.orchestrator.results.ranking": 1,
    "prunesweep.orchestrator.results.published": 1,
    "prunesweep.orchestrator.results.filtering": 1,
    "prunesweep.orchestrator.results.best_settings": 1,
}
"""How many docstrings with examples each module has."""


@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_examples_in_the_docstrings_are_true(module: str) -> None:
    loaded = importlib.import_module(module)
    done = doctest.testmod(loaded)
    assert done.failed == 0
    assert sum(bool(each.examples) for each in doctest.DocTestFinder().find(loaded)) == DOCUMENTED[module]


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_student_s_interval_is_scipy_s(level: float) -> None:
    values = np.array([0.91, 0.93, 0.96, 0.90])
    low, high = stats.t.interval(level, 3, values.mean(), stats.sem(values))
    assert values.mean() + t_margin(values.std(ddof=1), 4, level) == pytest.approx(high)
    assert values.mean() - t_margin(values.std(ddof=1), 4, level) == pytest.approx(low)


def test_the_bootstrap_is_the_same_every_time_and_stays_within_the_values() -> None:
    values = [0.91, 0.93, 0.96]
    low, high = bootstrap(values)
    assert (low, high) == bootstrap(values)
    assert (low, high) == (0.91, 0.96)  # one resample in 27 repeats the least value: 2.5 % lie there
    assert bootstrap(values, 0.5)[0] > low
    assert all(map(math.isnan, bootstrap([0.9])))
    assert bootstrap([0.9, 0.9]) == pytest.approx((0.9, 0.9))


def test_differences_are_scipy_s_over_the_shared_seeds() -> None:
    first, second = {0: 0.9, 1: 0.92, 2: 0.95, 7: 0.1}, {2: 0.93, 1: 0.93, 0: 0.85, 9: 0.99}
    found = paired(first, second)
    expected = stats.ttest_rel([0.9, 0.92, 0.95], [0.85, 0.93, 0.93])
    assert found.n == 3
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.std == pytest.approx(np.std([0.05, -0.01, 0.02], ddof=1))


def test_an_interval_needs_two_shared_seeds() -> None:
    one = paired({0: 0.9, 1: 0.8}, {0: 0.7, 2: 0.8})
    assert (one.n, one.mean) == (1, pytest.approx(0.2))
    assert all(map(math.isnan, (one.std, one.low, one.high)))
    none = paired({0: 0.9}, {1: 0.9})
    assert none.n == 0
    assert math.isnan(none.mean)


def test_differences_that_do_not_vary() -> None:
    same = paired({0: 0.5, 1: 0.75}, {0: 0.5, 1: 0.75})
    assert (same.low, same.high) == (0, 0)
    for seeds in (2, 3, 5, 6):
        # 0.3 - 0.2 and its like differ in the last digit
        first, second = ({seed: (seed + more) / 10 for seed in range(seeds)} for more in (3, 2))
        constant = paired(first, second)
        assert (constant.std, constant.n, constant.mean) == (0, seeds, pytest.approx(0.1))
        assert all(map(math.isnan, (constant.low, constant.high)))


def test_aggregate_gives_intervals_on_request() -> None:
    frame = pd.DataFrame({"method": ["imp"] * 4 + ["gmp"], "test_accuracy": [0.2, 0.4, 0.6, None, 0.5]})
    plain = aggregate(frame, "test_accuracy", ["method"])
    assert list(plain.columns) == ["method", "mean", "std", "n"]
    student = aggregate(frame, "test_accuracy", ["method"], interval="t", level=0.9)
    low, high = stats.t.interval(0.9, 2, 0.4, 0.2 / 3**0.5)
    assert student.loc[0, ["low", "high"]].tolist() == pytest.approx([low, high])
    resampled = aggregate(frame, "test_accuracy", ["method"], interval="bootstrap")
    assert resampled.loc[0, ["low", "high"]].tolist() == pytest.approx([0.2, 0.6])
    for table in (student, resampled):
        assert table.loc[1, ["low", "high"]].isna().all()
        pd.testing.assert_frame_equal(table[plain.columns], plain)
    with pytest.raises(UserError, match='unknown interval "normal": allowed are bootstrap, t'):
        aggregate(frame, "test_accuracy", ["method"], interval="normal")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "g"),
    [
        ((0.9, 0.02, 5), (0.9, 0.02, 5), 0.0),
        ((0.92, 0.03, 5), (0.90, 0.01, 3), 0.02 / 0.02516611478 * (1 - 3 / 23)),  # variance (4 * 9 + 2 * 1) / 6 e-4
        ((0.9, 0.02, 1), (0.8, 0.02, 5), None),
        ((0.9, 0.0, 5), (0.8, 0.0, 5), None),
    ],
)
def test_the_effect_size_of_hedges(first: Sample, second: Sample, g: float | None) -> None:
    assert hedges_g(first, second) == (None if g is None else pytest.approx(g))
