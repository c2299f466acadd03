"""Differences between settings over shared seeds, and which settings no other one beats at its cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from prunesweep.orchestrator.results.aggregation import (
    AXES,
    SUBJECT,
    Cell,
    Group,
    Key,
    aggregate,
    best_of,
    groups,
    separating,
    sign_of,
    with_metric,
)
from prunesweep.orchestrator.results.filtering import check_column
from prunesweep.orchestrator.results.schemas import IDENTITY, MEASUREMENTS, better
from prunesweep.orchestrator.results.statistics import SIGNIFICANCE, Floats, Paired, holm, paired
from prunesweep.workers.errors import UserError

BY = ("method", "retrain_schedule")
AT = (*SUBJECT, *AXES)


@dataclass(frozen=True)
class Pair:
    """A setting, the one that it is compared with, and the differences between them over the seeds that both have.

    `p` is adjusted by Holm among the pairs of the arena; NaN where fewer than two seeds are shared.
    """

    cell: Cell
    against: Cell
    difference: Paired
    p: float

    @property
    def distinguishable(self) -> bool | None:
        """None where it cannot be tested."""
        return None if np.isnan(self.p) else self.p <= SIGNIFICANCE


def compare(
    frame: pd.DataFrame,
    metric: str = "test_accuracy",
    by: Sequence[str] = BY,
    at: Sequence[str] = AT,
    against: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """How far each setting is from the best one, or from `against`, over the seeds that both have.

    Settings are `by` and what else varies within them: different settings are never averaged. They are compared
    within arenas, the trials that agree in the columns `at`; trials without a value there, such as dense ones without
    a target, are in none. The reference of an arena is its best mean, or with `against`, such as `{"method": "gmp"}`,
    the best of the settings that have these values.

    Returns a row for each setting but the reference: its settings, and the reference's where they may differ as
    `against_...`; `difference` (setting minus reference), its sample deviation `std`, the number `n` of shared seeds,
    `low` and `high` (95 % t interval), `p` of the paired two-sided t-test, `p_adjusted` by Holm among the rows of the
    arena, and `distinguishable` at 5 %, null where fewer than two seeds are shared. Where the difference is the same
    with every seed, but not zero, `p` is the sign test's, and `low` and `high` are NaN. Raises `UserError` for unknown
    names, and where there is no best and no `against`.

    >>> accuracies = {"imp": [0.90, 0.92, 0.91], "gmp": [0.93, 0.96, 0.94]}
    >>> frame = pd.DataFrame([
    ...     {"trial": f"{method}{seed}", "sweep": "s", "method": method, "seed": seed, "test_accuracy": value}
    ...     for method, values in accuracies.items() for seed, value in enumerate(values)
    ... ])
    >>> found = compare(frame, by=["method"], at=[])
    >>> found[["method", "against_method", "difference", "n", "p_adjusted", "distinguishable"]].round(4)
      method against_method  difference  n  p_adjusted  distinguishable
    0    imp            gmp     -0.0333  3      0.0099             True
    """
    names = [*by, *(name for name in against or () if name not in (*by, *at))]
    found = pairs(frame, metric, names, at, against)
    return pd.DataFrame([_record(pair, at) for pair in found])


def pairs(
    frame: pd.DataFrame,
    metric: str,
    by: Sequence[str],
    at: Sequence[str] = AT,
    against: Mapping[str, Any] | None = None,
) -> list[Pair]:
    """As `compare`, arena by arena in the frame's order."""
    for name in (*by, *at, *(against or ())):
        check_column(frame, name)
    trials = with_metric(frame, metric).dropna(subset=list(at))
    if against is None and not better(metric):
        raise UserError(f"neither more nor less {metric} is better: say what to compare against, such as method=gmp")
    if trials.empty:
        raise UserError(f"nothing to compare: no trial with {metric} has all of {', '.join(at)}")
    settings = [name for name in trials.columns if name not in (metric, *IDENTITY, *MEASUREMENTS)]
    arenas: dict[Key, list[Group]] = defaultdict(list)
    for group in groups(trials, metric, separating(trials, [*at, *by], settings)):
        arenas[group.cell.at(at)].append(group)
    return [pair for rivals in arenas.values() for pair in _pairs(rivals, sign_of(metric), against)]


def _pairs(rivals: Sequence[Group], sign: int, against: Mapping[str, Any] | None) -> Iterator[Pair]:
    meant = [group for group in rivals if all(group.cell.settings[k] == v for k, v in (against or {}).items())]
    if not meant:
        return
    reference = best_of(meant, sign) or meant[0]
    others = [group for group in rivals if group is not reference]
    found = [paired(group.values, reference.values) for group in others]
    for group, difference, p in zip(others, found, holm([each.p for each in found]), strict=True):
        yield Pair(group.cell, reference.cell, difference, p)


def _record(pair: Pair, at: Sequence[str]) -> dict[str, Any]:
    found = pair.difference
    other = {f"against_{name}": value for name, value in pair.against.settings.items() if name not in at}
    return {
        **pair.cell.settings,
        **other,
        **{"difference": found.mean, "std": found.std, "n": found.n, "low": found.low, "high": found.high},
        **{"p": found.p, "p_adjusted": pair.p, "distinguishable": pair.distinguishable},
    }


def pareto(
    frame: pd.DataFrame,
    cost: str = "theoretical_speedup",
    metric: str = "test_accuracy",
    by: Sequence[str] = (*BY, *AXES),
) -> pd.DataFrame:
    """Which settings no other one beats: at least as good in both columns, and better in one.

    Settings are `by` and what else varies within them; those of one dataset and model compete. `cost` and `metric` are
    columns of which more or less is better, and go by their means. Returns a row for each setting: its settings,
    `cost` (mean), `mean`, `std` and `n` of the metric, and `front`. Raises `UserError` for other columns.

    >>> rows = [("imp", 4.0, 0.93), ("gmp", 5.0, 0.93), ("dpf", 4.5, 0.92), ("lc", 3.0, 0.95)]
    >>> frame = pd.DataFrame(rows, columns=["method", "theoretical_speedup", "test_accuracy"]).assign(
    ...     dataset="digits", model="resnet8", sweep="s", seed=0
    ... )
    >>> frame["trial"] = frame["method"]
    >>> pareto(frame, by=["method"])[["method", "cost", "mean", "front"]]
      method  cost  mean  front
    0    imp   4.0  0.93  False
    1    gmp   5.0  0.93   True
    2    dpf   4.5  0.92  False
    3     lc   3.0  0.95   True
    """
    for name in (cost, metric):
        if not better(name):
            raise UserError(f"{name} makes no front: neither more nor less of it is better")
    trials = with_metric(with_metric(frame, cost), metric)
    settings = [name for name in trials.columns if name not in (*IDENTITY, *MEASUREMENTS)]
    names = separating(trials, list(dict.fromkeys([*SUBJECT, *by])), settings)
    found = aggregate(trials, metric, names)
    found.insert(len(names), "cost", aggregate(trials, cost, names)["mean"])
    goods = np.column_stack([sign_of(cost) * found["cost"], sign_of(metric) * found["mean"]])
    arenas = found.groupby(list(SUBJECT), dropna=False).ngroup().to_numpy()
    return found.assign(
        front=[unbeaten(goods[arenas == arena], each) for arena, each in zip(arenas, goods, strict=True)]
    )


def unbeaten(rivals: Floats, each: Floats) -> bool:
    """Whether none of the rivals [N, D] is at least as good as `each` [D] everywhere and better somewhere."""
    return not ((rivals >= each).all(axis=1) & (rivals > each).any(axis=1)).any()
