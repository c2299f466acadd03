"""What `compare` prints: differences to the best setting, or to a named one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import inf, isnan
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, budgets, in_order, sign_of
from prunesweep.orchestrator.results.compare import AT, BY, Comparison, comparisons, nothing_to_compare
from prunesweep.orchestrator.results.marking import off_target_notes, unranked_notes
from prunesweep.orchestrator.results.primary import on_test
from prunesweep.orchestrator.results.units import Scale
from prunesweep.orchestrator.tables.collapse import collapse_notes
from prunesweep.orchestrator.tables.comparison_parts import (
    columns,
    difference_head,
    labels_of,
    mean_entry,
    set_apart,
    title_of,
    unit_of,
)
from prunesweep.orchestrator.tables.failed_cells import failed_cells
from prunesweep.orchestrator.tables.left_out import ACROSS_BUDGETS, BUDGET, left_out, without_target
from prunesweep.orchestrator.tables.means import missing, resolution
from prunesweep.orchestrator.tables.text_table import Columns, Emphasis, Entry, Line, TextTable
from prunesweep.orchestrator.tables.wording import words
from prunesweep.workers.errors import UserError

NOTE = "mean differences over shared seeds to the first of each block"

BESIDE = 6
"""Columns beside that of the means."""


def differences(
    frame: pd.DataFrame,
    metric: str | None = None,
    by: Sequence[str] = (),
    against: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
    at: Sequence[str] = AT,
    asked: pd.DataFrame | None = None,
) -> TextTable:
    """A line for each setting, best first: how far it is from the best of its arena, or from `against`.

    As `prunesweep.compare`, with the reference itself. Arenas are by `at`: sparsity, then budget.
    The last of a block are the settings whose trials all failed: of `asked`, as `orchestrator.run.outcomes` makes it.
    """
    metric = on_test(frame, metric)
    compared = comparisons(frame, metric, by or BY, at, against, tolerance)
    if not compared:
        across = f"; {ACROSS_BUDGETS}" if BUDGET in at else ""
        raise UserError(nothing_to_compare(at, against) + across)
    arenas = {key: list(same) for key, same in groupby(compared, key=lambda comparison: comparison.cell.at(at))}
    shown = [cell for comparison in compared for cell in (comparison.cell, comparison.reference)]
    failed = [cell for cell in failed_cells(asked, shown) if None not in cell.at(at)]
    names = _shown([*shown, *failed], at)
    cells = [comparison.cell for comparison in compared]
    labels = {**({} if asked is None else budgets(asked)), **budgets(frame)}
    unit = unit_of(metric, cells)
    blocks = [
        [
            *_block(_ordered(arenas.get(key, []), metric), names, unit, labels),
            *(_failed_line(cell, names, labels) for cell in failed if cell.at(at) == key),
        ]
        for key in in_order([*arenas, *(cell.at(at) for cell in failed)])
    ]
    return TextTable(
        title=title_of(cells, metric, unit, f"differences to {_spoken(against)}"),
        heads=tuple(map(words, names)),
        columns=columns(words(metric), difference_head(unit), "95% interval", "g", "seeds", "p", ""),
        above=tuple(without_target(frame, metric, at)),
        lines=tuple(set_apart(blocks)),
        holds=Columns.NUMBERS,
        legend=(NOTE, *_legend(compared, against is not None)),
        notes=(*left_out(frame, metric, by or BY, at, compared), *_notes(frame, metric, compared)),
        records=(
            *(_record(comparison, metric, at) for comparison in compared),
            *({"metric": metric, **cell.settings, "n": 0, "failed": cell.failed} for cell in failed),
        ),
    )


def _failed_line(cell: Cell, names: Sequence[str], labels: Mapping[int, str]) -> Line:
    return Line(labels_of(cell, names, labels), (Entry(str(cell.failed)), *[Entry("")] * BESIDE))


def _shown(cells: Sequence[Cell], at: Sequence[str]) -> list[str]:
    """The settings that vary: arenas first, without a dataset or model that all share."""
    names = list(cells[0].settings)
    varying = [name for name in names if len({cell.settings[name] for cell in cells}) > 1]
    return [name for name in names if name in varying or (name in at and name not in SUBJECT)]


def _ordered(compared: Sequence[Comparison], metric: str) -> list[Comparison]:
    """The best first, what shares no seed last."""
    sign = sign_of(metric)
    return sorted(compared, key=lambda c: inf if c.difference.n == 0 else -sign * c.difference.mean)


def _block(compared: Sequence[Comparison], names: Sequence[str], unit: Scale, labels: Mapping[int, str]) -> list[Line]:
    """The reference, then what is compared with it."""
    if not compared:
        return []
    reference = compared[0].reference
    mean = mean_entry(reference, unit, Emphasis.BOLD)
    lines = [Line(labels_of(reference, names, labels), (mean, *[Entry("")] * BESIDE))]
    for comparison in compared:
        entries = (mean_entry(comparison.cell, unit), *map(Entry, _texts(comparison, unit)))
        lines.append(Line(labels_of(comparison.cell, names, labels), entries))
    return lines


def _texts(comparison: Comparison, unit: Scale) -> tuple[str, ...]:
    over = comparison.difference
    difference = "-" if isnan(over.mean) else unit.number(over.mean, "+")
    interval = "-" if isnan(over.low) else f"{unit.number(over.low, '+')} to {unit.number(over.high, '+')}"
    mark = "*" if comparison.distinguishable is False else ""
    effect = "-" if comparison.effect is None else f"{comparison.effect:+.2f}"
    return difference, interval, effect, str(over.n), _p(comparison.p), mark


def _p(value: float) -> str:
    if isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _spoken(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return "the best"
    return ", ".join(f"{words(name)} {value}" for name, value in against.items())


def _legend(compared: Sequence[Comparison], is_named: bool) -> Iterator[str]:
    """What the intervals cover, and what is marked."""
    if any(comparison.is_ranked for comparison in compared):
        what = "of this difference" if is_named else "of the setting minus the best of the others"
        yield f"95% intervals: {what}; all of a block hold at once"
        yield f"p: moderated paired t, adjusted for {'the block' if is_named else 'all pairs of the block'}"
        yield f"{{near}}: not shown to be {'different' if is_named else 'worse'} at 5%"
    if not all(comparison.is_ranked for comparison in compared):
        yield "95% intervals without p: of this difference alone"
    if any(comparison.effect is not None for comparison in compared):
        yield "g: effect size, the difference of the two means over their pooled deviation (Hedges' g)"


def _notes(frame: pd.DataFrame, metric: str, compared: Sequence[Comparison]) -> Iterator[str]:
    cells = list(
        {id(cell): cell for comparison in compared for cell in (comparison.cell, comparison.reference)}.values()
    )
    yield from unranked_notes(cells)
    yield from off_target_notes(comparison.cell for comparison in compared)
    yield from collapse_notes(cells)
    if any(isnan(comparison.difference.low) and comparison.difference.n > 1 for comparison in compared):
        yield "no interval: the same difference with every seed, so p is that of a sign test"
    yield from resolution(frame, metric)
    yield from missing(frame, cells)


def _record(comparison: Comparison, metric: str, at: Sequence[str]) -> dict[str, Any]:
    over, reference = comparison.difference, comparison.reference
    numbers = {"difference": over.mean, "std": over.std, "low": over.low, "high": over.high}
    numbers["p_adjusted"] = comparison.p
    return {
        "metric": metric,
        **comparison.cell.settings,
        **{f"against_{name}": value for name, value in reference.settings.items() if name not in at},
        **{"mean": comparison.cell.mean, "against_mean": reference.mean},
        **{name: None if isnan(value) else value for name, value in numbers.items()},
        **{"hedges_g": comparison.effect, "n": over.n, "distinguishable": comparison.distinguishable},
    }
