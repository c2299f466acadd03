"""Learning curves as they grow, as values of `orchestrator.figures.charts`: of what runs, and of one trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.status.status import Unfinished
from prunesweep.orchestrator.tables.wording import words
from prunesweep.workers.activity import CURVE, METRIC
from prunesweep.workers.spec import Choice
from prunesweep.workers.tasks import known_primary

Rows = Sequence[tuple[float | None, ...]]

MOST_LINES = 12
"""Of more stages that run, the first are drawn."""

MOST_TICKS = 10
"""An axis of fewer epochs names each of them; the browser would name halves."""

PANELS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "loss": ("", {"train_loss": "training loss", "validation_loss": "validation loss"}),
    "learning rate": ("", {"learning_rate": "learning rate"}),
    "sparsity, percent": ("%", {"sparsity": "sparsity"}),
}
"""What is drawn of a trial beside its primary metric: the axis of each panel, and the columns in it."""


def of_running(stages: Sequence[Unfinished], task: Choice) -> Chart | None:
    """A line for each stage that runs and has had an epoch; None where there is none."""
    curves = {stage.label: stage.doing.curve for stage in stages if stage.doing and stage.doing.curve}
    shown = dict(list(curves.items())[:MOST_LINES])
    if not shown:
        return None
    epochs = _epochs(shown.values())
    panels = [
        Panel("", epochs, Axis(axis), [_line(label, rows, column, unit) for label, rows in shown.items()])
        for axis, unit, column in (
            (*_axis(task), METRIC),
            ("training loss", "", "train_loss"),
        )
    ]
    more = len(curves) - len(shown)
    return Chart("", panels, [f"{more} more run and are not drawn"] if more else [])


def of_trial(rows: Rows, task: Choice) -> Chart | None:
    """The whole path of a trial, with its prunes marked; None before its first epoch."""
    if not rows:
        return None
    marks, epochs = prunes(rows), _epochs([rows])
    name, unit = _axis(task)
    panels = [
        Panel(
            "", epochs, Axis(axis), [_line(name, rows, column, unit) for column, name in lines.items()], marks, "prune"
        )
        for axis, (unit, lines) in {name: (unit, {METRIC: name.partition(",")[0]}), **PANELS}.items()
    ]
    drawn = [panel for panel in panels if any(series.x for series in panel.series)]
    return Chart("", drawn, ["dotted: a prune"] if marks else [])


def _axis(task: Choice) -> tuple[str, str]:
    """What the axis of the task's primary metric is called, and its unit."""
    metric = known_primary(task)
    if metric is None:
        return "validation, the primary metric", ""
    is_fraction = metric.unit == "fraction"
    return f"validation {words(metric.name)}{', percent' if is_fraction else ''}", "%" if is_fraction else ""


def prunes(rows: Rows) -> list[float]:
    """The epochs that have two rows: before and after the weights were taken."""
    epochs = [row[0] for row in rows if row[0] is not None]
    return [after for before, after in pairwise(epochs) if before == after]


def _epochs(curves: Iterable[Rows]) -> Axis:
    """The axis of all epochs that the curves have."""
    epochs = sorted({round(row[0]) for rows in curves for row in rows if row[0] is not None})
    ticks = epochs if len(epochs) <= MOST_TICKS else []
    return Axis("epochs", ticks=ticks, labels=[str(epoch) for epoch in ticks])


def _line(name: str, rows: Rows, column: str, unit: str) -> Series:
    """In percent where that is the unit; what was not measured is left out."""
    at, factor = CURVE.index(column), 100.0 if unit else 1.0
    points = [(row[0], row[at]) for row in rows]
    whole = [(epoch, factor * value) for epoch, value in points if epoch is not None and value is not None]
    x, y = [epoch for epoch, _ in whole], [value for _, value in whole]
    return Series(name, "line", x, y, [None] * len(y), [1] * len(y))
