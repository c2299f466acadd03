"""The best retraining schedule for each sparsity and budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from prunesweep.orchestrator.figures.charts import Axis, Chart, HeatMap
from prunesweep.orchestrator.figures.comparisons import SPLIT, Frames
from prunesweep.orchestrator.figures.hues import DENSE, hue_of
from prunesweep.orchestrator.figures.wording import heading, in_unit, percent
from prunesweep.orchestrator.results import aggregation
from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, Key, sign_of
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.marking import OFF_TARGET, marked_cells, off_target_notes, unranked_notes
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import IDENTITY, better, measurements
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.collapse import collapse_notes, mark_of
from prunesweep.orchestrator.tables.wording import words
from prunesweep.workers.errors import UserError

SCHEDULE = "retrain_schedule"

RIVALS_NAMED = 2
"""Up to so many schedules that are not shown to be worse than the best are named; more are counted."""


def schedules(frames: Frames, query: Query) -> Chart:
    """A heat map for each dataset, model and method with several retraining schedules: the best of each cell.

    A cell names the schedules with the best mean, and, where seeds are enough to rank them, those not shown to be
    worse, as tables mark them. Its colour is that of the first; it has none where a schedule has no rival or all
    are equal.
    """
    metric = query.column
    if not better(metric):
        raise UserError(f"no schedule is best in {metric}: neither more nor less of it is better")
    trials = aggregation.with_metric(frames.trials, metric).dropna(subset=[SCHEDULE, TARGET])
    groups = dict(iter(trials.groupby([*SUBJECT, "method"], sort=False)))
    maps = {
        key: _cells(group, metric, query.tolerance) for key, group in groups.items() if group[SCHEDULE].nunique() > 1
    }
    if not maps:
        raise UserError("nothing to plot: no method has trials with several retraining schedules")
    cells = [cell for map_cells in maps.values() for cell in map_cells]
    categories = list(dict.fromkeys(cell.settings[SCHEDULE] for cell in cells))
    unit = scale(metric).suited([cell.std for cell in cells if cell.std is not None])
    title = f"best retraining schedule by {in_unit(words(metric), unit)}, mean ± standard deviation"
    notes = ["=: equal means; ~: not shown to be worse (moderated paired t, all pairs at 5%)", *unranked_notes(cells)]
    notes += [*off_target_notes(cells), *collapse_notes(cells)]
    notes += _dense(frames.trials, metric)
    notes += [f"{heading(key)}: one schedule only, so no map" for key in groups if key not in maps]
    panels = [_map(key, map_cells, categories, unit, frames.hues, sign_of(metric)) for key, map_cells in maps.items()]
    return Chart(title, panels, notes, frames.hues)


def _dense(trials: pd.DataFrame, metric: str) -> Iterator[str]:
    """The means of the dense networks, which a map cannot show as a line."""
    dense = aggregation.with_metric(trials, metric)
    dense = dense[dense["method"] == DENSE]
    if len(dense):
        for group in aggregation.groups(dense, metric, [*SUBJECT, "method", "total_epochs"]):
            cell = group.cell
            epochs = cell.settings["total_epochs"]
            yield f"{heading(cell.at([*SUBJECT, 'method']))}, {epochs} epochs: {_text_of(cell, metric)}"


def _text_of(cell: Cell, metric: str) -> str:
    return scale(metric).suited([] if cell.std is None else [cell.std]).text(cell.mean, cell.std, cell.n)


def _cells(trials: pd.DataFrame, metric: str, tolerance: float | None) -> list[Cell]:
    """Schedules compete at one sparsity and budget; further settings in which they differ compete too."""
    settings = [name for name in trials.columns if name not in (metric, *IDENTITY, *measurements())]
    names = aggregation.separating(trials, [TARGET, *SPLIT, SCHEDULE], settings)
    return marked_cells(trials, metric, names, [TARGET, *SPLIT], OFF_TARGET if tolerance is None else tolerance)


def _map(
    key: Key, cells: Sequence[Cell], categories: Sequence[str], unit: Scale, hues: Sequence[str], sign: int
) -> HeatMap:
    rows = sorted({cell.settings[TARGET] for cell in cells})
    columns = sorted({cell.at(SPLIT) for cell in cells}, key=lambda split: (sum(split), split))
    rivals = [[[c for c in cells if c.at((TARGET, *SPLIT)) == (row, *split)] for split in columns] for row in rows]
    splits = ["+".join(map(str, split)) for split in columns]
    return HeatMap(
        title=heading(key),
        x=Axis("epochs: pretraining + retraining", "category", range(len(columns)), splits),
        y=Axis("sparsity", "category", range(len(rows)), list(map(percent, rows))),
        values=[[_winner(competing, categories) for competing in row] for row in rivals],
        texts=[[_text(competing, unit, sign) for competing in row] for row in rivals],
        categories=categories,
        hues=[hue_of({"method": key[-1], SCHEDULE: schedule}, hues) for schedule in categories],
    )


def _winner(competing: Sequence[Cell], categories: Sequence[str]) -> int | None:
    best = [cell for cell in competing if cell.best]
    return categories.index(best[0].settings[SCHEDULE]) if best else None


def _text(competing: Sequence[Cell], unit: Scale, sign: int) -> str:
    """`SLR`, its mean and deviation, and `~ LLR, CLR`: those not shown to be worse. Unranked, only the best mean."""
    if not competing:
        return ""
    top = max(sign * cell.mean for cell in competing)
    best = [cell for cell in competing if cell.best] or [cell for cell in competing if sign * cell.mean == top]
    near = [name for name in _names(cell for cell in competing if cell.near) if name not in _names(best)]
    rivals = ", ".join(near) if len(near) <= RIVALS_NAMED else f"{len(near)} others"
    below = "no rival" if len(competing) == 1 else f"~ {rivals}" if near else ""
    return "\n".join(filter(None, [" = ".join(_names(best)), _mean(best[0], unit), below]))


def _names(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.settings[SCHEDULE] for cell in cells))


def _mean(cell: Cell, unit: Scale) -> str:
    """`95.8 ± 0.8`, without the number of seeds, for which a cell has no room."""
    return unit.text(cell.mean, cell.std, cell.n).rpartition(" (")[0] + mark_of(cell)
