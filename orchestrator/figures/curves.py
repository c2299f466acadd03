"""How networks train: the learning curves of a few settings, with the prunes marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isnan

import pandas as pd

from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.comparisons import (
    Frames,
    compare_cells,
    group_cells,
    merge_equal,
    none_if_nan,
    setting_names,
    subject,
    table_cells,
    variant_of,
)
from prunesweep.orchestrator.figures.hues import hue_of
from prunesweep.orchestrator.figures.wording import heading, how_chosen, in_unit, percent, series_name, title_about
from prunesweep.orchestrator.results.aggregation import Cell, Key, plain
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.primary import primary
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import better
from prunesweep.orchestrator.results.units import scale
from prunesweep.orchestrator.tables.means import Table
from prunesweep.orchestrator.tables.wording import words
from prunesweep.workers.errors import UserError, unknown


def _ends(trials: pd.DataFrame) -> dict[str, str]:
    """The columns of curves that can be drawn, and those of trials that say where they end."""
    names = [f"{split}_{metric}" for split in ("validation", "train") for metric in (primary(trials), "loss")]
    return {**{name: name for name in names}, "sparsity": "reached_sparsity"}


LINES = 8
"""At most so many curves are in a panel: more are not distinguishable from each other."""

BEFORE = 2
"""The epochs shown before the first prune, as a multiple of those after it: what follows fills a third of the axis."""

PRUNE = "prune"


@dataclass(frozen=True)
class Curve:
    """The rows of a path in their order: epochs, and of a column means, deviations and counts over seeds."""

    epochs: Sequence[float]
    mean: Sequence[float]
    deviation: Sequence[float | None]
    n: Sequence[int]

    def series(self, look: Series, start: float, factor: float) -> Series:
        """The curve from an epoch on, in the axis's unit, without rows that have no value; it looks as `look` does."""
        rows = zip(self.epochs, self.mean, self.deviation, self.n, strict=True)
        kept = [(e, m * factor, s and s * factor, n) for e, m, s, n in rows if e >= start and not isnan(m)]
        x, y, deviation, n = zip(*kept, strict=True) if kept else ((), (), (), ())
        return replace(look, x=x, y=y, deviation=deviation, n=n)


def curves(frames: Frames, query: Query) -> Chart:
    """A panel for each dataset and model: the metric after each epoch of a trial's path, above the learning rate.

    An epoch after which the network was pruned has two points, before and after, and a mark. Of more than eight
    settings besides the dense ones some are chosen; the notes say how.
    """
    metric, ends = query.column, _ends(frames.trials)
    if metric not in ends:
        raise UserError(unknown("metric of learning curves", metric, ends))
    trials, table = compare_cells(frames, query, ends[metric], query.by)
    names = setting_names(table)
    rows = frames.curves().merge(trials[["trial", *names]], on="trial")
    all_curves = CellCurves(
        table, metric, frames.hues, *(_means(rows, column, names) for column in (metric, "learning_rate"))
    )
    cells = [cell for cell in (*table.controls, *table_cells(table)) if cell.at(names) in all_curves.measured]
    if not cells:
        raise UserError("nothing to plot: curves.parquet has none of these trials; `prunesweep run SWEEP` writes it")
    controls = {id(cell) for cell in table.controls}
    panels, notes = [], list(table.notes)
    for at in dict.fromkeys(subject(table, cell) for cell in cells):
        here = [cell for cell in cells if subject(table, cell) == at]
        few, how = _few([cell for cell in here if id(cell) not in controls], table)
        few = [*(cell for cell in here if id(cell) in controls), *few]
        start = all_curves.start(few)
        panels.append(all_curves.panel(at, few))
        notes += [*how, *([f"epochs before {start:g} are left out"] if start else [])]
    title = title_about(trials, panels[0].y.label) + how_chosen(table)
    return Chart(title, merge_equal(panels), list(dict.fromkeys(notes)), frames.hues)


@dataclass(frozen=True)
class CellCurves:
    """The curves of a table's cells, by their settings: of the metric, and of the learning rate."""

    table: Table
    metric: str
    hues: Sequence[str]
    measured: Mapping[Key, Curve]
    rates: Mapping[Key, Curve]

    def panel(self, at: Key, cells: Sequence[Cell]) -> Panel:
        """The cells of a dataset and model; a target sparsity that all have is in the title."""
        targets = {cell.settings[TARGET] for cell in cells if cell.settings.get(TARGET) is not None}
        shared = [f"sparsity {percent(target)}" for target in targets if len(targets) == 1]
        told = [name for name in setting_names(self.table) if name != TARGET or not shared]
        keys = [(self._look(cell, told), cell.at(setting_names(self.table))) for cell in cells]
        start, unit = self.start(cells), scale(self.table.metric)
        marks = [mark for mark in self._marks(cells) if mark >= start]
        rates = [self.rates[key].series(look, start, 1.0) for look, key in keys]
        measured = [self.measured[key].series(look, start, unit.factor) for look, key in keys]
        measured = [_ending(series, cell) for series, cell in zip(measured, cells, strict=True)]
        epochs, title = Axis("epochs", whole=True), heading((*at, *shared))
        below = Panel("", epochs, Axis("learning rate"), rates, marks, PRUNE)
        return Panel(title, epochs, Axis(in_unit(words(self.metric), unit)), measured, marks, PRUNE, below)

    def _look(self, cell: Cell, names: Sequence[str]) -> Series:
        """A line without points, named after these settings of the cell."""
        name, variant = series_name(self.table, cell, names), variant_of(self.table, cell, names, self.hues)
        return Series(name, "line", (), (), (), (), hue_of(cell.settings, self.hues), variant)

    def start(self, cells: Sequence[Cell]) -> float:
        """The first epoch to show, such that what follows the first prune fills a third of the axis."""
        marks = self._marks(cells)
        last = max(self.measured[cell.at(setting_names(self.table))].epochs[-1] for cell in cells)
        return max(0.0, marks[0] - BEFORE * (last - marks[0])) if marks and last > marks[0] else 0.0

    def _marks(self, cells: Sequence[Cell]) -> list[float]:
        """The epochs that have two rows."""
        paths = [self.measured[cell.at(setting_names(self.table))].epochs for cell in cells]
        return sorted({epoch for path in paths for before, epoch in pairwise(path) if before == epoch})


def _ending(series: Series, cell: Cell) -> Series:
    """With a mark at the end where a network is part of the mean of which a layer kept no weight."""
    return replace(series, collapsed=[*[0] * (len(series.x) - 1), cell.collapsed]) if cell.collapsed else series


def _means(rows: pd.DataFrame, column: str, names: Sequence[str]) -> dict[Key, Curve]:
    """Of each setting; seeds are averaged row by row of their paths, because an epoch may have two."""
    ordered = rows.assign(place=rows.groupby("trial").cumcount())
    groups = ordered.groupby([*names, "place"], dropna=False)
    means = groups[column].agg(["mean", "std", "count"]).assign(epoch=groups["epoch"].first()).reset_index()
    return {
        tuple(map(plain, key)): Curve(
            [int(epoch) for epoch in same["epoch"]],
            list(map(float, same["mean"])),
            list(map(none_if_nan, same["std"])),
            list(map(int, same["count"])),
        )
        for key, same in means.groupby(list(names), dropna=False)
    }


# --- which of many


def _highest(cells: Sequence[Cell], table: Table) -> list[Cell]:
    targets = [cell.settings.get(TARGET) or 0.0 for cell in cells]
    highest = max(targets)
    return [cell for cell, target in zip(cells, targets, strict=True) if target == highest]


def _longest(cells: Sequence[Cell], table: Table) -> list[Cell]:
    rest = [name for name in setting_names(table) if name != "total_epochs"]
    return [max(same, key=lambda cell: cell.settings.get("total_epochs", 0)) for same in group_cells(cells, rest)]


def _best(cells: Sequence[Cell], table: Table) -> list[Cell]:
    sign = -1 if better(table.metric) == "lower" else 1
    best = sorted(cells, key=lambda cell: -sign * cell.mean)[:LINES]
    return [cell for cell in cells if cell in best]


_STEPS: Mapping[str, Callable[[Sequence[Cell], Table], list[Cell]]] = {
    "those of the highest sparsity": _highest,
    "the largest budget of each": _longest,
    f"the {LINES} that end best": _best,
}


def _few(cells: Sequence[Cell], table: Table) -> tuple[list[Cell], list[str]]:
    """At most `LINES` of the cells, chosen step by step, and what was done."""
    chosen, steps = list(cells), []
    for what, step in _STEPS.items():
        fewer = step(chosen, table) if len(chosen) > LINES else chosen
        if len(fewer) < len(chosen):
            chosen = fewer
            steps.append(what)
    note = f"{len(chosen)} of {len(cells)} settings are shown: {', of these '.join(steps)}; choose others with --where"
    return chosen, [note] if steps else []
