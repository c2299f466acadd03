"""A sweep as it is now, read from the store alone: its plan, what runs, what has failed, and what came out so far."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import RECORD, require
from prunesweep.orchestrator.report.answer import Answer, make_answer
from prunesweep.orchestrator.report.contents import EVERYTHING
from prunesweep.orchestrator.report.cost import Cost, cost
from prunesweep.orchestrator.results import parquet
from prunesweep.orchestrator.results.primary import on_test
from prunesweep.orchestrator.run.failures import policy
from prunesweep.orchestrator.status import nodes
from prunesweep.orchestrator.status.status import RUNNING, FailedStage, Unfinished, failures, unfinished
from prunesweep.orchestrator.sweep import NAME
from prunesweep.orchestrator.ui.pacing import Part
from prunesweep.orchestrator.ui.watching import Claims, WatchedStore
from prunesweep.workers.claims import Claim
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import State

TABLES = ("trials.parquet", "curves.parquet", "layers.parquet", "classes.parquet")

FAILURES_SHOWN = 20
"""The number of stages that are shown of each cause of failure."""

Stamps = Mapping[str, tuple[int, datetime]]
"""Of the files of a sweep's folder size and time, by which a file is known to be as it was."""


class NoSuchSweep(UserError):
    """The store has no sweep of that name."""


@dataclass(frozen=True)
class Progress:
    """How far a sweep is. `states` counts trials by their state without zeros; epochs of running stages count."""

    states: Mapping[str, int]
    trials: int
    epochs_done: int
    epochs: int
    running: int
    failed_stages: int
    epochs_per_second: float | None
    seconds_left: float | None

    @property
    def done(self) -> int:
        """Trials."""
        return self.states.get("done", 0)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return self.done == self.trials


@dataclass(frozen=True)
class Cause:
    """Failures of one cause, what to do about it, and the first of the stages."""

    name: str
    hint: str
    count: int
    blocks: int
    shown: Sequence[FailedStage]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out so far; `answer` is None while no trial is finished, and `problem` says what cannot be read.

    `scores` are those of finished trials in the column `metric`, by their keys.
    """

    answer: Answer | None
    cost: Cost
    scores: Mapping[str, float]
    problem: str = ""
    metric: str = "test_accuracy"


@dataclass(frozen=True)
class Moment:
    """A sweep at one moment. `running` are the devices with what they compute, `waiting` what has begun and rests.

    `is_settled` says whether causes and outcome are those of this moment; else they follow soon.
    """

    plan: Plan
    progress: Progress
    running: nodes.Now
    waiting: Sequence[Unfinished]
    causes: Sequence[Cause]
    outcome: Outcome
    is_settled: bool

    @property
    def stages(self) -> Sequence[Unfinished]:
        """All that runs."""
        return [*(s for device in self.running.devices for s in device.stages), *self.running.unlocated]


class Watch:
    """Looks at one sweep again and again, and remembers what cannot have changed. For one thread at a time."""

    def __init__(self, name: str, store: WatchedStore) -> None:
        """Raises `NoSuchSweep`; of the store nothing else is read under any name that a browser may ask for."""
        if not re.fullmatch(NAME, name) or name == "stages" or not store.are_files([(name, RECORD)])[0]:
            raise NoSuchSweep(f"the store has no sweep of the name {name}")
        self.name, self.store = name, store
        self.costs = WatchedStore(store)
        self.claims = Claims()
        self._record: tuple[int, datetime] | None = None
        self._plan: list[Plan] = []
        self._causes: Part[Sequence[Cause]] = Part()
        self._outcome: Part[Outcome] = Part()

    def plan(self, stamps: Stamps | None = None) -> Plan:
        """The sweep with its stages as they are now; raises `UserError` where it is gone, or its record is damaged."""
        record = (self._stamps() if stamps is None else stamps).get(RECORD)
        if record is None:
            raise NoSuchSweep(f"the store has no sweep of the name {self.name}")
        if not self._plan or record != self._record:
            self._plan, self._record = [make_plan(require(self.name, self.store), self.store)], record
        else:
            self._plan = [self._plan[0].refreshed(self.store)]
        return self._plan[0]

    def _stamps(self) -> Stamps:
        return {file.path[-1]: (file.size, file.modified) for file in self.store.files(self.name)}

    def progress(self, plan: Plan) -> Progress:
        """How far it is, without what it costs more to know."""
        seen = self.claims.seen(begun(plan), self.store, time.monotonic())
        return progress_of(plan, [claim for claim in seen.values() if claim is not None])

    def moment(self) -> Moment:
        """Everything, as it is now."""
        stamps = self._stamps()
        plan = self.plan(stamps)
        seen = self.claims.seen(begun(plan), self.store, time.monotonic())
        stages = unfinished(plan, self.store, seen)
        running = nodes.now(plan, stages)
        failed = tuple(key for key, state in plan.states.items() if state is State.FAILED)
        tables = tuple(stamps.get(name) for name in TABLES)
        outcome = self._outcome.made(tables, lambda: self._what_came_out(plan, any(tables)))
        failures_of = failed, tuple(plan.blocked)
        return Moment(
            plan=plan,
            progress=progress_of(plan, [claim for claim in seen.values() if claim], running),
            running=running,
            waiting=[stage for stage in stages if stage.state != RUNNING],
            causes=self._causes.made(failures_of, lambda: causes(plan, self.store)),
            outcome=outcome,
            is_settled=self._outcome.is_current(tables) and self._causes.is_current(failures_of),
        )

    def _what_came_out(self, plan: Plan, has_tables: bool) -> Outcome:
        spent, folder = cost([plan], self.costs), self.store.url(self.name)
        if not has_tables:
            return Outcome(None, spent, {})
        try:
            frame = parquet.load_results(folder)
            answer = make_answer(frame, EVERYTHING, [folder]) if len(frame) else None
        except UserError as error:
            return Outcome(None, spent, {}, str(error))
        try:
            column = on_test(frame)
        except UserError:  # trials of several tasks have no metric that all have
            return Outcome(answer, spent, {})
        scores = frame.dropna(subset=[column]).drop_duplicates("trial")
        return Outcome(answer, spent, dict(zip(scores["trial"], scores[column], strict=True)), metric=column)


def begun(plan: Plan) -> list[str]:
    """Stages that have neither a result nor a failure."""
    return [key for key, state in plan.states.items() if state is State.STARTED]


def progress_of(plan: Plan, claims: Sequence[Claim], running: nodes.Now | None = None) -> Progress:
    """The counts; the pace and the time left are known of what `running` says."""
    states = [plan.trial_state(trial) for trial in plan.sweep.trials]
    reached = sum(claim.doing.epoch or 0 for claim in claims if claim.doing)
    return Progress(
        states={
            name: count for name in ("done", "failed", "blocked", "started", "new") if (count := states.count(name))
        },
        trials=len(states),
        epochs_done=reached + sum(s.epochs for key, s in plan.stages.items() if plan.states[key] is State.DONE),
        epochs=sum(stage.epochs for stage in plan.stages.values()),
        running=len(claims),
        failed_stages=sum(state is State.FAILED for state in plan.states.values()),
        epochs_per_second=running.epochs_per_second if running else None,
        seconds_left=running.seconds_left if running else None,
    )


def causes(plan: Plan, store: WatchedStore) -> Sequence[Cause]:
    """Failures by cause, that with the most stages first."""
    by_cause: dict[str, list[FailedStage]] = {}
    for failure in failures(plan, store):
        by_cause.setdefault(failure.cause, []).append(failure)
    return [
        Cause(name, policy(name).hint, len(same), sum(failure.blocks for failure in same), same[:FAILURES_SHOWN])
        for name, same in sorted(by_cause.items(), key=lambda item: -len(item[1]))
    ]


def trial_of_stage(plan: Plan, key: str) -> TrialSpec | None:
    """A trial whose last stage this is; None for a stage that only others start from."""
    return next(iter(plan.trials_of.get(key, ())), None)
