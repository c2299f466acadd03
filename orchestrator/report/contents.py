"""Everything that a report says, as values gathered from the store, which is only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import groupby

import pandas as pd

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import require
from prunesweep.orchestrator.report.answer import Answer, make_answer
from prunesweep.orchestrator.report.cost import Cost, cost
from prunesweep.orchestrator.report.origin import Origin, Runs, origin, runs
from prunesweep.orchestrator.results import parquet
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.run.failures import policy
from prunesweep.orchestrator.status.forecast import Bill
from prunesweep.orchestrator.status.status import FailedStage, failures
from prunesweep.orchestrator.text import counted, joined
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store

EVERYTHING = Query()

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
class Contents:
    """Everything that a report says; `answer` is None while no trial is finished."""

    plans: Sequence[Plan]
    query: Query
    answer: Answer | None
    cost: Cost
    bill: Bill
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


def gather(
    names: Sequence[str],
    store: Store,
    query: Query = EVERYTHING,
    watts: float | None = None,
    price: float | None = None,
) -> Contents:
    """The contents for some sweeps, of the trials that the query asks about; `watts` and `price` are a `Bill`'s.

    Raises `UserError` for an unknown sweep or metric, and where no trial is asked about.
    """
    plans = [make_plan(require(name, store), store) for name in dict.fromkeys(names)]
    written = [plan.sweep.name for plan in plans if "trials.parquet" in store.names(plan.sweep.name)]
    folders = [store.url(name) for name in written]
    frame = parquet.load_results(*folders) if folders else pd.DataFrame()
    spent = cost(plans, store)
    return Contents(
        plans=plans,
        query=query,
        answer=make_answer(frame, query, folders) if len(frame) else None,
        cost=spent,
        bill=spent.bill(watts, price),
        troubles=list(_troubles(plans, store)),
        origins=[origin(plan.sweep.name, store) for plan in plans],
        runs=runs(frame) if len(frame) else [],
        version=version("prunesweep"),
    )


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


def summary_of(trials: Sequence[TrialSpec]) -> str:
    """A line that names the methods, models, datasets, sparsities and seeds."""
    methods, datasets, models = (_names(trials, kind) for kind in ("method", "dataset", "model"))
    targets = sorted({trial.sparsity for trial in trials if trial.sparsity})
    span = " to ".join(dict.fromkeys(f"{100 * target:.6g}%" for target in (targets[:1] + targets[-1:])))
    at = f" at {span} sparsity" if span else ""
    seeds = counted(len({trial.seed for trial in trials}), "seed")
    return f"{methods} with {models} on {datasets}{at}, {seeds}"


def _names(trials: Sequence[TrialSpec], kind: str) -> str:
    return joined(list(dict.fromkeys(str(getattr(trial, kind)) for trial in trials))) or "nothing"
