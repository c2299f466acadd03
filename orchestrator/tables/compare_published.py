"""What `compare --published` prints: means over seeds beside published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, in_order, plain
from prunesweep.orchestrator.results.beside_published import BesidePublished, beside_published
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.compare import BY, Comparison
from prunesweep.orchestrator.results.published import KEYS
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
from prunesweep.orchestrator.tables.means import missing
from prunesweep.orchestrator.tables.text_table import Columns, Entry, Line, TextTable
from prunesweep.orchestrator.tables.wording import SHOWN_DIFFERENCE, words, written
from prunesweep.orchestrator.text import counted
from prunesweep.workers.errors import UserError


def differences_to_published(
    frame: pd.DataFrame, published: pd.DataFrame, metric: str, across: Collection[str] = ()
) -> TextTable:
    """A line for each mean over seeds that has a published counterpart; how many have none is in the notes.

    As `orchestrator.results.compare.beside_published`. Raises `UserError` where there is no counterpart at all.
    """
    beside = beside_published(frame, published, metric, across)
    if not beside.comparisons:
        raise UserError(_no_counterpart(beside))
    cells = [comparison.cell for comparison in beside.comparisons]
    names = _telling(cells)
    theirs = [name for name in KEYS if _differs(name, beside.comparisons)]
    unit = unit_of(metric, cells)
    order = {key: place for place, key in enumerate(in_order(cell.at(names) for cell in cells))}
    ordered = sorted(beside.comparisons, key=lambda comparison: order[comparison.cell.at(names)])
    blocks = groupby(ordered, key=lambda comparison: comparison.cell.settings.get(TARGET))
    return TextTable(
        title=title_of(cells, metric, unit, "beside published numbers"),
        heads=(*map(words, names), *(f"published {words(name)}" for name in theirs)),
        columns=columns("ours", "published", difference_head(unit)),
        lines=tuple(set_apart([_published_line(c, names, theirs, unit) for c in block] for _, block in blocks)),
        holds=Columns.NUMBERS,
        notes=(*_published_notes(beside), *collapse_notes(cells), *missing(frame, cells)),
        records=tuple(_published_record(comparison, metric) for comparison in ordered),
    )


def _telling(cells: Sequence[Cell]) -> list[str]:
    """Sparsity, method, schedule, and as many more settings as it takes to tell the cells apart."""
    varying = [name for name in SUBJECT if len({cell.settings[name] for cell in cells}) > 1]
    chosen = [*varying, *(name for name in (TARGET, *BY) if {cell.settings[name] for cell in cells} != {None})]
    for name in cells[0].settings:
        if len({cell.at([*chosen, name]) for cell in cells}) > len({cell.at(chosen) for cell in cells}):
            chosen.append(name)
    return chosen


def _differs(name: str, compared: Sequence[Comparison]) -> bool:
    """Whether the published value of a setting varies, and is not ours."""
    values = {comparison.reference.settings[name] for comparison in compared} - {None}
    pairs = ((c.cell.settings.get(name), c.reference.settings[name]) for c in compared)
    return len(values) > 1 and any(theirs not in (None, ours) for ours, theirs in pairs)


def _published_line(comparison: Comparison, names: Sequence[str], theirs: Sequence[str], unit: Scale) -> Line:
    reference = comparison.reference
    labels = (*labels_of(comparison.cell, names, {}), *(written(name, reference.settings[name], {}) for name in theirs))
    published = unit.number(reference.mean) + ("" if reference.std is None else f" ± {unit.number(reference.std)}")
    difference = unit.number(comparison.difference.mean, "+")
    return Line(labels, (mean_entry(comparison.cell, unit), Entry(published), Entry(difference)))


def _published_notes(beside: BesidePublished) -> Iterator[str]:
    yield f"published: {'; '.join(beside.published['source'].unique())}"
    if beside.alone:
        kinds = Counter(str(cell.settings["method"]) for cell in beside.alone)
        listed = ", ".join(f"{method} {count}" for method, count in kinds.items())
        yield f"{len(beside.alone)} of our {counted(len(beside.cells), 'cell')} have no published counterpart: {listed}"
    if beside.missed:
        numbers = counted(len(beside.published), "published number")
        yield f"{len(beside.missed)} of {numbers} have no counterpart here"
    yield from dict.fromkeys(note for comparison in beside.comparisons for note in _off_target(comparison))


def _off_target(comparison: Comparison) -> Iterator[str]:
    settings, ours, theirs = comparison.reference.settings, comparison.cell.reached, comparison.reference.reached
    target = settings[TARGET]
    if theirs is not None and target is not None and abs(theirs - target) >= SHOWN_DIFFERENCE:
        here = "" if ours is None else f", ours {100 * ours:.1f}%"
        there = f"{settings['method']} at {100 * target:.6g}%"
        yield f"{there}: the published networks reached {100 * theirs:.1f}% sparsity{here}"


def _no_counterpart(beside: BesidePublished) -> str:
    """With the settings that no cell shares with any published number."""
    apart = {}
    for name in KEYS:
        ours = {cell.settings.get(name) for cell in beside.cells} - {None}
        theirs = {plain(value) for value in beside.published[name]}
        if None not in theirs and ours and ours.isdisjoint(theirs):
            apart[name] = f"{name} is {_some(ours)} here, {_some(theirs)} there"
    differing = "; ".join(apart.values()) or "no combination of settings is the same"
    ways = " ".join(f"--across {name}" for name in apart) or "--across COLUMN"
    return f"none of our {counted(len(beside.cells), 'cell')} has a published counterpart: {differing}; add {ways}"


def _some(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values)[:5])


def _published_record(comparison: Comparison, metric: str) -> dict[str, Any]:
    cell, theirs = comparison.cell, comparison.reference
    return {
        "metric": metric,
        **cell.settings,
        **{f"published_{name}": value for name, value in theirs.settings.items() if value is not None},
        **{"mean": cell.mean, "std": cell.std, "n": cell.n, "seeds": cell.planned, "published_mean": theirs.mean},
        **{"published_std": theirs.std, "difference": comparison.difference.mean},
        **{"reached_sparsity": cell.reached, "published_reached_sparsity": theirs.reached},
    }
