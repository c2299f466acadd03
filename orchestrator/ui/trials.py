"""One trial as it is now: its settings, its stages with their attempts, its curve so far, and its layers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prunesweep.orchestrator.labels import labels
from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.report.settings import Setting, choices, methods, training
from prunesweep.orchestrator.results.sealing import modest
from prunesweep.orchestrator.run.rows import COPIED, layers_of
from prunesweep.orchestrator.ui.sweeps import Watch
from prunesweep.workers.activity import CURVE as COLUMNS
from prunesweep.workers.activity import METRIC, validation_column
from prunesweep.workers.claims import Claim
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Stage, TrialSpec, path
from prunesweep.workers.store import CURVE, Attempt, Damaged, State

Rows = Sequence[tuple[float | None, ...]]
"""Of a curve, with the columns `workers.activity.CURVE`."""

FIRST = ("test_", "validation_", "train_", "pruned_test_")
"""Metrics that are shown first begin so; the others follow."""


class NoSuchTrial(UserError):
    """The sweep has no trial of that key."""


@dataclass(frozen=True)
class Step:
    """A stage of the trial: `claim` is of the process that computes it, `result` what it said when it was done."""

    key: str
    label: str
    stage: Stage
    state: str
    claim: Claim | None
    attempts: Sequence[Attempt]
    device: str | None
    seconds: float | None
    rows: Rows
    problem: str = ""


@dataclass(frozen=True)
class TrialMoment:
    """A trial at one moment; metrics and layers are those of its last stage, none before that is done."""

    plan: Plan
    trial: TrialSpec
    state: str
    steps: Sequence[Step]
    metrics: Mapping[str, float]
    layers: Sequence[Mapping[str, Any]]

    @property
    def choices(self) -> Mapping[str, str]:
        """Dataset, model and task with their options."""
        return {kind: choices([self.trial], kind)[0] for kind in ("dataset", "model", "task")}

    @property
    def method(self) -> Sequence[Setting]:
        """The sparsity and the hyperparameters."""
        return methods([self.trial])

    @property
    def training(self) -> Sequence[Setting]:
        """The settings of training."""
        return training([self.trial])


class TrialWatch:
    """Looks at one trial again and again. For one thread at a time."""

    def __init__(self, name: str, key: str, watch: Watch) -> None:
        self.name, self.key, self.watch = name, key, watch
        self._results: dict[str, Mapping[str, Any]] = {}
        self._rows: dict[str, Rows] = {}
        self._attempts: dict[str, Sequence[Attempt]] = {}

    def moment(self) -> TrialMoment:
        """The trial as it is now; raises `NoSuchTrial`, and `UserError` where the sweep cannot be read."""
        plan = self.watch.plan()
        trial = next((trial for trial in plan.sweep.trials if trial.key == self.key), None)
        if trial is None:
            raise NoSuchTrial(f"{self.name} has no trial with the key {self.key}")
        stages = path(plan.stages[plan.last[trial.key]])
        names = labels(plan.stages, [stage.key for stage in stages])
        begun = [stage.key for stage in stages if plan.states[stage.key] is State.STARTED]
        seen = self.watch.claims.seen(begun, self.watch.store, time.monotonic())
        steps = [self._step(stage, names[stage.key], plan.states[stage.key], seen.get(stage.key)) for stage in stages]
        result = self._results.get(stages[-1].key, {})
        metrics = {name: value for name, value in result.get("metrics", {}).items() if value is not None}
        scores = [name for start in FIRST for name in metrics if name.startswith(start)]
        ordered = dict.fromkeys([*scores, *(name for name in COPIED if name in metrics)])
        return TrialMoment(
            plan=plan,
            trial=trial,
            state=plan.trial_state(trial),
            steps=steps,
            metrics={name: metrics[name] for name in ordered},
            layers=list(layers_of(result)) if "layers" in result else [],
        )

    def _step(self, stage: Stage, label: str, state: State, claim: Claim | None) -> Step:
        key, problem = stage.key, ""
        if state is State.DONE:
            problem = self._read(key)
        else:
            self._forget(key)
        if key not in self._attempts:
            self._attempts[key] = self.watch.store.attempts(key)
        result = self._results.get(key, {})
        rows = self._rows.get(key, claim.doing.curve if claim and claim.doing else ())
        device, seconds = result.get("device"), result.get("elapsed_seconds")
        return Step(
            key=key,
            label=label,
            stage=stage,
            state="running" if claim else str(state),
            claim=claim,
            attempts=self._attempts[key],
            device=device if isinstance(device, str) else None,
            seconds=float(seconds) if isinstance(seconds, int | float) else None,
            rows=rows,
            problem=problem,
        )

    def _forget(self, key: str) -> None:
        for kept in (self._results, self._rows, self._attempts):
            kept.pop(key, None)

    def _read(self, key: str) -> str:
        """Read what a finished stage has left, once; returns what is wrong with it."""
        if key in self._rows:
            return ""
        self._forget(key)
        try:
            self._results[key] = self.watch.store.result(key) or {}
            self._rows[key] = _rows(self.watch.store.read_published(key, CURVE))
        except Damaged as error:
            return f"it is damaged: {error}; running the sweep again computes it again"
        except (pa.ArrowException, KeyError, ValueError, StopIteration) as error:
            return f"its curve cannot be read: {error}"
        return ""


def _rows(data: bytes) -> Rows:
    table = modest(data).read()
    metric = validation_column(table.column_names)
    table = table.select([metric if name == METRIC else name for name in COLUMNS])
    columns = [column.cast(pa.float64()).to_pylist() for column in table.columns]
    return list(zip(*columns, strict=True))
