"""What sparsity costs: the metric over sparsity, over compression, and over theoretical speedup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from prunesweep.orchestrator.figures.axes import density_axis, factor_axis, metric_axis
from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.comparisons import (
    CellLine,
    Frames,
    cell_series,
    compare_cells,
    dense_levels,
    lines_over_sparsity,
    mean_by_cell,
    setting_names,
)
from prunesweep.orchestrator.figures.wording import chart_title, heading
from prunesweep.orchestrator.results.aggregation import Cell, Key, sign_of
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.pareto import unbeaten
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.means import Table
from prunesweep.workers.errors import UserError

FRONT = "Pareto front"

Place = Callable[[Cell], float | None]
"""Where a cell lies on the x axis; None leaves it out."""


def sparsity(frames: Frames, query: Query) -> Chart:
    """A panel for each dataset and model; in it a line for each row over target sparsity, the dense ones as levels.

    A row that has several budgets at one sparsity is a line for each of them.
    """
    _, table = compare_cells(frames.trials, query, query.metric, query.by)
    return _lines(table, lambda cell: 1 - float(cell.settings[TARGET]), density_axis)


def compression(frames: Frames, query: Query) -> Chart:
    """As `sparsity`, over the mean compression ratio that was reached, on a logarithmic axis."""
    trials, table = compare_cells(frames.trials, query, query.metric, query.by)
    ratios = mean_by_cell(trials, "compression_ratio", table)
    return _lines(table, _place(ratios, table), lambda values: factor_axis("compression ratio reached", values))


def speedup(frames: Frames, query: Query) -> Chart:
    """Means at their mean theoretical speedup, on a logarithmic axis; those that nothing beats in both are joined.

    The dense networks are points too, at a factor of 1.
    """
    trials, table = compare_cells(frames.trials, query, query.metric, query.by)
    lines, factor = lines_over_sparsity(table), table.scale.factor
    place = _place(mean_by_cell(trials, "theoretical_speedup", table), table)
    panels = []
    for at in dict.fromkeys(line.subject for line in lines):
        points = [_series(line, "points", place, factor) for line in lines if line.subject == at]
        points += [replace(level, kind="points", x=(1.0,)) for level in dense_levels(table, at)]
        points = [series for series in points if series.x]
        if points:
            x = factor_axis("theoretical speedup", (value for series in points for value in series.x))
            front = _front(points, sign_of(query.metric))
            panels.append(Panel(heading(at), x, metric_axis(table), [*points, *front]))
    return _chart(table, panels)


def _place(means: Mapping[Key, float], table: Table) -> Place:
    return lambda cell: means.get(cell.at(setting_names(table)))


def _lines(table: Table, place: Place, axis: Callable[[Iterable[float]], Axis]) -> Chart:
    lines = lines_over_sparsity(table)
    panels = []
    for at in dict.fromkeys(line.subject for line in lines):
        drawn = [_series(line, "line", place, table.scale.factor) for line in lines if line.subject == at]
        drawn = [series for series in drawn if series.x]
        if drawn:
            x = axis(value for series in drawn for value in series.x)
            panels.append(Panel(heading(at), x, metric_axis(table), [*drawn, *dense_levels(table, at)]))
    return _chart(table, panels)


def _series(line: CellLine, kind: str, place: Place, factor: float) -> Series:
    places = [(place(cell), cell) for cell in line.cells]
    return cell_series(line.name, kind, [(x, cell) for x, cell in places if x is not None], factor)


def _chart(table: Table, panels: Sequence[Panel]) -> Chart:
    if not panels:
        raise UserError("nothing to plot: no trial with a target sparsity has what the x axis shows")
    return Chart(chart_title(table), panels, table.notes)


def _front(drawn: Sequence[Series], sign: int) -> list[Series]:
    """The points that no other one beats, as `prunesweep.pareto`; none where neither direction is better."""
    if not sign:
        return []
    points = {(x, y): n for series in drawn for x, y, n in zip(series.x, series.y, series.n, strict=True)}
    goods = np.array([(x, sign * y) for x, y in points])
    front = sorted(point for point, good in zip(points, goods, strict=True) if unbeaten(goods, good))
    xs, ys = zip(*front, strict=True)
    return [Series(FRONT, "front", xs, ys, [None] * len(front), [points[point] for point in front])]
