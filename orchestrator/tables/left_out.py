"""What a comparison does not compare, said beside it: settings without a rival, and networks without a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from prunesweep.orchestrator.results.aggregation import (
    SUBJECT,
    Cell,
    Group,
    budgets,
    groups,
    separating,
    with_metric,
)
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.compare import Comparison, arenas, other_settings
from prunesweep.orchestrator.results.units import scale
from prunesweep.orchestrator.tables.collapse import mark_of
from prunesweep.orchestrator.tables.wording import FORMS, words, written
from prunesweep.orchestrator.text import joined

BUDGET = "total_epochs"
ACROSS_BUDGETS = "--at target_sparsity compares those of different total epochs"


def left_out(
    frame: pd.DataFrame, metric: str, by: Sequence[str], at: Sequence[str], compared: Sequence[Comparison]
) -> Iterator[str]:
    """A line that names the settings which nothing is compared with, and how they would be; none where all are."""
    trials = with_metric(frame, metric).dropna(subset=list(at))
    seen = {tuple(cell.at(at)) for comparison in compared for cell in (comparison.cell, comparison.reference)}
    alone = [
        group for same in arenas(trials, metric, by, at).values() for group in same if group.cell.at(at) not in seen
    ]
    if alone:
        rivals = joined([words(name).removeprefix("target ") for name in at if name not in SUBJECT])
        remedy = f"; {ACROSS_BUDGETS}" if BUDGET in at else ""
        yield f"left out, with no rival of the same {rivals}: {'; '.join(_named(alone, at, frame))}{remedy}"


def _named(alone: Sequence[Group], at: Sequence[str], frame: pd.DataFrame) -> Iterator[str]:
    """By setting: `gmp at sparsity 90%, 8 epochs and sparsity 98%, 8 epochs`."""
    labels, places = budgets(frame), [name for name in at if name not in SUBJECT]
    by_name: dict[str, list[str]] = {}
    for group in alone:
        settings = group.cell.settings
        name = " ".join(str(settings[key]) for key in ("method", "retrain_schedule") if settings.get(key))
        place = ", ".join(FORMS.get(n, "{}").format(written(n, settings[n], labels)) for n in places)
        by_name.setdefault(name, []).append(place)
    for name, said in by_name.items():
        yield f"{name} at {joined(list(dict.fromkeys(said)))}" if places else name


def without_target(frame: pd.DataFrame, metric: str, at: Sequence[str]) -> Iterator[str]:
    """`dense, 20 epochs: 96.64 ± 0.12 (3)`: what has no sparsity to be compared at."""
    if TARGET not in at:
        return
    trials = with_metric(frame, metric)
    dense = trials[trials[TARGET].isna()]
    if dense.empty:
        return
    names = separating(dense, [*SUBJECT, "method", BUDGET], other_settings(dense, metric))
    cells = [group.cell for group in groups(dense, metric, names)]
    unit = scale(metric).suited([cell.std for cell in cells if cell.std is not None])
    varying = [name for name in SUBJECT if trials[name].nunique() > 1]
    shown = [*varying, *(name for name in names if name not in SUBJECT)]
    for cell in cells:
        yield f"{_label(cell, shown)}: {unit.text(cell.mean, cell.std, cell.n, cell.planned)}{mark_of(cell)}"


def _label(cell: Cell, names: Sequence[str]) -> str:
    given = [(name, cell.settings[name]) for name in names if cell.settings[name] is not None]
    return ", ".join(v if isinstance(v, str) else FORMS.get(n, f"{words(n)} {{}}").format(v) for n, v in given)
