"""What a report says of the results: its tables, its plots, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from prunesweep.orchestrator.figures.charts import Chart
from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.kinds import KINDS, make_chart
from prunesweep.orchestrator.report.every_cell import MEASURED, SortableTable, every_cell
from prunesweep.orchestrator.report.fairness import Evidence, Item, checklist
from prunesweep.orchestrator.results import aggregation, filtering, parquet
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.image_counts import ImageCount, image_counts
from prunesweep.orchestrator.results.primary import on_test, on_validation
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import IDENTITY, measurements
from prunesweep.orchestrator.results.units import scale
from prunesweep.orchestrator.tables.compare import differences
from prunesweep.orchestrator.tables.grid import laid_out
from prunesweep.orchestrator.tables.means import Table, best_table, means_table
from prunesweep.orchestrator.tables.rendering import as_csv
from prunesweep.orchestrator.tables.text_table import TextTable
from prunesweep.orchestrator.tables.wording import words
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location

MOST_ROWS, MOST_LINES = 40, 24
"""A comparison with more rows is left to the table of every cell, and of a plot with more lines only the best setting
of each method is drawn."""

FLOPS = "train_flops_ratio"

MOST_DIFFERENCES = 80
"""A table of differences with more lines is left out."""


@dataclass(frozen=True)
class Answer:
    """The results of the `trials` that have the metric, of the `selected` ones that are asked about.

    The tables in the store hold `finished` trials. `tables` are comparisons, the broadest last, and `differences` tests
    them; it is None where nothing has a rival or all is too long. `controls` are the dense networks. `missing` says of
    each kind of plot that cannot be drawn why not.
    """

    trials: pd.DataFrame
    selected: int
    finished: int
    tables: Sequence[TextTable]
    differences: TextTable | None
    controls: Sequence[str]
    charts: Sequence[tuple[str, Chart]]
    missing: Mapping[str, str]
    grid: SortableTable
    is_complete: bool
    checks: Sequence[Item]
    image_counts: Sequence[ImageCount]
    names: Sequence[str]

    def training_flops(self) -> Sequence[str]:
        """`gmp 0.31x to 0.54x`: of each method the least and the most, as multiples of dense training."""
        if FLOPS not in self.trials or self.trials[FLOPS].isna().all():
            return []
        unit = scale(FLOPS)
        ratios = self.trials.dropna(subset=[FLOPS]).groupby("method", sort=False)[FLOPS].agg(["min", "max"])
        ends = ((name, unit.number(low), unit.number(high)) for name, low, high in ratios.itertuples())
        return [f"{name} {' to '.join(dict.fromkeys(both))}" for name, *both in ends]

    def per_seed(self) -> str:
        """The values of every seed, as CSV: settings, the metric and what else was measured."""
        varying = [n for n in self.trials if n not in (*IDENTITY, *measurements()) and self.trials[n].nunique() > 1]
        measured = [n for n in (*self.names[-1:], *MEASURED) if n in self.trials and self.trials[n].notna().any()]
        columns = dict.fromkeys(["sweep", "dataset", "model", *self.names[:-1], *varying, "seed", *measured])
        return as_csv(self.trials[list(columns)])


def make_answer(frame: pd.DataFrame, query: Query, folders: Sequence[Location]) -> Answer:
    """From the finished trials of the folders; raises `UserError` where none is asked about or has the metric."""
    asked = filtering.where(frame, query.where, keep_dense=True)
    metric = on_test(asked, query.metric)
    query, trials = replace(query, metric=metric), aggregation.with_metric(asked, metric)
    whole, layers = means_table(trials, query.metric, query.by or None), parquet.load_layers(*folders)
    best = _best(trials, query) if _has_rivals(whole) else None
    is_long = best is not None and len(whole.rows) > MOST_ROWS
    curves, candidates = (partial(load, *folders) for load in (parquet.load_curves, parquet.load_candidates))
    frames = Frames(trials, curves, lambda: layers, frame, candidates)
    drawn = dict(_drawn(frames, query, best is not None))
    return Answer(
        trials=trials,
        selected=len(asked),
        finished=len(frame),
        tables=[*([_titled(best, query)] if best else []), *([] if is_long else [laid_out(whole)])],
        differences=_differences(trials, query),
        controls=laid_out(whole).above,
        charts=[(kind, made) for kind, made in drawn.items() if isinstance(made, Chart)],
        missing={kind: for_readers(why) for kind, why in drawn.items() if isinstance(why, str)},
        grid=every_cell(trials, whole),
        is_complete=not is_long,
        checks=checklist(Evidence(trials, whole, frozenset(layers["trial"]), _searched(candidates))),
        image_counts=list(image_counts(frame)),
        names=[*whole.row_names, *whole.column_names, metric],
    )


def _searched(candidates: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    """The candidates of searches; None where nothing was searched for."""
    try:
        return candidates()
    except UserError:
        return None


def _titled(best: Table, query: Query) -> TextTable:
    """The table of the best settings, with a title that says of what each is the best."""
    table = laid_out(best)
    of_each = " and ".join(map(words, query.by or ["method"]))
    return replace(table, title=f"{table.title}: each {of_each} at its best")


def for_readers(note: str) -> str:
    """A note without the clauses that name an option of the command line; whoever reads a report has none."""
    return "; ".join(clause for clause in note.split("; ") if "--" not in clause and "`prunesweep" not in clause)


def _has_rivals(table: Table) -> bool:
    """Whether a method has several settings at one sparsity of a dataset and model."""
    at = [(*(cell.settings.get(n) for n in ("dataset", "model", "method", TARGET)),) for cell in table.cells.values()]
    return len(set(at)) < len(at)


def _best(trials: pd.DataFrame, query: Query) -> Table | None:
    try:
        return best_table(trials, query.metric, query.by or None, best_by=on_validation(trials))
    except UserError:  # no setting competes, for instance because none has reached its sparsity
        return None


def _differences(trials: pd.DataFrame, query: Query) -> TextTable | None:
    try:
        table = differences(trials, query.metric, query.by, tolerance=query.tolerance)
    except UserError:  # no two settings have the same sparsity and budget
        return None
    return table if len(table.lines) <= MOST_DIFFERENCES else None


def _drawn(frames: Frames, query: Query, has_best: bool) -> Iterator[tuple[str, Chart | str]]:
    """Every kind of plot, or the reason why there is none."""
    for name, kind in KINDS.items():
        draw = partial(make_chart, name, frames, metric=query.metric if kind.is_of_any_metric else None)
        asked = Query(by=() if "by" in kind.without else query.by)
        try:
            chart = draw(asked)
            if len(chart.names) > MOST_LINES and has_best and "best_by" not in kind.without:
                chart = draw(replace(asked, best_by=on_validation(frames.trials)))
            yield name, chart
        except UserError as error:
            yield name, str(error)
