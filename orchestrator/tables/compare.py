"""What `compare` prints: differences to the best setting, to a named one, or to published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import inf, isnan
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, budgets, in_order, plain, sign_of
from prunesweep.orchestrator.results.beside_published import BesidePublished, beside_published
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.compare import AT, BY, Comparison, comparisons, nothing_to_compare
from prunesweep.orchestrator.results.marking import off_target_notes, unranked_notes
from prunesweep.orchestrator.results.published import KEYS
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.failed_cells import failed_cells
from prunesweep.orchestrator.tables.left_out import ACROSS_BUDGETS, BUDGET, left_out, without_target
from prunesweep.orchestrator.tables.means import missing, resolution
from prunesweep.orchestrator.tables.text_table import Columns, Emphasis, Entry, Line, TextTable
from prunesweep.orchestrator.tables.wording import SHOWN_DIFFERENCE, in_unit, words, written
from prunesweep.orchestrator.text import counted
from prunesweep.workers.errors import UserError

NOTE = "mean differences over shared seeds to the first of each block"


def differences(
    frame: pd.DataFrame,
    metric: str = "test_accuracy",
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
    unit = _unit(metric, cells)
    blocks = [
        [
            *_block(_ordered(arenas.get(key, []), metric), names, unit, labels),
            *(_failed_line(cell, names, labels) for cell in failed if cell.at(at) == key),
        ]
        for key in in_order([*arenas, *(cell.at(at) for cell in failed)])
    ]
    return TextTable(
        title=_title(cells, metric, unit, f"differences to {_spoken(against)}"),
        heads=tuple(map(words, names)),
        columns=_columns(words(metric), _difference_head(unit), "95% interval", "seeds", "p", ""),
        above=tuple(without_target(frame, metric, at)),
        lines=tuple(_apart(blocks)),
        holds=Columns.NUMBERS,
        legend=(NOTE, *_legend(compared, against is not None)),
        notes=(*left_out(frame, metric, by or BY, at, compared), *_notes(frame, metric, compared)),
        records=(
            *(_record(comparison, metric, at) for comparison in compared),
            *({"metric": metric, **cell.settings, "n": 0, "failed": cell.failed} for cell in failed),
        ),
    )


def _failed_line(cell: Cell, names: Sequence[str], labels: Mapping[int, str]) -> Line:
    return Line(_labels(cell, names, labels), (Entry(str(cell.failed)), *[Entry("")] * 5))


def _columns(*heads: str) -> tuple[tuple[str, ...], ...]:
    return tuple((head,) for head in heads)


def _apart(blocks: Iterable[Sequence[Line]]) -> Iterator[Line]:
    """The lines of all blocks, each block set apart from the one above."""
    for place, block in enumerate(blocks):
        for number, line in enumerate(block):
            yield Line(line.labels, line.entries, starts_block=place > 0 and number == 0)


def _shown(cells: Sequence[Cell], at: Sequence[str]) -> list[str]:
    """The settings that vary: arenas first, without a dataset or model that all share."""
    names = list(cells[0].settings)
    varying = [name for name in names if len({cell.settings[name] for cell in cells}) > 1]
    return [name for name in names if name in varying or (name in at and name not in SUBJECT)]


def _unit(metric: str, cells: Sequence[Cell]) -> Scale:
    return scale(metric).suited([cell.std for cell in cells if cell.std is not None])


def _ordered(compared: Sequence[Comparison], metric: str) -> list[Comparison]:
    """The best first, what shares no seed last."""
    sign = sign_of(metric)
    return sorted(compared, key=lambda c: inf if c.difference.n == 0 else -sign * c.difference.mean)


def _block(compared: Sequence[Comparison], names: Sequence[str], unit: Scale, labels: Mapping[int, str]) -> list[Line]:
    """The reference, then what is compared with it."""
    if not compared:
        return []
    reference = compared[0].reference
    mean = Entry(_mean(reference, unit), Emphasis.BOLD)
    lines = [Line(_labels(reference, names, labels), (mean, *[Entry("")] * 5))]
    for comparison in compared:
        lines.append(Line(_labels(comparison.cell, names, labels), tuple(map(Entry, _texts(comparison, unit)))))
    return lines


def _labels(cell: Cell, names: Sequence[str], labels: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(written(name, cell.settings[name], labels) for name in names)


def _mean(cell: Cell, unit: Scale) -> str:
    return unit.text(cell.mean, cell.std, cell.n, cell.planned)


def _texts(comparison: Comparison, unit: Scale) -> tuple[str, ...]:
    over = comparison.difference
    difference = "-" if isnan(over.mean) else unit.number(over.mean, "+")
    interval = "-" if isnan(over.low) else f"{unit.number(over.low, '+')} to {unit.number(over.high, '+')}"
    mark = "*" if comparison.distinguishable is False else ""
    return _mean(comparison.cell, unit), difference, interval, str(over.n), _p(comparison.p), mark


def _p(value: float) -> str:
    if isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _difference_head(unit: Scale) -> str:
    return "points" if unit.name == "percent" else "difference"


def _title(cells: Sequence[Cell], metric: str, unit: Scale, what: str) -> str:
    subject = [str(cells[0].settings[name]) for name in SUBJECT if len({cell.settings[name] for cell in cells}) == 1]
    return f"{', '.join(subject)}{': ' if subject else ''}{in_unit(metric, unit)}, {what}"


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


def _notes(frame: pd.DataFrame, metric: str, compared: Sequence[Comparison]) -> Iterator[str]:
    cells = list(
        {id(cell): cell for comparison in compared for cell in (comparison.cell, comparison.reference)}.values()
    )
    yield from unranked_notes(cells)
    yield from off_target_notes(comparison.cell for comparison in compared)
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
        **{"n": over.n, "distinguishable": comparison.distinguishable},
    }


# --- beside published numbers


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
    unit = _unit(metric, cells)
    order = {key: place for place, key in enumerate(in_order(cell.at(names) for cell in cells))}
    ordered = sorted(beside.comparisons, key=lambda comparison: order[comparison.cell.at(names)])
    blocks = groupby(ordered, key=lambda comparison: comparison.cell.settings.get(TARGET))
    return TextTable(
        title=_title(cells, metric, unit, "beside published numbers"),
        heads=(*map(words, names), *(f"published {words(name)}" for name in theirs)),
        columns=_columns("ours", "published", _difference_head(unit)),
        lines=tuple(_apart([_published_line(c, names, theirs, unit) for c in block] for _, block in blocks)),
        holds=Columns.NUMBERS,
        notes=(*_published_notes(beside), *missing(frame, cells)),
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
    labels = (*_labels(comparison.cell, names, {}), *(written(name, reference.settings[name], {}) for name in theirs))
    published = unit.number(reference.mean) + ("" if reference.std is None else f" ± {unit.number(reference.std)}")
    texts = (_mean(comparison.cell, unit), published, unit.number(comparison.difference.mean, "+"))
    return Line(labels, tuple(map(Entry, texts)))


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
