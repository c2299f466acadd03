"""A sweep's means beside published ones: which cells correspond."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, groups, plain, separating, with_metric
from prunesweep.orchestrator.results.published import KEYS
from prunesweep.orchestrator.results.schemas import IDENTITY, MEASUREMENTS
from prunesweep.workers.errors import UserError, unknown

REACHED = "reached_sparsity"

Across = Mapping[str, Mapping[Any, Any] | None]
"""Settings that need not be equal: None where any value corresponds to any, or ours -> published."""


@dataclass(frozen=True)
class Counterpart:
    """A cell and a published number: its settings, `mean`, and `std`, which may be None. `reached` are mean sparsities.

    All in the metric's own unit.
    """

    cell: Cell
    settings: Mapping[str, Any]
    mean: float
    std: float | None
    reached: tuple[float | None, float | None]

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.cell.mean - self.mean


@dataclass(frozen=True)
class Beside:
    """The pairs, in the sweep's order; the cells and the published rows (by place) that have no counterpart."""

    found: tuple[Counterpart, ...]
    cells: tuple[Cell, ...]
    alone: tuple[Cell, ...]
    published: pd.DataFrame
    missed: tuple[int, ...]


def beside(frame: pd.DataFrame, published: pd.DataFrame, metric: str, across: Across | None = None) -> Beside:
    """Lay each mean over seeds beside the published numbers of the same settings.

    Settings that a published row does not state are not looked at, nor are those named in `across`. A cell that
    corresponds to several published rows comes once for each. Raises `UserError` where `published` lacks the metric.
    """
    rows = published[published["metric"] == metric]
    if rows.empty:
        raise UserError(f"nothing published: {unknown('metric', metric, published['metric'].unique())}")
    trials = with_metric(frame, metric)
    names = [*SUBJECT, *(name for name in KEYS if name in trials.columns and name not in SUBJECT)]
    settings = [name for name in trials.columns if name not in (metric, *IDENTITY, *MEASUREMENTS)]
    names = separating(trials, names, settings)
    cells = [group.cell for group in groups(trials, metric, names)]
    ours = _reached(trials, names)
    theirs = {_key(row): row["mean"] for row in _records(published[published["metric"] == REACHED])}
    given = _records(rows)
    found, missed = [], set(range(len(given)))
    for cell, sparsity in zip(cells, ours, strict=True):
        for place, row in enumerate(given):
            if _correspond(cell, row, across or {}):
                missed.discard(place)
                reached = (sparsity, theirs.get(_key(row)))
                found.append(Counterpart(cell, {n: row[n] for n in KEYS}, row["mean"], row["std"], reached))
    matched = {id(each.cell) for each in found}
    alone = tuple(cell for cell in cells if id(cell) not in matched)
    return Beside(tuple(found), tuple(cells), alone, rows, tuple(sorted(missed)))


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): plain(value) for name, value in row.items()} for row in rows.to_dict("records")]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS)


def _reached(trials: pd.DataFrame, names: Sequence[str]) -> list[float | None]:
    same = trials.groupby(list(names), dropna=False, sort=False)
    if REACHED not in trials.columns:
        return [None] * same.ngroups
    return [plain(value) for value in same[REACHED].mean()]


def _correspond(cell: Cell, row: Mapping[str, Any], across: Across) -> bool:
    return all(row[name] is None or _equal(cell.settings.get(name), row[name], across.get(name, {})) for name in KEYS)


def _equal(ours: Any, theirs: Any, mapping: Mapping[Any, Any] | None) -> bool:
    if mapping is None:
        return True
    ours = mapping.get(ours) if mapping else ours
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return isclose(ours, theirs, rel_tol=1e-9)
    return bool(ours == theirs)


def read_across(texts: Iterable[str]) -> Across:
    """From `dataset`, or `retrain_epochs=1:2,2:10` where ours are 1 and 2 and the published 2 and 10."""
    found: dict[str, Mapping[Any, Any] | None] = {}
    for text in texts:
        name, mark, pairs = text.partition("=")
        if name not in KEYS:
            raise UserError(f"--across {text}: {unknown('column', name, KEYS)}")
        found[name] = dict(_pair(text, pair) for pair in pairs.split(",")) if mark else None
    return found


def _pair(text: str, pair: str) -> tuple[Any, Any]:
    ours, mark, theirs = pair.partition(":")
    if not (mark and ours.strip() and theirs.strip()):
        raise UserError(f'--across {text}: "{pair}" is no pair; write COLUMN, or COLUMN=OURS:PUBLISHED,OURS:PUBLISHED')
    return _value(ours.strip()), _value(theirs.strip())


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
