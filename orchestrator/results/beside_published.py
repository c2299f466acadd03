"""Means over seeds beside published numbers of the same settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isclose, nan
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import (
    REACHED,
    SUBJECT,
    Cell,
    Key,
    groups,
    plain,
    separating,
    with_metric,
)
from prunesweep.orchestrator.results.compare import Comparison, other_settings
from prunesweep.orchestrator.results.published import KEYS, OURS
from prunesweep.orchestrator.results.statistics import Paired
from prunesweep.workers.errors import UserError, unknown


@dataclass(frozen=True)
class BesidePublished:
    """The comparisons, in the sweep's order; the cells and the published rows (by place) that have no counterpart."""

    comparisons: tuple[Comparison, ...]
    cells: tuple[Cell, ...]
    alone: tuple[Cell, ...]
    published: pd.DataFrame
    missed: tuple[int, ...]


def beside_published(
    frame: pd.DataFrame, published: pd.DataFrame, metric: str, across: Collection[str] = ()
) -> BesidePublished:
    """Lay each mean over seeds beside the published numbers of the same settings.

    Settings that a published row does not state are not looked at, nor are those named in `across`. A cell that
    corresponds to several published rows comes once for each. Raises `UserError` where `published` lacks the metric,
    and for a name in `across` that published numbers never state.
    """
    for name in across:
        if name not in KEYS:
            raise UserError(f"--across {name}: {unknown('column', name, KEYS)}")
    rows = published[published["metric"] == metric]
    if rows.empty:
        raise UserError(f"nothing published: {unknown('metric', metric, published['metric'].unique())}")
    cells = _cells(frame, metric)
    reached = {_stated(row): row["mean"] for row in _records(published[published["metric"] == REACHED])}
    stated = [(row, _published_cell(row, reached)) for row in _records(rows)]
    matches = [
        (place, Comparison(cell, theirs, _difference(cell, theirs)))
        for cell in cells
        for place, (row, theirs) in enumerate(stated)
        if _correspond(cell, row, across)
    ]
    matched = {id(comparison.cell) for _, comparison in matches}
    return BesidePublished(
        comparisons=tuple(comparison for _, comparison in matches),
        cells=tuple(cells),
        alone=tuple(cell for cell in cells if id(cell) not in matched),
        published=rows,
        missed=tuple(sorted({*range(len(stated))} - {place for place, _ in matches})),
    )


def _cells(frame: pd.DataFrame, metric: str) -> list[Cell]:
    trials = with_metric(frame, metric)
    names = [*SUBJECT, *(name for name in KEYS if name in trials.columns and name not in SUBJECT)]
    names = separating(trials, names, other_settings(trials, metric))
    return [group.cell for group in groups(trials, metric, names)]


def _published_cell(row: Mapping[str, Any], reached: Mapping[Key, float]) -> Cell:
    return Cell({name: row[name] for name in KEYS}, row["mean"], row["std"], n=0, reached=reached.get(_stated(row)))


def _difference(cell: Cell, theirs: Cell) -> Paired:
    """Of means: no seed is shared."""
    return Paired(cell.mean - theirs.mean, nan, 0, nan, nan)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): plain(value) for name, value in row.items()} for row in rows.to_dict("records")]


def _stated(row: Mapping[str, Any]) -> Key:
    return tuple(row[name] for name in KEYS)


def _correspond(cell: Cell, row: Mapping[str, Any], across: Collection[str]) -> bool:
    for name in KEYS:
        wanted = row[name] if row.get(OURS + name) is None else row[OURS + name]
        if name not in across and wanted is not None and not _equal(cell.settings.get(name), wanted):
            return False
    return True


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return isclose(ours, theirs, rel_tol=1e-9)
    return bool(ours == theirs)
