"""What the kinds of figures share: the comparison behind them, the lines in it, and their axes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import floor, isnan, log, log10
from typing import Any

import pandas as pd

from prunesweep.orchestrator.figures.charts import Axis, Series
from prunesweep.orchestrator.results import aggregation
from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, Key
from prunesweep.orchestrator.results.best_settings import TARGET, choose
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.units import Scale
from prunesweep.orchestrator.tables.means import Table, comparison, comparison_of_best, words
from prunesweep.orchestrator.tables.rendering import FORMS, chosen_by, label
from prunesweep.workers.errors import UserError

TICK_GAP = 0.12
"""Labels of places that are nearer to each other than this share of the axis would overlap."""

SPLIT = ("pretrain_epochs", "retrain_epochs")
TOTALS = (*SPLIT, "total_epochs")

_STEPS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 5.0, 7.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))
"""Digits of round numbers on a logarithmic axis, from few to many."""


@dataclass(frozen=True)
class Frames:
    """The tables of results: `trials` those that are asked about; the others are read when a figure needs them."""

    trials: pd.DataFrame
    curves: Callable[[], pd.DataFrame]
    layers: Callable[[], pd.DataFrame]


@dataclass(frozen=True)
class Line:
    """Cells that belong together, from low to high sparsity, and the dataset and model that they belong to."""

    subject: Key
    name: str
    cells: tuple[Cell, ...]


# --- cells


def compared(frame: pd.DataFrame, query: Query, metric: str, by: Sequence[str] = ()) -> tuple[pd.DataFrame, Table]:
    """The comparison that is asked for, and its trials: with `best_by`, those of the chosen settings."""
    if query.best_by is None:
        return aggregation.with_metric(frame, metric), comparison(frame, metric, by or None)
    table = comparison_of_best(frame, metric, by or None, query.best_by, query.tolerance)
    chosen = choose(frame, query.best_by, query.tolerance, table.row_names).trials
    return aggregation.with_metric(chosen, metric), table


def placed(table: Table) -> list[Cell]:
    """All cells but the controls, in the table's order."""
    return [table.cells[key] for key in product(table.rows, table.columns) if key in table.cells]


def names_of(table: Table) -> tuple[str, ...]:
    """The settings that tell the cells apart."""
    return (*table.row_names, *table.column_names)


def means(trials: pd.DataFrame, column: str, table: Table) -> Mapping[Key, float]:
    """Of each cell of the table, by its settings, the mean of another column; raises `UserError` without any."""
    found = aggregation.aggregate(trials, column, names_of(table)).dropna(subset=["mean"])
    if found.empty:
        raise UserError(f"nothing to plot: no trial has {column}")
    keys = ([aggregation.plain(row[name]) for name in names_of(table)] for row in found.to_dict("records"))
    return dict(zip(map(tuple, keys), map(float, found["mean"]), strict=True))


def paths(table: Table) -> list[Line]:
    """A line for each row, or for each of its budgets where it has several at one sparsity.

    Raises `UserError` when nothing has a target sparsity.
    """
    found = [cell for cell in placed(table) if cell.settings.get(TARGET) is not None]
    if not found:
        raise UserError("nothing to plot: no trial has a target sparsity")
    names, rest = ([name for name in part if name != TARGET] for part in (table.row_names, table.column_names))
    return list(lines(table, found, names, rest, TARGET))


def lines(table: Table, found: Iterable[Cell], names: Sequence[str], rest: Sequence[str], x: str) -> Iterator[Line]:
    """Groups that agree in the settings `names`, and in `rest` where two would be at the same `x`; ordered by `x`.

    A line is named after these settings, and after those of the rest that do not change along it.
    """
    for row in grouped(found, names):
        once = len({cell.settings[x] for cell in row}) == len(row)
        for same in grouped(row, names if once else [*names, *rest]):
            told = [*names, *(name for name in rest if len({cell.settings[name] for cell in same}) == 1)]
            ordered = sorted(same, key=lambda cell: float(cell.settings[x]))
            yield Line(subject(table, same[0]), named(table, same[0], told), tuple(ordered))


def grouped(cells: Iterable[Cell], names: Sequence[str]) -> list[list[Cell]]:
    """Those that agree in these settings, in order."""
    groups: dict[Key, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.at(names)].append(cell)
    return list(groups.values())


def subject(table: Table, cell: Cell) -> Key:
    """The dataset and model, as far as the table has several."""
    return cell.at(name for name in SUBJECT if name in table.row_names)


# --- words


def named(table: Table, cell: Cell, names: Iterable[str]) -> str:
    """`imp, FT, phases 2, 20+1 epochs`: the budget last, where a table may have it first."""
    ordered = sorted((name for name in names if name not in SUBJECT), key=lambda name: name == "total_epochs")
    given = [name for name in ordered if cell.settings[name] is not None]
    return ", ".join(said(table, name, cell.settings[name]) for name in given) or "none"


def said(table: Table, name: str, value: Any) -> str:
    """A setting in a name: `FT`, `phases 2`, `20+1 epochs`."""
    return value if isinstance(value, str) else FORMS.get(name, f"{words(name)} {{}}").format(label(table, name, value))


def title(table: Table) -> str:
    """The table's, and below it how settings were chosen."""
    return table.title.removesuffix(" (seeds)") + how_chosen(table)


def titled(trials: pd.DataFrame, what: str) -> str:
    """`digits, resnet8: density of layers in percent, mean ± standard deviation`; without what panels say."""
    fixed = ", ".join(str(trials[name].iloc[0]) for name in SUBJECT if trials[name].nunique() == 1)
    return f"{fixed}{': ' if fixed else ''}{what}, mean ± standard deviation"


def how_chosen(table: Table) -> str:
    """A line for below a title: by what settings were chosen; empty where they were not."""
    return f"\n{chosen_by(table)}" if table.best_by else ""


def heading(key: Key) -> str:
    """A panel's title."""
    return ", ".join(map(str, key))


def percent(fraction: float) -> str:
    """`90%`."""
    return f"{100 * fraction:.6g}%"


def in_unit(what: str, scale: Scale) -> str:
    """`test accuracy in percent`."""
    return " in ".join(filter(None, [what, scale.name]))


# --- series and axes


def series(name: str, kind: str, points: Iterable[tuple[float, Cell]], factor: float) -> Series:
    """Cells at their places, in units of people."""
    pairs = list(points)
    return Series(
        name=name,
        kind=kind,
        x=tuple(x for x, _ in pairs),
        y=tuple(cell.mean * factor for _, cell in pairs),
        deviation=tuple(None if cell.std is None else cell.std * factor for _, cell in pairs),
        n=tuple(cell.n for _, cell in pairs),
    )


def levels(table: Table, at: Key) -> list[Series]:
    """The dense networks of a dataset and model as horizontal lines; they never retrain."""
    names = [*(name for name in table.row_names if name not in TOTALS), "total_epochs"]
    return [
        level(named(table, cell, names), cell, table.scale.factor)
        for cell in table.controls
        if subject(table, cell) == at
    ]


def level(name: str, cell: Cell, factor: float) -> Series:
    """A horizontal line at a cell's mean."""
    deviation = None if cell.std is None else cell.std * factor
    return Series(name, "level", (), (cell.mean * factor,), (deviation,), (cell.n,))


def metric_axis(table: Table) -> Axis:
    """The metric, in its unit."""
    return Axis(in_unit(words(table.metric), table.scale))


def density_axis(densities: Iterable[float]) -> Axis:
    """Logarithmic in density, because the sparsities that matter bunch up near 1; labels are sparsities."""
    ticks = roomy(sorted(set(densities), reverse=True), log)
    return Axis("sparsity", "density", ticks, [percent(1 - density) for density in ticks])


def factor_axis(what: str, values: Iterable[float]) -> Axis:
    """Logarithmic, with round factors: `2x`."""
    ticks = log_ticks(list(values))
    return Axis(what, "log", ticks, [f"{tick:g}x" for tick in ticks])


def roomy(places: Sequence[float], measure: Callable[[float], float] = float) -> tuple[float, ...]:
    """The first of the places, and of the others those with room for a label; `measure` is the axis's."""
    span = abs(measure(places[-1]) - measure(places[0])) or 1.0
    shown = [places[0]]
    for place in places[1:]:
        if abs(measure(place) - measure(shown[-1])) >= TICK_GAP * span:
            shown.append(place)
    return tuple(shown)


def log_ticks(values: Sequence[float]) -> tuple[float, ...]:
    """At least three round numbers among the values, if there are, and no more than it takes."""
    low, high = min(values), max(values)
    decades = [10.0**k for k in range(floor(log10(low)), floor(log10(high)) + 1)]
    for steps in _STEPS:
        ticks = [d * s for d, s in product(decades, steps) if low / 1.15 <= d * s <= high * 1.15]
        if len(ticks) >= 3:
            return tuple(ticks)
    return tuple(ticks) or (low,)


def known(value: float | None) -> float | None:
    """None for what a frame calls NaN."""
    return None if value is None or isnan(value) else float(value)
