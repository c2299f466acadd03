"""Which settings no other one beats at its cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from prunesweep.orchestrator.results.aggregation import (
    AXES,
    listed,
    separating,
    sign_of,
    subject_columns,
    with_metric,
)
from prunesweep.orchestrator.results.compare import BY
from prunesweep.orchestrator.results.group_means import group_means
from prunesweep.orchestrator.results.primary import on_test
from prunesweep.orchestrator.results.schemas import IDENTITY, better, measurements
from prunesweep.orchestrator.results.statistics import Floats
from prunesweep.workers.errors import UserError


def pareto(
    frame: pd.DataFrame,
    cost: str = "theoretical_speedup",
    metric: str | None = None,
    by: str | Sequence[str] = (*BY, *AXES),
) -> pd.DataFrame:
    """Which settings no other one beats: at least as good in both columns, and better in one.

    Settings are `by` and what else varies within them; those of one dataset and model compete. `cost` and `metric`
    (the primary one on the test set) are columns of which more or less is better, and go by their means.
    Returns a row for each setting: its settings, `cost` (mean), `mean`, `std` and `n` of the metric, and `front`.
    Raises `UserError` for other columns.

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
    metric = on_test(frame, metric)
    for name in (cost, metric):
        if not better(name):
            raise UserError(f"{name} makes no front: neither more nor less of it is better")
    trials = with_metric(with_metric(frame, cost), metric)
    settings = [name for name in trials.columns if name not in (*IDENTITY, *measurements())]
    subject = subject_columns(trials)
    names = separating(trials, list(dict.fromkeys([*subject, *listed(by)])), settings)
    means = group_means(trials, metric, names)
    means.insert(len(names), "cost", group_means(trials, cost, names)["mean"])
    merits = np.column_stack([sign_of(cost) * means["cost"], sign_of(metric) * means["mean"]])
    arenas = means.groupby(subject, dropna=False).ngroup().to_numpy()
    front = [unbeaten(merits[arenas == arena], own) for arena, own in zip(arenas, merits, strict=True)]
    return means.assign(front=front)


def unbeaten(rivals: Floats, merits: Floats) -> bool:
    """Whether none of the rivals [N, D] is at least as good as `merits` [D] everywhere and better somewhere."""
    return not ((rivals >= merits).all(axis=1) & (rivals > merits).any(axis=1)).any()
