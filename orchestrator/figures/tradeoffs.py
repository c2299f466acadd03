"""What sparsity costs: the metric over sparsity, over compression, and over theoretical speedup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.parts import (
    Frames,
    Line,
    compared,
    density_axis,
    factor_axis,
    heading,
    levels,
    means,
    metric_axis,
    names_of,
    paths,
    series,
    title,
)
from prunesweep.orchestrator.results.aggregation import Cell, Key, sign_of
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.compare import unbeaten
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.means import Table
from prunesweep.workers.errors import UserError

FRONT = "Pareto front"


def sparsity(frames: Frames, query: Query) -> Chart:
    """A panel for each dataset and model; in it a line for each row over target sparsity, the dense ones as levels.

    A row that has several budgets at one sparsity is a line for each of them.
    """
    _, table = compared(frames.trials, query, query.metric, query.by)
    return _chart(table, lambda cell: 1 - float(cell.settings[TARGET]), density_axis)


def compression(frames: Frames, query: Query) -> Chart:
    """As `sparsity`, over the mean compression ratio that was reached, on a logarithmic axis."""
    trials, table = compared(frames.trials, query, query.metric, query.by)
    ratios = means(trials, "compression_ratio", table)
    return _chart(table, _at(ratios, table), lambda found: factor_axis("compression ratio reached", found))


def _at(found: Mapping[Key, float], table: Table) -> Callable[[Cell], float | None]:
    return lambda cell: found.get(cell.at(names_of(table)))


def _chart(table: Table, place: Callable[[Cell], float | None], axis: Callable[[Iterable[float]], Axis]) -> Chart:
    found = paths(table)
    panels = []
    for at in dict.fromkeys(line.subject for line in found):
        drawn = [_line(line, "line", place, table.scale.factor) for line in found if line.subject == at]
        drawn = [each for each in drawn if each.x]
        if drawn:
            x = axis(value for each in drawn for value in each.x)
            panels.append(Panel(heading(at), x, metric_axis(table), [*drawn, *levels(table, at)]))
    return _made(table, panels)


def _line(line: Line, kind: str, place: Callable[[Cell], float | None], factor: float) -> Series:
    """A cell without a place is left out."""
    places = [(place(cell), cell) for cell in line.cells]
    return series(line.name, kind, [(x, cell) for x, cell in places if x is not None], factor)


def speedup(frames: Frames, query: Query) -> Chart:
    """Means at their mean theoretical speedup, on a logarithmic axis; those that nothing beats in both are joined.

    The dense networks are points too, at a factor of 1.
    """
    trials, table = compared(frames.trials, query, query.metric, query.by)
    found, factor = paths(table), table.scale.factor
    sparse = _at(means(trials, "theoretical_speedup", table), table)
    panels = []
    for at in dict.fromkeys(line.subject for line in found):
        drawn = [_line(line, "points", sparse, factor) for line in found if line.subject == at]
        drawn += [replace(level, kind="points", x=(1.0,)) for level in levels(table, at)]
        drawn = [each for each in drawn if each.x]
        if drawn:
            x = factor_axis("theoretical speedup", (value for each in drawn for value in each.x))
            front = _front(drawn, sign_of(query.metric))
            panels.append(Panel(heading(at), x, metric_axis(table), [*drawn, *front]))
    return _made(table, panels)


def _made(table: Table, panels: Sequence[Panel]) -> Chart:
    if not panels:
        raise UserError("nothing to plot: no trial with a target sparsity has what the x axis shows")
    return Chart(title(table), panels, table.notes)


def _front(drawn: Sequence[Series], sign: int) -> list[Series]:
    """The points that no other one beats, as `prunesweep.pareto`; none where neither direction is better."""
    if not sign:
        return []
    points = {(x, y): n for each in drawn for x, y, n in zip(each.x, each.y, each.n, strict=True)}
    goods = np.array([(x, sign * y) for x, y in points])
    front = sorted(point for point, good in zip(points, goods, strict=True) if unbeaten(goods, good))
    xs, ys = zip(*front, strict=True)
    return [Series(FRONT, "front", xs, ys, [None] * len(front), [points[point] for point in front])]
