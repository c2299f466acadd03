"""What retraining buys: the metric over the budget, and the best schedule for each sparsity and budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from prunesweep.orchestrator.figures.charts import Axis, Chart, HeatMap, Panel
from prunesweep.orchestrator.figures.parts import (
    SPLIT,
    TOTALS,
    Frames,
    compared,
    grouped,
    heading,
    in_unit,
    levels,
    lines,
    metric_axis,
    names_of,
    percent,
    placed,
    roomy,
    series,
    subject,
    title,
)
from prunesweep.orchestrator.results import aggregation
from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, Key
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import IDENTITY, MEASUREMENTS, better
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.means import ROWS, Table, untested, words
from prunesweep.workers.errors import UserError

BUDGET, SCHEDULE = "retrain_epochs", "retrain_schedule"

RIVALS_NAMED = 2
"""More schedules that cannot be told from the best are counted."""


def budget(frames: Frames, query: Query) -> Chart:
    """A panel for each dataset, model and sparsity; in it a line over the epochs of retraining for each row.

    A method that does not retrain is a point at 0. The notes say what is trained in all.
    """
    if frames.trials[SCHEDULE].isna().all():
        raise UserError("nothing to plot over the retraining budget: no trial has a retraining schedule")
    by = query.by or (ROWS if query.best_by is None else ROWS[:1])
    _, table = compared(frames.trials, query, query.metric, list(dict.fromkeys([*by, BUDGET])))
    found = [cell for cell in placed(table) if cell.settings.get(TARGET) is not None]
    if not found:
        raise UserError("nothing to plot: no trial has a target sparsity")
    targets = sorted({cell.settings[TARGET] for cell in found})
    panels = []
    for at in dict.fromkeys(subject(table, cell) for cell in found):
        for sparsity in targets:
            here = [c for c in found if subject(table, c) == at and c.settings[TARGET] == sparsity]
            if here:
                panels.append(_panel(table, at, sparsity, here))
    return Chart(title(table), panels, [*table.notes, *_totals(frames.trials.dropna(subset=[TARGET]))])


def _panel(table: Table, at: Key, sparsity: float, here: Sequence[Cell]) -> Panel:
    names = [name for name in names_of(table) if name not in (TARGET, *TOTALS)]
    once = all(len({cell.settings[BUDGET] for cell in row}) == len(row) for row in grouped(here, names))
    rest = [] if once else [name for name in names_of(table) if name in TOTALS and name != BUDGET]
    drawn = [
        series(line.name, "line", [(cell.settings[BUDGET], cell) for cell in line.cells], table.scale.factor)
        for line in lines(table, here, names, rest, BUDGET)
    ]
    ticks = roomy(sorted({x for each in drawn for x in each.x}))
    axis = Axis("epochs of retraining", "linear", ticks, [f"{tick:g}" for tick in ticks])
    title = heading((*at, f"sparsity {percent(sparsity)}"))
    return Panel(title, axis, metric_axis(table), [*drawn, *levels(table, at)])


def _totals(trials: pd.DataFrame) -> Iterator[str]:
    """What the axis does not show: what else a method trains."""
    spans = [f"{method} {_span(same['total_epochs'])}" for method, same in trials.groupby("method", sort=False)]
    yield f"epochs in all, pretraining included: {', '.join(spans)}"


def _span(values: pd.Series[int]) -> str:
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


# --- the best schedule


def schedules(frames: Frames, query: Query) -> Chart:
    """A heat map for each dataset, model and method with several retraining schedules: the best of each cell.

    A cell names the schedules with the best mean, and those not distinguishable from it, as tables mark them. Its
    colour is that of the first; it has none where a schedule has no rival or all are equal.
    """
    metric = query.metric
    if not better(metric):
        raise UserError(f"no schedule is best in {metric}: neither more nor less of it is better")
    trials = aggregation.with_metric(frames.trials, metric).dropna(subset=[SCHEDULE, TARGET])
    groups = dict(iter(trials.groupby([*SUBJECT, "method"], sort=False)))
    several = {key: _cells(same, metric) for key, same in groups.items() if same[SCHEDULE].nunique() > 1}
    if not several:
        raise UserError("nothing to plot: no method has trials with several retraining schedules")
    found = [cell for cells in several.values() for cell in cells]
    shown = list(dict.fromkeys(cell.settings[SCHEDULE] for cell in found))
    told = scale(metric).suited([cell.std for cell in found if cell.std is not None])
    title = f"best retraining schedule by {in_unit(words(metric), told)}, mean ± standard deviation"
    notes = ["=: equal means; ~: not distinguishable from the best (paired t-test, Holm, 5%)", *untested(found)]
    notes += [f"{heading(key)}: one schedule only, so no map" for key in groups if key not in several]
    return Chart(title, [_map(key, cells, shown, told) for key, cells in several.items()], notes)


def _cells(trials: pd.DataFrame, metric: str) -> list[Cell]:
    """Schedules compete at one sparsity and budget; further settings in which they differ compete too."""
    settings = [name for name in trials.columns if name not in (metric, *IDENTITY, *MEASUREMENTS)]
    names = aggregation.separating(trials, [TARGET, *SPLIT, SCHEDULE], settings)
    return aggregation.cells(trials, metric, names, [TARGET, *SPLIT])


def _map(key: Key, found: Sequence[Cell], shown: Sequence[str], told: Scale) -> HeatMap:
    rows = sorted({cell.settings[TARGET] for cell in found})
    columns = sorted({cell.at(SPLIT) for cell in found}, key=lambda split: (sum(split), split))
    arenas = [[[c for c in found if c.at((TARGET, *SPLIT)) == (row, *split)] for split in columns] for row in rows]
    splits = ["+".join(map(str, split)) for split in columns]
    return HeatMap(
        title=heading(key),
        x=Axis("epochs: pretraining + retraining", "category", range(len(columns)), splits),
        y=Axis("sparsity", "category", range(len(rows)), list(map(percent, rows))),
        values=[[_winner(arena, shown) for arena in row] for row in arenas],
        texts=[[_text(arena, told) for arena in row] for row in arenas],
        categories=shown,
    )


def _winner(arena: Sequence[Cell], shown: Sequence[str]) -> int | None:
    best = [cell for cell in arena if cell.best]
    return shown.index(best[0].settings[SCHEDULE]) if best else None


def _text(arena: Sequence[Cell], told: Scale) -> str:
    """`SLR`, its mean and deviation, and `~ LLR, CLR`: what cannot be told from it."""
    if not arena:
        return ""
    best = [cell for cell in arena if cell.best] or list(arena)
    near = [name for name in _schedules(cell for cell in arena if cell.near) if name not in _schedules(best)]
    rivals = ", ".join(near) if len(near) <= RIVALS_NAMED else f"{len(near)} others"
    below = "no rival" if len(arena) == 1 else f"~ {rivals}" if near else ""
    return "\n".join(filter(None, [" = ".join(_schedules(best)), _mean(best[0], told), below]))


def _schedules(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.settings[SCHEDULE] for cell in cells))


def _mean(cell: Cell, told: Scale) -> str:
    """`95.8 ± 0.8`: the number of seeds has no room here."""
    return told.text(cell.mean, cell.std, cell.n).rpartition(" (")[0]
