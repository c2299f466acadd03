"""How fast methods train: a bar for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.comparisons import Frames, none_if_nan
from prunesweep.orchestrator.figures.wording import heading, in_unit, title_about
from prunesweep.orchestrator.results.aggregation import SUBJECT, aggregate, plain, with_metric
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import IDENTITY, MEASUREMENTS
from prunesweep.orchestrator.results.units import scale
from prunesweep.orchestrator.tables.wording import words


def throughput(frames: Frames, query: Query) -> Chart:
    """The mean over all trials of a method, or of what `by` names, bars of each device beside each other.

    Unlike in other figures, one mean is over different sparsities and budgets; the notes say over which settings.
    """
    metric, by = query.metric, list(query.by or ["method"])
    trials = with_metric(frames.trials, metric)
    several = [name for name in SUBJECT if trials[name].nunique() > 1]
    names = list(dict.fromkeys([*several, *by, "device"]))
    groups = aggregate(trials, metric, names)
    subjects = dict.fromkeys(tuple(row) for row in groups[several].itertuples(index=False))
    bars = list(dict.fromkeys(_bar(row, by) for row in groups.to_dict("records")))
    unit = scale(metric)
    category = Axis(", ".join(map(words, by)), "category", range(len(bars)), bars)
    panels = []
    for at in subjects:
        here = groups[(groups[several] == list(at)).all(axis=1)]
        devices = here.groupby("device", sort=False, dropna=False)
        drawn = [_bars(device, same, by, bars, unit.factor) for device, same in devices]
        panels.append(Panel(heading(at), category, Axis(in_unit(words(metric), unit)), drawn))
    device = dict.fromkeys(series.name for panel in panels for series in panel.series)
    what = panels[0].y.label + (f" on {next(iter(device))}" if len(device) == 1 else "")
    return Chart(title_about(trials, what), panels, _notes(trials, names, metric))


def _bars(device: object, groups: pd.DataFrame, by: Sequence[str], bars: Sequence[str], factor: float) -> Series:
    rows = groups.to_dict("records")
    deviations = [none_if_nan(row["std"]) for row in rows]
    return Series(
        name="unknown device" if plain(device) is None else str(device),
        kind="bars",
        x=[bars.index(_bar(row, by)) for row in rows],
        y=[row["mean"] * factor for row in rows],
        deviation=[None if deviation is None else deviation * factor for deviation in deviations],
        n=[row["n"] for row in rows],
    )


def _bar(row: Mapping[Any, Any], by: Sequence[str]) -> str:
    return ", ".join("none" if plain(row[name]) is None else f"{plain(row[name])}" for name in by)


def _notes(trials: pd.DataFrame, names: Sequence[str], metric: str) -> list[str]:
    """Which settings were averaged over."""
    settings = [name for name in trials.columns if name not in (metric, *names, *IDENTITY, *MEASUREMENTS)]
    groups = trials.groupby(list(names), dropna=False)
    over = [words(name) for name in settings if (groups[name].nunique(dropna=False) > 1).any()]
    return [f"a bar is the mean over all its trials, which differ in {', '.join(['seed', *over])}"]
