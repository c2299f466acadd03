"""What colours stand for: a method, or a retraining schedule of a method that has several; the same in every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

DENSE = "dense"
METHOD, SCHEDULE = "method", "retrain_schedule"

MOST_HUES = 10
"""More colours are not distinguishable: then each method has one, whatever its schedules."""


def hues_of(trials: pd.DataFrame) -> list[str]:
    """What has a colour of its own among all trials of the sweeps, in their order; dense networks are grey.

    >>> trials = pd.DataFrame({"method": ["dense", "imp", "imp", "gmp"], "retrain_schedule": [None, "FT", "SLR", None]})
    >>> hues_of(trials)
    ['imp, FT', 'imp, SLR', 'gmp']
    """
    rows = [
        (r[METHOD], _schedule(r[SCHEDULE])) for r in trials[[METHOD, SCHEDULE]].drop_duplicates().to_dict("records")
    ]
    methods = list(dict.fromkeys(method for method, _ in rows if method != DENSE))
    schedules = {method: list(dict.fromkeys(s for m, s in rows if m == method and s)) for method in methods}
    hues = [
        f"{method}, {schedule}" if schedule else method
        for method in methods
        for schedule in (schedules[method] if len(schedules[method]) > 1 else [""])
    ]
    return hues if len(hues) <= MOST_HUES else methods


def hue_of(settings: Mapping[str, Any], hues: Sequence[str]) -> str:
    """The hue of a cell with these settings; empty where they name neither a method nor a schedule.

    A cell that averages over the schedules of a method has the hue of the first one.
    """
    method, schedule = settings.get(METHOD), _schedule(settings.get(SCHEDULE))
    if method == DENSE:
        return DENSE
    for wanted in (f"{method}, {schedule}", method):
        if wanted in hues:
            return str(wanted)
    if method is not None:
        return next((hue for hue in hues if hue.startswith(f"{method}, ")), str(method))
    return next((hue for hue in hues if schedule and hue.endswith(f", {schedule}")), schedule)


def in_given_order(trials: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """The trials with the methods and schedules that `order` names first; the others follow in their own order."""
    ranks = {name: rank for rank, name in enumerate(order)}
    keys = trials[[METHOD, SCHEDULE]].map(lambda name: ranks.get(name, len(ranks)))
    return trials.loc[keys.sort_values([METHOD, SCHEDULE], kind="stable").index]


def _schedule(value: Any) -> str:
    return value if isinstance(value, str) else ""
