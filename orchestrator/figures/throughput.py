"""How fast methods train: a bar for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.comparisons import Frames, none_if_nan
from prunesweep.orchestrator.figures.hues import DENSE, hue_of
from prunesweep.orchestrator.figures.wording import heading, in_unit, title_about
from prunesweep.orchestrator.results.aggregation import SUBJECT, plain, with_metric
from prunesweep.orchestrator.results.group_means import group_means
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import IDENTITY, measurements
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.wording import words

Row = Mapping[Any, Any]
"""A group of trials: its settings, `mean`, `std` and `n`."""


def throughput(frames: Frames, query: Query) -> Chart:
    """A bar for the mean over all trials of a method, or of what `by` names; those of several devices are side by side.

    Unlike in other figures, one mean is over different sparsities and budgets; the notes say over which settings. On
    one device a bar has the colour of its method, and dense networks are a line across the panel.
    """
    metric, by = query.column, list(query.by or ["method"])
    trials = with_metric(frames.trials, metric)
    several = [name for name in SUBJECT if trials[name].nunique() > 1]
    names = list(dict.fromkeys([*several, *by, "device"]))
    groups = group_means(trials, metric, names)
    devices = list(dict.fromkeys(map(_device, groups.to_dict("records"))))
    unit = scale(metric)
    panels = []
    for at in dict.fromkeys(tuple(row) for row in groups[several].itertuples(index=False)):
        rows = groups[(groups[several] == list(at)).all(axis=1)].to_dict("records")
        drawn = list(_by_device(rows, by, unit) if len(devices) > 1 else _by_method(rows, by, unit, frames.hues))
        bars = list(dict.fromkeys(_bar(row, by) for row in rows if len(devices) > 1 or not _is_dense(row)))
        category = Axis(", ".join(map(words, by)), "category", range(len(bars)), bars)
        panels.append(Panel(heading(at), category, Axis(in_unit(words(metric), unit)), drawn))
    what = panels[0].y.label + (f" on {devices[0]}" if len(devices) == 1 else "")
    return Chart(title_about(trials, what), panels, _notes(trials, names, metric), frames.hues)


def _by_device(rows: Sequence[Row], by: Sequence[str], unit: Scale) -> Iterator[Series]:
    bars = list(dict.fromkeys(_bar(row, by) for row in rows))
    for device in dict.fromkeys(map(_device, rows)):
        same = [row for row in rows if _device(row) == device]
        yield _series(device, same, [bars.index(_bar(row, by)) for row in same], unit)


def _by_method(rows: Sequence[Row], by: Sequence[str], unit: Scale, hues: Sequence[str]) -> Iterator[Series]:
    bars = [row for row in rows if not _is_dense(row)]
    for number, row in enumerate(bars):
        yield replace(_series(_bar(row, by), [row], [number], unit), hue=hue_of(row, hues))
    for row in rows:
        if _is_dense(row):
            yield replace(_series(_bar(row, by), [row], [], unit), kind="level", hue=DENSE)


def _series(name: str, rows: Sequence[Row], x: Sequence[float], unit: Scale) -> Series:
    deviations = [none_if_nan(row["std"]) for row in rows]
    return Series(
        name=name,
        kind="bars",
        x=x,
        y=[row["mean"] * unit.factor for row in rows],
        deviation=[None if deviation is None else deviation * unit.factor for deviation in deviations],
        n=[row["n"] for row in rows],
    )


def _is_dense(row: Row) -> bool:
    return bool(row.get("method") == DENSE)


def _device(row: Row) -> str:
    return "unknown device" if plain(row["device"]) is None else str(row["device"])


def _bar(row: Row, by: Sequence[str]) -> str:
    return ", ".join("none" if plain(row[name]) is None else f"{plain(row[name])}" for name in by)


def _notes(trials: pd.DataFrame, names: Sequence[str], metric: str) -> list[str]:
    """Which settings were averaged over."""
    settings = [name for name in trials.columns if name not in (metric, *names, *IDENTITY, *measurements())]
    groups = trials.groupby(list(names), dropna=False)
    over = [words(name) for name in settings if (groups[name].nunique(dropna=False) > 1).any()]
    return [f"a bar is the mean over all its trials, which differ in {', '.join(['seed', *over])}"]
