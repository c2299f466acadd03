"""What sparsity costs: the metric over sparsity, compression, theoretical speedup, and the FLOPs of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from prunesweep.orchestrator.figures.axes import density_axis, factor_axis, metric_axis
from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.comparisons import (
    CellLine,
    Frames,
    cell_series,
    compare_cells,
    control_lines,
    dense_levels,
    levels,
    lines_over_sparsity,
    mean_by_cell,
    merge_equal,
    setting_names,
)
from prunesweep.orchestrator.figures.wording import chart_title, heading, percent, setting_text
from prunesweep.orchestrator.results.aggregation import Cell, Key, sign_of
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.pareto import unbeaten
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.means import Table
from prunesweep.workers.errors import UserError

FRONT = "Pareto front"

BUDGET = "total_epochs"

MOST_LINES = 8
"""Where a panel would have more lines, each budget has a panel of its own."""

Place = Callable[[Cell], float | None]
"""Where a cell lies on the x axis; None leaves it out."""

XAxis = Callable[[Iterable[float]], Axis]
"""The axis for these places."""


def sparsity(frames: Frames, query: Query) -> Chart:
    """A panel for each dataset and model; in it a line for each row over target sparsity, the dense ones as levels.

    A row that has several budgets at one sparsity is a line for each of them; where that makes many lines, each budget
    has a panel. Of a single sparsity the rows are dots with their deviations, one below the other.
    """
    _, table = compare_cells(frames, query, query.column, query.by)
    lines = lines_over_sparsity(table)
    targets = {cell.settings[TARGET] for line in lines for cell in line.cells}
    if len(targets) == 1:
        return _dots(table, lines, f"sparsity {percent(targets.pop())}", frames.hues)
    return _chart_of_lines(table, lines, "line", _target_density, density_axis, frames.hues)


def compression(frames: Frames, query: Query) -> Chart:
    """As `sparsity`, over the mean compression ratio that was reached, on a logarithmic axis."""
    trials, table = compare_cells(frames, query, query.column, query.by)
    place = _place(mean_by_cell(trials, "compression_ratio", table), table)
    axis = partial(factor_axis, "compression ratio")
    return _chart_of_lines(table, lines_over_sparsity(table), "line", place, axis, frames.hues)


def speedup(frames: Frames, query: Query) -> Chart:
    """Means at their mean theoretical speedup, on a logarithmic axis; those that nothing beats in both are joined.

    The front is of the panel's methods; dense networks, lines across the panel, and pruning at random have no part in
    it.
    """
    return _with_fronts(frames, query, "theoretical_speedup", "theoretical speedup")


def training(frames: Frames, query: Query) -> Chart:
    """As `speedup`, over the FLOPs of the training as a multiple of dense training, of which less is better.

    All budgets are in one panel: they are part of the cost.
    """
    return _with_fronts(frames, query, "train_flops_ratio", "training FLOPs, of dense training", splits=False)


def _with_fronts(frames: Frames, query: Query, cost: str, label: str, *, splits: bool = True) -> Chart:
    trials, table = compare_cells(frames, query, query.column, query.by)
    place = _place(mean_by_cell(trials, cost, table), table)
    lines, axis = lines_over_sparsity(table), partial(factor_axis, label)
    chart = _chart_of_lines(table, lines, "points", place, axis, frames.hues, splits=splits)
    signs = sign_of(cost), sign_of(query.column)
    fronts = [_front(panel.series, *signs) for panel in chart.panels if isinstance(panel, Panel)]
    panels = [
        replace(panel, series=[*panel.series, *front])
        for panel, front in zip(chart.panels, fronts, strict=True)
        if isinstance(panel, Panel)
    ]
    return replace(chart, panels=panels)


def _target_density(cell: Cell) -> float | None:
    target = cell.settings[TARGET]
    return None if target is None else 1 - float(target)


def _place(means: Mapping[Key, float], table: Table) -> Place:
    return lambda cell: means.get(cell.at(setting_names(table)))


def _chart_of_lines(
    table: Table,
    lines: Sequence[CellLine],
    kind: str,
    place: Place,
    axis: XAxis,
    hues: Sequence[str],
    *,
    splits: bool = True,
) -> Chart:
    """A panel for each dataset and model, or where it `splits` for each of its budgets, with the same axes.

    What has no target sparsity is a line across the panel, unless it is sparse and has a place.
    """
    panels = []
    for at in dict.fromkeys(line.subject for line in lines):
        controls = control_lines(table, at)
        placed = [line for line in controls if line.cells[0].reached and place(line.cells[0]) is not None]
        here = [line for line in lines if line.subject == at] + placed
        dense = levels(table, [line for line in controls if line not in placed])
        drawn = {
            title: _series(table, part, kind, place, hues, out) for title, part, out in _parts(table, here, splits)
        }
        everything = [series for part in drawn.values() for series in part]
        if everything:
            x = axis([value for series in everything for value in series.x])
            y = metric_axis(table, [*everything, *dense], is_shared=len(drawn) > 1)
            titles = {title: heading((*at, *([title] if title else []))) for title in drawn}
            panels += [Panel(titles[title], x, y, [*part, *dense]) for title, part in drawn.items() if part]
    if not panels:
        raise UserError("nothing to plot: no trial with a target sparsity has what the x axis shows")
    return Chart(chart_title(table), merge_equal(panels), table.notes, hues)


def _parts(table: Table, lines: Sequence[CellLine], splits: bool) -> list[tuple[str, list[CellLine], tuple[str, ...]]]:
    """The lines of each panel, with its title and the settings that the title says; one panel where they are few."""
    budgets = sorted({line.setting(BUDGET) for line in lines}, key=lambda epochs: (epochs is None, epochs))
    if not splits or len(lines) <= MOST_LINES or len(budgets) < 2:
        return [("", list(lines), ())]
    return [
        (
            "budgets that grow" if budget is None else setting_text(table, BUDGET, budget),
            [line for line in lines if line.setting(BUDGET) == budget],
            (BUDGET,),
        )
        for budget in budgets
    ]


def _series(
    table: Table,
    lines: Sequence[CellLine],
    kind: str,
    place: Place,
    hues: Sequence[str],
    without: Sequence[str] = (),
) -> list[Series]:
    """A series of each line that has a cell with a place."""
    made = []
    for line in lines:
        places = [(place(cell), cell) for cell in line.cells]
        made.append(cell_series(table, line, kind, [(x, c) for x, c in places if x is not None], hues, without))
    return [series for series in made if series.x]


def _dots(table: Table, lines: Sequence[CellLine], title: str, hues: Sequence[str]) -> Chart:
    """A row for each line, which has one cell."""
    panels = []
    for at in dict.fromkeys(line.subject for line in lines):
        here = [line for line in lines if line.subject == at]
        rows = [cell_series(table, line, "points", [(n, line.cells[0])], hues) for n, line in enumerate(here)]
        drawn = [*rows, *dense_levels(table, at)]
        x = Axis("", "category", range(len(rows)), [series.name for series in rows])
        panels.append(Panel(heading((*at, title)), x, metric_axis(table, drawn), drawn, is_turned=True))
    return Chart(chart_title(table), panels, table.notes, hues)


def _front(drawn: Sequence[Series], cost_sign: int, sign: int) -> list[Series]:
    """The points that no other one beats, as `prunesweep.pareto`; none where neither direction is better."""
    if not sign:
        return []
    rivals = [series for series in drawn if series.kind == "points" and not series.is_control]
    points = {(x, y): n for series in rivals for x, y, n in zip(series.x, series.y, series.n, strict=True)}
    if not points:
        return []
    goods = np.array([(cost_sign * x, sign * y) for x, y in points])
    front = sorted(point for point, good in zip(points, goods, strict=True) if unbeaten(goods, good))
    xs, ys = zip(*front, strict=True)
    return [Series(FRONT, "front", xs, ys, [None] * len(front), [points[point] for point in front])]
