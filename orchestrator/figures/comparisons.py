"""The comparison behind a figure: its cells, the lines that they make, and those as series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import isnan
from typing import Any

import pandas as pd

from prunesweep.orchestrator.figures.charts import Panel, Series
from prunesweep.orchestrator.figures.hues import DENSE, hue_of, hues_of
from prunesweep.orchestrator.figures.wording import percent, series_name
from prunesweep.orchestrator.results.aggregation import OPTIONS, SUBJECT, Cell, Key, plain, with_metric
from prunesweep.orchestrator.results.best_settings import TARGET, choose
from prunesweep.orchestrator.results.filtering import check_column
from prunesweep.orchestrator.results.group_means import group_means
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.collapse import collapse_notes
from prunesweep.orchestrator.tables.means import Table, best_table, means_table
from prunesweep.orchestrator.tables.wording import written
from prunesweep.workers.errors import UserError

SPLIT = ("pretrain_epochs", "retrain_epochs")
TOTALS = (*SPLIT, "total_epochs")


def no_searches() -> pd.DataFrame:
    """Of what has none."""
    raise UserError("there are no searches: `search` in a sweep file makes some (docs/search.md)")


@dataclass(frozen=True)
class Frames:
    """The tables of results: the trials that are asked about, and functions that read the other tables on demand.

    `sweep` are all trials of the sweeps, asked about or not, by which colours are given; None for the same trials.
    What `candidates` hands out are those of searches.
    """

    trials: pd.DataFrame
    curves: Callable[[], pd.DataFrame]
    layers: Callable[[], pd.DataFrame]
    sweep: pd.DataFrame | None = None
    candidates: Callable[[], pd.DataFrame] = no_searches
    compared: dict[Hashable, tuple[pd.DataFrame, Table]] = field(default_factory=dict, repr=False)
    """What `compare_cells` has compared: several figures show the same cells."""

    @property
    def hues(self) -> list[str]:
        """What colours stand for in every figure of the sweeps."""
        return hues_of(self.trials if self.sweep is None else self.sweep)


MISSED_SHOWN = 3
"""A note names so many cells that are left out."""


@dataclass(frozen=True)
class CellLine:
    """Cells that one line joins, from low to high sparsity, and the settings `names` that tell the line from others."""

    subject: Key
    names: tuple[str, ...]
    cells: tuple[Cell, ...]

    def setting(self, name: str) -> Any:
        """The value of a setting that names the line; None for one that changes along it."""
        return self.cells[0].settings[name] if name in self.names else None


def compare_cells(frames: Frames, query: Query, metric: str, by: Sequence[str] = ()) -> tuple[pd.DataFrame, Table]:
    """The trials that the query compares, and their comparison: with `best_by`, those of the chosen settings."""
    key = query.best_by, query.tolerance, metric, tuple(by)
    if key not in frames.compared:
        frames.compared[key] = _compared(frames.trials, query, metric, by)
    return frames.compared[key]


def _compared(frame: pd.DataFrame, query: Query, metric: str, by: Sequence[str]) -> tuple[pd.DataFrame, Table]:
    if query.best_by is None:
        table = means_table(frame, metric, by or None, query.tolerance)
        return with_metric(frame, metric), replace(table, notes=(*table.notes, *_beside(table)))
    table = best_table(frame, metric, by or None, query.best_by, query.tolerance)
    chosen = choose(frame, query.best_by, query.tolerance, table.row_names).trials
    return with_metric(chosen, metric), replace(table, notes=(*table.notes, *_beside(table)))


def _beside(table: Table) -> Iterator[str]:
    """What a figure says beside what the table does."""
    yield from _left_out(table)
    yield from collapse_notes([*table.controls, *table_cells(table)])


def _left_out(table: Table) -> Iterator[str]:
    """The cells that are not drawn, since they missed their target, with what they reached."""
    shown = [f"{_named(table, cell)} reached {percent(cell.reached or 0.0)}" for cell in table.missed[:MISSED_SHOWN]]
    if shown:
        more = f"; {len(table.missed) - MISSED_SHOWN} more" if len(table.missed) > MISSED_SHOWN else ""
        yield f"left out, off their target sparsity: {'; '.join(shown)}{more}"


def _named(table: Table, cell: Cell) -> str:
    names = [name for name in (*table.row_names, *table.column_names) if name not in (*SUBJECT, *OPTIONS, TARGET)]
    values = [written(name, cell.settings[name], table.budgets) for name in names if cell.settings[name] is not None]
    return " ".join([*values, f"at {percent(cell.settings[TARGET])}"])


def sparse_cells(table: Table) -> list[Cell]:
    """All cells with a target sparsity, in the table's order; raises `UserError` when there are none."""
    sparse = [cell for cell in table_cells(table) if cell.settings.get(TARGET) is not None]
    if not sparse:
        raise UserError("nothing to plot: no trial has a target sparsity")
    return sparse


def table_cells(table: Table) -> list[Cell]:
    """All cells but the controls, in the table's order."""
    return [table.cells[key] for key in product(table.rows, table.columns) if key in table.cells]


def setting_names(table: Table) -> tuple[str, ...]:
    """The settings that tell the cells apart."""
    return (*table.row_names, *table.column_names)


def subject(table: Table, cell: Cell) -> Key:
    """The dataset and model with their options, as far as the table has several."""
    return cell.at(name for name in (*SUBJECT, *OPTIONS) if name in table.row_names)


def mean_by_cell(trials: pd.DataFrame, column: str, table: Table) -> Mapping[Key, float]:
    """Of each cell of the table, by its settings, the mean of another column; raises `UserError` without any."""
    check_column(trials, column)
    names = setting_names(table)
    means = group_means(trials, column, names).dropna(subset=["mean"])
    if means.empty:
        raise UserError(f"nothing to plot: no trial has {column}")
    keys = (tuple(plain(row[name]) for name in names) for row in means.to_dict("records"))
    return dict(zip(keys, map(float, means["mean"]), strict=True))


def lines_over_sparsity(table: Table) -> list[CellLine]:
    """A line for each row, or for each of its budgets where it has several at one sparsity.

    Raises `UserError` when nothing has a target sparsity.
    """
    names, rest = ([name for name in part if name != TARGET] for part in (table.row_names, table.column_names))
    return list(join_cells(table, sparse_cells(table), names, rest, TARGET))


def join_cells(
    table: Table, cells: Iterable[Cell], names: Sequence[str], rest: Sequence[str], x: str
) -> Iterator[CellLine]:
    """Lines of cells that agree in the settings `names`, and in `rest` where two would be at the same `x`.

    A line is ordered by `x`; its names are these settings, and those of the rest that do not change along it.
    """
    for row in group_cells(cells, names):
        is_single_valued = len({cell.settings[x] for cell in row}) == len(row)
        for line in group_cells(row, names if is_single_valued else [*names, *rest]):
            named_by = [*names, *(name for name in rest if len({cell.settings[name] for cell in line}) == 1)]
            ordered = sorted(line, key=lambda cell: float(cell.settings[x]))
            yield CellLine(subject(table, line[0]), tuple(named_by), tuple(ordered))


def group_cells(cells: Iterable[Cell], names: Sequence[str]) -> list[list[Cell]]:
    """Groups of cells that agree in these settings, in order."""
    groups: dict[Key, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.at(names)].append(cell)
    return list(groups.values())


# --- series

CONTROL = "random"
"""Pruning at random: where it is far off, it does not decide the axis."""


def cell_series(
    table: Table,
    line: CellLine,
    kind: str,
    points: Iterable[tuple[float, Cell]],
    hues: Sequence[str],
    without: Sequence[str] = (),
) -> Series:
    """A line's cells at their places, in the unit that the axis names; the name leaves the settings `without` out."""
    pairs, factor, cell = list(points), table.scale.factor, line.cells[0]
    names = [name for name in line.names if name not in without]
    return Series(
        name=series_name(table, cell, names),
        kind=kind,
        x=tuple(x for x, _ in pairs),
        y=tuple(cell.mean * factor for _, cell in pairs),
        deviation=tuple(None if cell.std is None else cell.std * factor for _, cell in pairs),
        n=tuple(cell.n for _, cell in pairs),
        hue=hue_of({name: cell.settings[name] for name in line.names}, hues),
        variant=variant_of(table, cell, names, hues),
        is_control=cell.settings.get("method") == CONTROL,
        collapsed=tuple(cell.collapsed for _, cell in pairs),
    )


def variant_of(table: Table, cell: Cell, names: Iterable[str], hues: Sequence[str]) -> str:
    """What of a series' name its hue does not say."""
    hue = hue_of(cell.settings, hues)
    said = ("method", "retrain_schedule") if ", " in hue else ("method",)
    return series_name(table, cell, [name for name in names if name not in said])


def control_lines(table: Table, at: Key) -> list[CellLine]:
    """What has no target sparsity, of a dataset and model: dense networks, `sr_ste` with its pattern; none retrains."""
    names = (*(name for name in table.row_names if name not in TOTALS), "total_epochs")
    return [CellLine(at, names, (cell,)) for cell in table.controls if subject(table, cell) == at]


def dense_levels(table: Table, at: Key) -> list[Series]:
    """What has no target sparsity, of a dataset and model, as lines across the panel."""
    return levels(table, control_lines(table, at))


def levels(table: Table, lines: Iterable[CellLine]) -> list[Series]:
    """Lines across the panel at the mean of each line's one cell."""
    factor = table.scale.factor
    return [level(series_name(table, line.cells[0], line.names), line.cells[0], factor) for line in lines]


def level(name: str, cell: Cell, factor: float) -> Series:
    """A line across the panel at a cell's mean."""
    deviation = None if cell.std is None else cell.std * factor
    return Series(name, "level", (), (cell.mean * factor,), (deviation,), (cell.n,), DENSE)


def merge_equal(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with series that coincide wherever they are, and in the panels below, as one: `imp, FT = LRW`."""
    points: dict[str, list[Key]] = defaultdict(list)
    for number, panel in enumerate([*panels, *(panel.below for panel in panels if panel.below)]):
        for series in panel.series:
            if series.kind in ("line", "points"):
                points[series.name].append((number, *series.x, *series.y, *series.deviation))
    groups: dict[Key, list[str]] = defaultdict(list)
    for name, places in points.items():
        groups[tuple(places)].append(name)
    names = {name: _joined(same) if name == same[0] else None for same in groups.values() for name in same}
    return [_with_names(panel, names) for panel in panels]


def _with_names(panel: Panel, names: Mapping[str, str | None]) -> Panel:
    below = panel.below and _with_names(panel.below, names)
    return replace(panel, series=list(_renamed(panel.series, names)), below=below)


def _renamed(series: Iterable[Series], names: Mapping[str, str | None]) -> Iterator[Series]:
    for one in series:
        name = names.get(one.name, one.name)
        if name is not None:
            yield replace(one, name=name)


def _joined(names: Sequence[str]) -> str:
    """`imp, FT = LRW, 20+1 epochs`: what the names share is said once.

    >>> _joined(["imp, FT, 20+1 epochs", "imp, LRW, 20+1 epochs"])
    'imp, FT = LRW, 20+1 epochs'
    """
    parts = [name.split(", ") for name in names]
    if len(set(map(len, parts))) > 1:
        return " = ".join(names)
    columns = [list(dict.fromkeys(column)) for column in zip(*parts, strict=True)]
    if sum(len(column) > 1 for column in columns) > 1:
        return " = ".join(names)
    return ", ".join(" = ".join(column) for column in columns)


def none_if_nan(value: float | None) -> float | None:
    """None for a value that a frame has as NaN."""
    return None if value is None or isnan(value) else float(value)
