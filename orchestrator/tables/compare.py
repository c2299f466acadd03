"""What `compare` shows: differences to the best setting, or to published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from math import inf, isnan
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, budgets, in_order, plain, sign_of
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.compare import AT, BY, Pair, pairs
from prunesweep.orchestrator.results.counterparts import Across, Beside, Counterpart, beside
from prunesweep.orchestrator.results.published import KEYS
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.means import SHOWN_DIFFERENCE, missing, words
from prunesweep.orchestrator.tables.rendering import written
from prunesweep.orchestrator.tables.sheet import Line, Sheet
from prunesweep.orchestrator.text import counted
from prunesweep.workers.errors import UserError

LEGEND = (
    "mean differences over shared seeds to the first of each block; p of paired t-tests, by Holm within the block",
    "*: not distinguishable at 5%",
)


def differences(
    frame: pd.DataFrame,
    metric: str = "test_accuracy",
    by: Sequence[str] = (),
    against: Mapping[str, Any] | None = None,
) -> Sheet:
    """A line for each setting, best first: how far it is from the best of its arena, or from `against`.

    As `prunesweep.compare`, with the reference itself. Arenas are by sparsity, then budget.
    """
    found = pairs(frame, metric, by or BY, AT, against)
    if not found:
        rivals = "two settings have" if against is None else f"setting has, beside {_spoken(against)},"
        raise UserError(f"nothing to compare: no {rivals} the same dataset, model, sparsity and total epochs")
    arenas = {key: list(same) for key, same in groupby(found, key=lambda pair: pair.cell.at(AT))}
    names = _shown([cell for pair in found for cell in (pair.cell, pair.against)])
    unit, labels = _scale(metric, found), budgets(frame)
    lines = [
        line for key in in_order(arenas) for line in _arena_lines(_ordered(arenas[key], metric), names, unit, labels)
    ]
    heads = (words(metric), _difference_head(unit), "95% interval", "seeds", "p", "")
    return Sheet(
        title=_title([pair.cell for pair in found], metric, unit, f"differences to {_spoken(against)}"),
        labels=tuple(map(words, names)),
        heads=heads,
        lines=tuple(lines),
        notes=(*LEGEND, *_notes(frame, found)),
        records=tuple(_record(pair, metric) for pair in found),
    )


def _shown(found: Sequence[Cell]) -> list[str]:
    """The settings that vary: arenas first, without a dataset or model that all share."""
    names = list(found[0].settings)
    varying = [name for name in names if len({cell.settings[name] for cell in found}) > 1]
    return [name for name in names if name in varying or name in AT[2:]]


def _scale(metric: str, found: Sequence[Pair]) -> Scale:
    return scale(metric).suited([pair.cell.std for pair in found if pair.cell.std is not None])


def _ordered(found: Sequence[Pair], metric: str) -> list[Pair]:
    """The best first, what shares no seed last."""
    sign = sign_of(metric)
    return sorted(found, key=lambda pair: inf if pair.difference.n == 0 else -sign * pair.difference.mean)


def _arena_lines(found: Sequence[Pair], names: Sequence[str], unit: Scale, labels: Mapping[int, str]) -> Iterator[Line]:
    reference = found[0].against
    block = reference.at(AT)
    yield Line(block, _labels(reference, names, labels), (_mean(reference, unit), *[""] * 5), bold=True)
    for pair in found:
        yield Line(block, _labels(pair.cell, names, labels), _texts(pair, unit))


def _labels(cell: Cell, names: Sequence[str], labels: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(written(name, cell.settings[name], labels) for name in names)


def _mean(cell: Cell, unit: Scale) -> str:
    return unit.text(cell.mean, cell.std, cell.n, cell.asked)


def _texts(pair: Pair, unit: Scale) -> tuple[str, ...]:
    found = pair.difference
    difference = "-" if isnan(found.mean) else unit.number(found.mean, "+")
    interval = "-" if isnan(found.low) else f"{unit.number(found.low, '+')} to {unit.number(found.high, '+')}"
    mark = "*" if pair.distinguishable is False else ""
    return _mean(pair.cell, unit), difference, interval, str(found.n), _p(pair.p), mark


def _p(value: float) -> str:
    if isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _difference_head(unit: Scale) -> str:
    return "points" if unit.name == "percent" else "difference"


def _title(found: Sequence[Cell], metric: str, unit: Scale, what: str) -> str:
    subject = [str(found[0].settings[name]) for name in SUBJECT if len({c.settings[name] for c in found}) == 1]
    measured = " in ".join(filter(None, [words(metric), unit.name]))
    return f"{', '.join(subject)}{': ' if subject else ''}{measured}, {what}"


def _spoken(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return "the best"
    return ", ".join(f"{words(name)} {value}" for name, value in against.items())


def _notes(frame: pd.DataFrame, found: Sequence[Pair]) -> Iterator[str]:
    untested = sum(pair.distinguishable is None for pair in found)
    if untested:
        yield f"{counted(untested, 'difference')} not tested: fewer than two seeds in common"
    if any(isnan(pair.difference.low) and not isnan(pair.p) for pair in found):
        yield "p without an interval: the same difference with every seed, so p of the sign test"
    yield from missing(frame, [cell for pair in found for cell in (pair.cell, pair.against)])


def _record(pair: Pair, metric: str) -> dict[str, Any]:
    found = pair.difference
    other = {f"against_{name}": value for name, value in pair.against.settings.items() if name not in AT}
    numbers = {"difference": found.mean, "std": found.std, "low": found.low, "high": found.high, "p": found.p}
    known = {name: None if isnan(value) else value for name, value in {**numbers, "p_adjusted": pair.p}.items()}
    tested = {**known, "n": found.n, "distinguishable": pair.distinguishable}
    return {
        "metric": metric,
        **pair.cell.settings,
        **other,
        "mean": pair.cell.mean,
        "against_mean": pair.against.mean,
        **tested,
    }


# --- beside published numbers


def beside_published(frame: pd.DataFrame, published: pd.DataFrame, metric: str, across: Across) -> Sheet:
    """A line for each mean over seeds that has a published counterpart; how many have none is in the notes.

    As `orchestrator.results.counterparts.beside`. Raises `UserError` where there is no counterpart at all.
    """
    laid = beside(frame, published, metric, across)
    if not laid.found:
        raise UserError(_none_found(laid))
    cells = [each.cell for each in laid.found]
    names = _telling(cells)
    theirs = [name for name in across if len({each.settings[name] for each in laid.found} - {None}) > 1]
    unit = scale(metric).suited([cell.std for cell in cells if cell.std is not None])
    ordered = {each.cell.at(names): each for each in laid.found}
    order = {key: place for place, key in enumerate(in_order(ordered))}
    found = sorted(laid.found, key=lambda each: order[each.cell.at(names)])
    return Sheet(
        title=_title(cells, metric, unit, "beside published numbers"),
        labels=(*map(words, names), *(f"published {words(name)}" for name in theirs)),
        heads=("ours", "published", _difference_head(unit)),
        lines=tuple(_counterpart_line(each, names, theirs, unit) for each in found),
        notes=(*_published_notes(laid), *missing(frame, cells)),
        records=tuple(_counterpart_record(each, metric) for each in found),
    )


def _telling(found: Sequence[Cell]) -> list[str]:
    """Sparsity, method, schedule, and as many more settings as it takes to tell the cells apart."""
    varying = [name for name in SUBJECT if len({cell.settings[name] for cell in found}) > 1]
    chosen = [*varying, *(name for name in (TARGET, *BY) if {cell.settings[name] for cell in found} != {None})]
    for name in found[0].settings:
        if len({cell.at([*chosen, name]) for cell in found}) > len({cell.at(chosen) for cell in found}):
            chosen.append(name)
    return chosen


def _counterpart_line(each: Counterpart, names: Sequence[str], theirs: Sequence[str], unit: Scale) -> Line:
    labels = (*_labels(each.cell, names, {}), *(written(name, each.settings[name], {}) for name in theirs))
    published = unit.number(each.mean) + ("" if each.std is None else f" ± {unit.number(each.std)}")
    texts = (_mean(each.cell, unit), published, unit.number(each.difference, "+"))
    return Line(each.cell.settings.get(TARGET), labels, texts)


def _published_notes(laid: Beside) -> Iterator[str]:
    yield f"published: {'; '.join(laid.published['source'].unique())}"
    if laid.alone:
        kinds = Counter(str(cell.settings["method"]) for cell in laid.alone)
        listed = ", ".join(f"{method} {count}" for method, count in kinds.items())
        yield f"{len(laid.alone)} of our {counted(len(laid.cells), 'cell')} have no published counterpart: {listed}"
    if laid.missed:
        yield f"{len(laid.missed)} of {counted(len(laid.published), 'published number')} have no counterpart here"
    yield from dict.fromkeys(note for each in laid.found for note in _off_target(each))


def _off_target(each: Counterpart) -> Iterator[str]:
    (ours, theirs), target = each.reached, each.settings[TARGET]
    if theirs is not None and target is not None and abs(theirs - target) >= SHOWN_DIFFERENCE:
        here = "" if ours is None else f", ours {100 * ours:.1f}%"
        there = f"{each.settings['method']} at {100 * target:.6g}%"
        yield f"{there}: the published networks reached {100 * theirs:.1f}% sparsity{here}"


def _none_found(laid: Beside) -> str:
    """With the settings that no cell shares with any published number."""
    apart = {}
    for name in KEYS:
        ours = {cell.settings.get(name) for cell in laid.cells} - {None}
        theirs = {plain(value) for value in laid.published[name]}
        if None not in theirs and ours and ours.isdisjoint(theirs):
            apart[name] = f"{name} is {_some(ours)} here, {_some(theirs)} there"
    said = "; ".join(apart.values()) or "no combination of settings is the same"
    ways = " ".join(f"--across {name}" for name in apart) or "--across COLUMN"
    return f"none of our {counted(len(laid.cells), 'cell')} has a published counterpart: {said}; add {ways}"


def _some(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values)[:5])


def _counterpart_record(each: Counterpart, metric: str) -> dict[str, Any]:
    ours, theirs = each.reached
    cell = each.cell
    return {
        "metric": metric,
        **cell.settings,
        **{f"published_{name}": value for name, value in each.settings.items() if value is not None},
        **{"mean": cell.mean, "std": cell.std, "n": cell.n, "seeds": cell.asked, "published_mean": each.mean},
        **{"published_std": each.std, "difference": each.difference},
        **{"reached_sparsity": ours, "published_reached_sparsity": theirs},
    }
