"""Everything that a report says, as values gathered from the store, which is only read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from itertools import groupby

import pandas as pd

from prunesweep.orchestrator.figures.charts import Chart
from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.kinds import KINDS, make_chart
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import require
from prunesweep.orchestrator.report.cost import Cost, cost
from prunesweep.orchestrator.report.every_cell import SortableTable, every_cell
from prunesweep.orchestrator.report.fairness import Evidence, Item, checklist
from prunesweep.orchestrator.report.origin import Origin, Runs, origin, runs
from prunesweep.orchestrator.results import aggregation, parquet
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.run.failures import policy
from prunesweep.orchestrator.status.status import FailedStage, failures
from prunesweep.orchestrator.tables.means import Table, best_table, means_table
from prunesweep.orchestrator.text import counted, joined
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store

CHOSEN_BY = "validation_accuracy"
"""The column that decides which setting of a method is its best."""

MOST_ROWS, MOST_LINES = 40, 24
"""A comparison with more rows is left to the table of every cell, and of a plot with more lines only the best setting
of each method is drawn."""

LOG_LINES = 8
STAGES_SHOWN = 5
"""The number of stages that are named of each cause of failure."""


@dataclass(frozen=True)
class Trouble:
    """Failures of one cause: what to do about them, and the last log lines of the first stages."""

    cause: str
    hint: str
    count: int
    blocks: int
    shown: Sequence[tuple[FailedStage, str]]


@dataclass(frozen=True)
class Answer:
    """The results of the `trials` that have the metric; the tables in the store hold `finished` trials.

    `tables` are comparisons, the broadest last; `missing` says of each kind of plot that cannot be drawn why not.
    """

    trials: pd.DataFrame
    finished: int
    tables: Sequence[Table]
    charts: Sequence[tuple[str, Chart]]
    missing: Mapping[str, str]
    grid: SortableTable
    checks: Sequence[Item]


@dataclass(frozen=True)
class Contents:
    """Everything that a report says; `answer` is None while no trial is finished."""

    plans: Sequence[Plan]
    metric: str
    answer: Answer | None
    cost: Cost
    troubles: Sequence[Trouble]
    origins: Sequence[Origin]
    runs: Sequence[Runs]
    version: str

    @cached_property
    def trials(self) -> list[TrialSpec]:
        """All trials that the sweeps ask for, each once."""
        return list({trial.key: trial for plan in self.plans for trial in plan.sweep.trials}.values())

    @cached_property
    def states(self) -> dict[str, int]:
        """The number of trials that are done, failed, blocked behind a failure, started or new; no zeros."""
        states = {trial.key: plan.trial_state(trial) for plan in self.plans for trial in plan.sweep.trials}
        names = ("done", "failed", "blocked", "started", "new")
        counts = {name: sum(state == name for state in states.values()) for name in names}
        return {name: count for name, count in counts.items() if count}


def gather(names: Sequence[str], store: Store, metric: str = "test_accuracy") -> Contents:
    """The contents for some sweeps; raises `UserError` for an unknown sweep or metric."""
    plans = [make_plan(require(name, store), store) for name in dict.fromkeys(names)]
    written = [plan.sweep.name for plan in plans if "trials.parquet" in store.names(plan.sweep.name)]
    folders = [store.url(name) for name in written]
    frame = parquet.load_results(*folders) if folders else pd.DataFrame()
    return Contents(
        plans=plans,
        metric=metric,
        answer=_answer(frame, metric, folders) if len(frame) else None,
        cost=cost(plans, store),
        troubles=list(_troubles(plans, store)),
        origins=[origin(plan.sweep.name, store) for plan in plans],
        runs=runs(frame) if len(frame) else [],
        version=version("prunesweep"),
    )


def _answer(frame: pd.DataFrame, metric: str, folders: Sequence[str]) -> Answer:
    trials = aggregation.with_metric(frame, metric)
    whole, layers = means_table(trials, metric), parquet.load_layers(*folders)
    best = _best(trials, metric) if _has_rivals(whole) else None
    is_long = best is not None and len(whole.rows) > MOST_ROWS
    frames = Frames(trials, partial(parquet.load_curves, *folders), lambda: layers)
    drawn = dict(_drawn(frames, metric, best is not None))
    return Answer(
        trials=trials,
        finished=len(frame),
        tables=[table for table in (best, None if is_long else whole) if table],
        charts=[(kind, made) for kind, made in drawn.items() if isinstance(made, Chart)],
        missing={kind: why for kind, why in drawn.items() if isinstance(why, str)},
        grid=every_cell(trials, whole),
        checks=checklist(Evidence(trials, whole, frozenset(layers["trial"]))),
    )


def _has_rivals(table: Table) -> bool:
    """Whether a method has several settings at one sparsity of a dataset and model."""
    at = [(*(cell.settings.get(n) for n in ("dataset", "model", "method", TARGET)),) for cell in table.cells.values()]
    return len(set(at)) < len(at)


def _best(trials: pd.DataFrame, metric: str) -> Table | None:
    try:
        return best_table(trials, metric, best_by=CHOSEN_BY)
    except UserError:  # no setting competes, for instance because none has reached its sparsity
        return None


def _drawn(frames: Frames, metric: str, has_best: bool) -> Iterator[tuple[str, Chart | str]]:
    """Every kind of plot, or the reason why there is none."""
    for name, kind in KINDS.items():
        draw = partial(make_chart, name, frames, metric=metric if kind.is_of_any_metric else None)
        try:
            chart = draw(Query())
            if len(chart.names) > MOST_LINES and has_best and "best_by" not in kind.without:
                chart = draw(Query(best_by=CHOSEN_BY))
            yield name, chart
        except UserError as error:
            yield name, str(error)


def _troubles(plans: Sequence[Plan], store: Store) -> Iterator[Trouble]:
    """Failures by cause, the cause with the most stages first; a stage that sweeps share counts once."""
    all_failures = {failure.stage: failure for plan in plans for failure in failures(plan, store)}
    by_cause = {cause: list(same) for cause, same in groupby(sorted(all_failures.values(), key=_cause), _cause)}
    for cause, same in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        shown = [(failure, _last_lines(failure)) for failure in same[:STAGES_SHOWN]]
        yield Trouble(cause, policy(cause).hint, len(same), sum(failure.blocks for failure in same), shown)


def _cause(failure: FailedStage) -> str:
    return failure.cause


def _last_lines(failure: FailedStage) -> str:
    return "\n".join([*failure.attempt.log[-LOG_LINES:], failure.attempt.message or ""]).strip()


def summary(contents: Contents) -> str:
    """A line that names the methods, models, datasets, sparsities and seeds."""
    trials = contents.trials
    methods, datasets, models = (_names(trials, kind) for kind in ("method", "dataset", "model"))
    targets = sorted({trial.sparsity for trial in trials if trial.sparsity})
    span = " to ".join(dict.fromkeys(f"{100 * target:.6g}%" for target in (targets[:1] + targets[-1:])))
    at = f" at {span} sparsity" if span else ""
    seeds = counted(len({trial.seed for trial in trials}), "seed")
    return f"{methods} with {models} on {datasets}{at}, {seeds}"


def _names(trials: Sequence[TrialSpec], kind: str) -> str:
    return joined(list(dict.fromkeys(str(getattr(trial, kind)) for trial in trials))) or "nothing"
