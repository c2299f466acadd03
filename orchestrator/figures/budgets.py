"""What retraining buys: the metric over the budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from prunesweep.orchestrator.figures.axes import metric_axis, spaced_ticks
from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel
from prunesweep.orchestrator.figures.comparisons import (
    TOTALS,
    Frames,
    cell_series,
    compare_cells,
    dense_levels,
    group_cells,
    join_cells,
    merge_equal,
    setting_names,
    sparse_cells,
    subject,
)
from prunesweep.orchestrator.figures.wording import chart_title, heading, percent
from prunesweep.orchestrator.results.aggregation import Cell, Key
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.means import ROWS, Table
from prunesweep.workers.errors import UserError

BUDGET = "retrain_epochs"


def budget(frames: Frames, query: Query) -> Chart:
    """A panel for each dataset, model and sparsity; in it a line over the epochs of retraining for each row.

    A method that does not retrain is a point at 0. The notes say how many epochs each method trains in all.
    """
    if frames.trials["retrain_schedule"].isna().all():
        raise UserError("nothing to plot over the retraining budget: no trial has a retraining schedule")
    by = query.by or (ROWS if query.best_by is None else ROWS[:1])
    _, table = compare_cells(frames, query, query.column, list(dict.fromkeys([*by, BUDGET])))
    cells = sparse_cells(table)
    targets = sorted({cell.settings[TARGET] for cell in cells})
    panels = []
    for at in dict.fromkeys(subject(table, cell) for cell in cells):
        for sparsity in targets:
            here = [c for c in cells if subject(table, c) == at and c.settings[TARGET] == sparsity]
            if here:
                panels.append(_panel(table, at, sparsity, here, frames.hues))
    notes = [*table.notes, *_totals(frames.trials.dropna(subset=[TARGET]))]
    return Chart(chart_title(table), merge_equal(panels), notes, frames.hues)


def _panel(table: Table, at: Key, sparsity: float, cells: Sequence[Cell], hues: Sequence[str]) -> Panel:
    names = [name for name in setting_names(table) if name not in (TARGET, *TOTALS)]
    is_single = all(len({cell.settings[BUDGET] for cell in row}) == len(row) for row in group_cells(cells, names))
    rest = [] if is_single else [name for name in setting_names(table) if name in TOTALS and name != BUDGET]
    lines = [
        cell_series(table, line, "line", [(cell.settings[BUDGET], cell) for cell in line.cells], hues)
        for line in join_cells(table, cells, names, rest, BUDGET)
    ]
    ticks = spaced_ticks(sorted({x for line in lines for x in line.x}))
    axis = Axis("epochs of retraining", "linear", ticks, [f"{tick:g}" for tick in ticks])
    title = heading((*at, f"sparsity {percent(sparsity)}"))
    drawn = [*lines, *dense_levels(table, at)]
    return Panel(title, axis, metric_axis(table, drawn), drawn)


def _totals(trials: pd.DataFrame) -> Iterator[str]:
    """How many epochs each method trains in all, which the axis does not show."""
    spans = [f"{method} {_span(same['total_epochs'])}" for method, same in trials.groupby("method", sort=False)]
    yield f"epochs in all, pretraining included: {', '.join(spans)}"


def _span(values: pd.Series[int]) -> str:
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
