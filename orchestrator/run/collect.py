"""Store -> `trials.parquet`, `curves.parquet` and `layers.parquet` of a sweep: one writer, atomic, incremental.

The tables are a function of the sweep and the store alone: rows in the sweep's order, one for every finished trial.
What turns out to be damaged is set aside; its trials have no rows until it is computed again.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.schemas import CURVES, LAYERS, SWEEP_KEY, trials_schema
from prunesweep.orchestrator.results.sealing import sealed_table
from prunesweep.orchestrator.run.events import Event, Finished, Tick
from prunesweep.orchestrator.sweepfile.read import Sweep
from prunesweep.workers.fingerprints import parts
from prunesweep.workers.methods import method_class
from prunesweep.workers.spec import Choice, PruneStage, Stage, TrainSpec, TrialSpec, path
from prunesweep.workers.store import CURVE, Damaged, State, Store

WRITE_SHARE = 0.02
"""While a sweep runs, writing its tables may take this share of the driver's time."""

MAX_SEEDS = 1000
"""More are not listed in a file's metadata, which every reader reads whole."""

COPIED = (
    *("test_accuracy", "test_accuracy_top5", "test_loss", "validation_accuracy", "validation_loss"),
    *("train_accuracy", "train_loss", "pruned_test_accuracy", "pruning_instability", "relative_norm_drop"),
    *("reached_sparsity", "overall_sparsity", "prunable_share", "parameters", "nonzero_parameters", "multiply_adds"),
    *("prunable_multiply_adds_share", "nonzero_multiply_adds", "theoretical_speedup", "compression_ratio"),
)
"""Columns that are metrics of the trial's last stage, under the same name."""

TRAIN_SETTINGS = tuple(field.name for field in fields(TrainSpec) if field.name != "epochs")
"""Columns that are training settings; the epochs are in `pretrain_epochs` and `total_epochs`."""


class Collector:
    """Gathers the rows of finished trials, and writes the tables now and then.

    `damaged` are the paths of what was found missing or damaged, and is set aside.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.results: dict[str, dict[str, Any]] = {}
        self.curves: dict[str, pa.Table] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.damaged: list[str] = []
        self.stale = True
        self.next_write = 0.0
        for key in plan.trials_of:
            if plan.states[key] is State.DONE:
                self.add(key)

    def catch_up(self) -> None:
        """Take up what has a result by now and no row: another run's, or one whose end was not heard."""
        lacking = [key for key, trials in self.plan.trials_of.items() if trials[0].key not in self.rows]
        done = self.store.done(lacking)
        for key in lacking:
            if key in done:
                self.add(key)

    def add(self, key: str) -> None:
        """Take up the trials whose last stage is `key` and has its result now."""
        for trial in self.plan.trials_of.get(key, ()):
            stages = path(self.plan.stages[key])
            with suppress(OSError):  # a store that is gone may come back: `catch_up`
                results = self._results(stages)
                if results is not None:
                    self.rows[trial.key] = _row(self.plan.sweep.name, trial, stages, results)
                    self.stale = True

    def hear(self, event: Event) -> None:
        """Take up what has finished while the sweep runs."""
        match event:
            case Finished(key):
                self.add(key)
            case Tick():
                self.write_if_due()

    def write_if_due(self) -> None:
        """Write the tables unless that would take more than its share of the time; a full disk may have room later."""
        if self.stale and time.monotonic() >= self.next_write:
            start = time.monotonic()
            with suppress(OSError):
                self.write()
            self.next_write = time.monotonic() + (time.monotonic() - start) / WRITE_SHARE

    def write(self) -> None:
        """Write the three tables."""
        trials = [trial for trial in self.plan.sweep.trials if trial.key in self.rows and self._has_curves(trial)]
        self._save("trials", pa.Table.from_pylist([self.rows[trial.key] for trial in trials], self._schema))
        self._save("curves", _concatenated((self._curves(trial) for trial in trials), CURVES))
        self._save("layers", pa.Table.from_pylist([row for t in trials for row in self._layers(t)], LAYERS))
        self.stale = False

    @cached_property
    def _schema(self) -> pa.Schema:
        schema = trials_schema(setting_types(trial.method.name for trial in self.plan.sweep.trials))
        said = json.dumps(asked(self.plan.sweep)).encode()
        return schema.with_metadata({**schema.metadata, SWEEP_KEY: said})

    def _results(self, stages: Iterable[Stage]) -> list[dict[str, Any]] | None:
        """Of a path; None where one is damaged, and is set aside now."""
        try:
            return [self._result(stage) for stage in stages]
        except Damaged as error:
            self.damaged += self.store.set_aside(error.key)
            return None

    def _result(self, stage: Stage) -> dict[str, Any]:
        if stage.key not in self.results:
            result = self.store.result(stage.key)
            if result is None:
                raise Damaged(stage.key, f"{stage.key} has a finished child but no result")
            self.results[stage.key] = result
        return self.results[stage.key]

    def _has_curves(self, trial: TrialSpec) -> bool:
        try:
            for stage in path(self.plan.stages[self.plan.last[trial.key]]):
                self._curve(stage)
        except Damaged as error:
            self.damaged += self.store.set_aside(error.key)
            return False
        return True

    def _curves(self, trial: TrialSpec) -> Iterable[pa.Table]:
        for stage in path(self.plan.stages[self.plan.last[trial.key]]):
            curve = self._curve(stage)
            names = {"trial": trial.key, "stage": stage.key}
            labels = [pa.array([value] * len(curve), pa.string()) for value in names.values()]
            columns = [*labels, *curve.columns]
            yield pa.table(columns, names=[*names, *curve.column_names]).select(CURVES.names).cast(CURVES)

    def _curve(self, stage: Stage) -> pa.Table:
        """Read once: many trials share a dense network's."""
        if stage.key not in self.curves:
            self.curves[stage.key] = pq.read_table(io.BytesIO(self.store.read_published(stage.key, CURVE)))
        return self.curves[stage.key]

    def _layers(self, trial: TrialSpec) -> Iterable[dict[str, Any]]:
        """Of an operation without a prunable weight there is no density; results of version 0.1 have no kinds."""
        layers = self.results[self.plan.last[trial.key]]["layers"]
        whole = sum(layer["multiply_adds"] for layer in layers)
        for layer in layers:
            density = layer["nonzero"] / layer["weights"] if layer["weights"] else None
            share = layer["multiply_adds"] / whole if whole else None
            yield {**layer, "trial": trial.key, "layer": layer["name"], "density": density, "share": share}

    def _save(self, name: str, table: pa.Table) -> None:
        sweep = self.plan.sweep.name
        self.store.write(sealed_table(table, sweep, name), sweep, f"{name}.parquet")


def asked(sweep: Sweep) -> dict[str, Any]:
    """What the sweep asked for: how many trials, and the seeds that every setting has.

    `seeds` is None where settings have unlike seeds, and where there are too many to list.
    """
    seeds = sorted({trial.seed for trial in sweep.trials})
    settings = {replace(trial, seed=0) for trial in sweep.trials}
    alike = len(settings) * len(seeds) == len(sweep.trials) and len(seeds) <= MAX_SEEDS
    return {"sweep": sweep.name, "trials": len(sweep.trials), "seeds": seeds if alike else None}


def setting_types(methods: Iterable[str]) -> dict[str, pa.DataType]:
    """The columns of what a trial was asked with: training settings, options, and these methods' hyperparameters.

    Where two methods disagree about the type of a hyperparameter, text serves both.
    """
    hints = get_type_hints(TrainSpec)
    types = {name: _arrow_type(hints[name]) for name in TRAIN_SETTINGS}
    types |= {f"{kind}_{what}": pa.string() for kind in ("dataset", "model") for what in ("options", "version")}
    types["method_version"] = pa.string()
    for name in sorted(set(methods)):
        for parameter in method_class(name).hyperparameters():
            arrow_type = _arrow_type(parameter.type)
            types[parameter.name] = arrow_type if types.get(parameter.name, arrow_type) == arrow_type else pa.string()
    return types


def _plain(value: Any) -> Any:
    """Lists as text: one column type for all, and a value that a condition can name."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def _options(choice: Choice) -> str | None:
    return ", ".join(f"{name}: {_plain(value)}" for name, value in choice.options) or None


def _version(choice: Choice) -> str | None:
    """Of one's own code and images, `code 1a2b3c4d`, as `plan` says it; null for what has no version."""
    return ", ".join(f"{part} {value[:8]}" for part, value in parts(choice.fingerprint).items()) or None


def _arrow_type(annotation: Any) -> pa.DataType:
    options = [a for a in get_args(annotation) or (annotation,) if a is not type(None)]
    first = str if get_origin(annotation) is Literal or len(options) != 1 else options[0]
    return {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(first, pa.string())


def _row(sweep: str, trial: TrialSpec, stages: list[Stage], results: list[dict[str, Any]]) -> dict[str, Any]:
    last, metrics = results[-1], results[-1]["metrics"]
    return {
        **trial.method.settings,
        **_train_settings(stages[0].root.train),
        "dataset_options": _options(trial.dataset),
        "model_options": _options(trial.model),
        **{f"{kind}_version": _version(getattr(trial, kind)) for kind in ("dataset", "model", "method")},
        **{name: metrics.get(name) for name in COPIED},
        **_question(sweep, trial, stages),
        **_cost(results),
        "dense_test_accuracy": _dense_accuracy(stages, results),
        "finished_at": datetime.fromisoformat(last["finished_at"]),
        **{name: last.get(name) for name in ("device", "attempts", "commit", "torch_version")},
        "stage_keys": [stage.key for stage in stages],
    }


def settings_of(plan: Plan) -> list[dict[str, Any]]:
    """For each trial of a plan the columns that are known before it has run: what it asks for."""
    rows = []
    for trial in plan.sweep.trials:
        stages = path(plan.stages[plan.last[trial.key]])
        own = {**trial.method.settings, **_train_settings(stages[0].root.train)}
        rows.append({**own, **_question(plan.sweep.name, trial, stages)})
    return rows


def _train_settings(train: TrainSpec) -> dict[str, Any]:
    """What was trained with, which a method may have decided: BIMP's schedule, GSM's momentum."""
    return {name: _plain(getattr(train, name)) for name in TRAIN_SETTINGS}


def _question(sweep: str, trial: TrialSpec, stages: list[Stage]) -> dict[str, Any]:
    """What the trial asked for. A method that sparsifies while training has no retraining."""
    phases, last = sum(isinstance(stage, PruneStage) and stage.epochs > 0 for stage in stages), stages[-1]
    return {
        "trial": trial.key,
        "sweep": sweep,
        "dataset": trial.dataset.name,
        "model": trial.model.name,
        "method": trial.method.name,
        "seed": trial.seed,
        "target_sparsity": last.sparsity if method_class(trial.method.name).takes_sparsity else None,
        "retrain_schedule": trial.method.settings.get("retrain_schedule"),
        "pretrain_epochs": stages[0].epochs,
        "retrain_epochs": last.start_epoch + last.epochs - stages[0].epochs,
        "phases": phases or None,
        "total_epochs": last.start_epoch + last.epochs,
    }


def _cost(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the whole path: a trial's cost includes the dense network that it shares with others."""
    seconds, images = sum(r["train_seconds"] for r in results), sum(r["images"] for r in results)
    peaks = [r["peak_memory_bytes"] for r in results if r["peak_memory_bytes"] is not None]
    return {
        "train_seconds": seconds,
        "train_images_per_second": images / seconds if seconds else None,
        "peak_memory_bytes": max(peaks, default=None),
    }


def _dense_accuracy(stages: list[Stage], results: list[dict[str, Any]]) -> float | None:
    dense = stages[0].root.method.name == "dense"
    accuracy: float | None = results[0]["metrics"]["test_accuracy"] if dense else None
    return accuracy


def _concatenated(tables: Iterable[Iterable[pa.Table]], schema: pa.Schema) -> pa.Table:
    parts = [table for group in tables for table in group]
    return pa.concat_tables(parts) if parts else schema.empty_table()
