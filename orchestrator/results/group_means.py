"""Mean, deviation and count of each group of trials, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from prunesweep.orchestrator.results.statistics import LEVEL, bootstrap, t_margin
from prunesweep.workers.errors import UserError


def group_means(
    frame: pd.DataFrame,
    metric: str,
    by: Sequence[str],
    interval: Literal["t", "bootstrap"] | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """As `aggregate`, of columns that are there, and without a warning."""
    means = indexed_means(frame, metric, by, interval, level)
    for name in by:
        if name in means:
            raise UserError(f"{name} is a column of the result; rename it to group by it")
    return means.reset_index()


def indexed_means(
    frame: pd.DataFrame,
    metric: str,
    by: Sequence[str],
    interval: Literal["t", "bootstrap"] | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """As `group_means`, with the groups as the index: a method of one's own may have a setting that is called n."""
    groups = frame.groupby(list(by), dropna=False, sort=False)[metric]
    means = groups.agg(["mean", "std", "count"]).rename(columns={"count": "n"})
    if interval == "t":
        margin = t_margin(means["std"], means["n"], level)
        means = means.assign(low=means["mean"] - margin, high=means["mean"] + margin)
    elif interval == "bootstrap":
        bounds = [bootstrap(values.dropna(), level) for _, values in groups]
        means = means.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])
    return means
