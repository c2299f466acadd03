"""What `plot` does: it draws figures into files, and says where they are and what they leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from prunesweep.orchestrator.cli.printing import say
from prunesweep.orchestrator.results.query import Query
from prunesweep.workers.errors import UserError, unknown
from prunesweep.workers.location import Location

if TYPE_CHECKING:
    from pandas import DataFrame

    from prunesweep.orchestrator.figures.charts import Chart
    from prunesweep.orchestrator.figures.page import Page


@dataclass(frozen=True)
class Figure:
    """What `plot` is to draw: the kind, its metric if not the kind's own, and the file, page and order of names."""

    kind: str
    metric: str | None
    file: Path
    page: Page
    order: Sequence[str] = ()


def draw(folders: Sequence[Location], query: Query, figure: Figure) -> None:
    """Draw a kind of figure into a file, or all kinds into files beside each other; say where they are, and the notes.

    The metric is each kind's own unless one is given. Of all kinds, those that the results do not allow are named.
    """
    from prunesweep.orchestrator.figures import drawing
    from prunesweep.orchestrator.figures.comparisons import Frames
    from prunesweep.orchestrator.figures.hues import in_given_order
    from prunesweep.orchestrator.figures.kinds import ALL, KINDS, make_chart
    from prunesweep.orchestrator.results import filtering, parquet

    drawing.check_suffix(figure.file)
    if not figure.file.parent.is_dir():
        raise UserError(f"--output {figure.file}: there is no folder {figure.file.parent}")
    sweep = parquet.load_results(*folders)
    _check_order(sweep, figure.order)
    trials = in_given_order(filtering.where(sweep, query.where, keep_dense=True), figure.order)
    curves, layers, candidates = (
        partial(load, *folders) for load in (parquet.load_curves, parquet.load_layers, parquet.load_candidates)
    )
    frames = Frames(trials, curves, layers, sweep, candidates)
    if figure.kind != ALL:
        _draw(make_chart(figure.kind, frames, query, figure.metric), figure.file, figure.page)
        return
    lost = {}
    searched = not trials.empty and _has_searches(candidates)
    for name, kind in KINDS.items():
        if kind.of_searches and not searched:
            continue
        try:
            chart = make_chart(name, frames, query, figure.metric if kind.is_of_any_metric else None)
            _draw(chart, figure.file.with_stem(f"{figure.file.stem}-{name}"), figure.page)
        except UserError as error:
            lost[name] = str(error)
    if len(lost) == sum(searched or not kind.of_searches for kind in KINDS.values()):
        raise UserError(f"no plot can be drawn: {'; '.join(dict.fromkeys(lost.values()))}")
    for name, reason in lost.items():
        say(f"[yellow]not drawn[/]: {name}: {escape(reason)}")


def _has_searches(candidates: Callable[[], DataFrame]) -> bool:
    try:
        return bool(len(candidates()))
    except UserError:
        return False


def _check_order(sweep: DataFrame, order: Sequence[str]) -> None:
    names = sorted({*sweep["method"], *sweep["retrain_schedule"].dropna()})
    for name in order:
        if name not in names:
            raise UserError(unknown("name in --order", name, names))


def _draw(chart: Chart, file: Path, page: Page) -> None:
    from prunesweep.orchestrator.figures import drawing

    drawing.save(chart, file, page)
    say(f"wrote {escape(str(file))}")
    for note in (*chart.title.split("\n"), *chart.notes):
        say(f"  {escape(note)}")
