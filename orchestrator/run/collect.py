"""Store -> `trials.parquet`, `curves.parquet` and `layers.parquet` of a sweep: one writer, atomic, incremental.

The tables are a function of the sweep and the store alone: rows in the sweep's order, one for every finished trial.
What turns out to be damaged is set aside; its trials have no rows until it is computed again.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial

import pyarrow as pa
import pyarrow.parquet as pq

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.schemas import CURVES, LAYERS, SWEEP_KEY, trials_schema
from prunesweep.orchestrator.results.sealing import sealed_table
from prunesweep.orchestrator.run.collected import checksum, note
from prunesweep.orchestrator.run.events import Event, Finished, Tick
from prunesweep.orchestrator.run.parts import Parts, repeated
from prunesweep.orchestrator.run.rows import Result, asked, layers_of, row_of, setting_types
from prunesweep.workers.spec import Stage, path
from prunesweep.workers.store import CURVE, Damaged, State, Store

WRITE_SHARE = 0.02
"""While a sweep runs, writing its tables may take this share of the driver's time."""

SLICE = 1000
"""So many curves are read before they are used."""

CURVE_OF_A_STAGE = pa.schema([field for field in CURVES if field.name not in ("trial", "stage")])
LAYERS_OF_A_STAGE = pa.schema([field for field in LAYERS if field.name != "trial"])
"""Which many trials may share."""


class Collector:
    """Gathers the rows of finished trials, and writes the tables now and then.

    `damaged` are the paths of what was found missing or damaged, and is set aside.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.shared: dict[str, Result] = {}
        self.rows = Parts(self._schema, partial(pa.Table.from_pylist, schema=self._schema))
        self.curves = Parts(CURVE_OF_A_STAGE, pa.concat_tables)
        self.layers = Parts(LAYERS_OF_A_STAGE, partial(pa.Table.from_pylist, schema=LAYERS_OF_A_STAGE))
        self.damaged: list[str] = []
        self.stale = True
        self.next_write = 0.0
        self._add_all([key for key in plan.trials_of if plan.states[key] is State.DONE])

    def catch_up(self) -> None:
        """Take up what has a result by now and no row: another run's, or one whose end was not heard."""
        lacking = [key for key, trials in self.plan.trials_of.items() if trials[0].key not in self.rows]
        done = self.store.done(lacking)
        self._add_all([key for key in lacking if key in done])

    def _add_all(self, keys: Sequence[str]) -> None:
        with suppress(OSError):  # as in `add`
            for key, result in zip(keys, self.store.results(keys), strict=True):
                self._add(key, result)
        self.store.release(keys)

    def add(self, key: str) -> None:
        """Take up the trials whose last stage is `key` and has its result now."""
        if key in self.plan.trials_of:
            with suppress(OSError):  # a store that is gone may come back: `catch_up`
                self._add(key, self.store.result(key))

    def _add(self, key: str, result: Result | None) -> None:
        """Results are large and many: of a stage that others start from what their rows say of it is kept."""
        stages = path(self.plan.stages[key])
        try:
            results = [*(self._shared(stage) for stage in stages[:-1]), self._require(key, result)]
        except Damaged as error:
            self.damaged += self.store.set_aside(error.key)
            return
        layers = list(layers_of(results[-1]))
        self.layers.add(key, layers, len(layers))
        for trial in self.plan.trials_of[key]:
            self.rows.add(trial.key, [row_of(self.plan.sweep.name, trial, stages, results)], 1)
        self.stale = True

    def _shared(self, stage: Stage) -> Result:
        if stage.key not in self.shared:
            result = self._require(stage.key, self.store.result(stage.key))
            self.shared[stage.key] = {name: value for name, value in result.items() if name != "layers"}
        return self.shared[stage.key]

    def _require(self, key: str, result: Result | None) -> Result:
        if result is None:
            raise Damaged(key, f"{key} has a finished child but no result")
        return result

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
        done = [trial for trial in self.plan.sweep.trials if trial.key in self.rows]
        paths = {
            trial.key: [stage.key for stage in path(self.plan.stages[self.plan.last[trial.key]])] for trial in done
        }
        self._read_curves(list(dict.fromkeys(key for keys in paths.values() for key in keys)))
        trials = [key for key, stages in paths.items() if all(stage in self.curves for stage in stages)]
        sums = {
            "trials": self._save("trials", self.rows.table(trials).replace_schema_metadata(self._schema.metadata)),
            "curves": self._save(
                "curves", self._curves([(trial, stage) for trial in trials for stage in paths[trial]])
            ),
            "layers": self._save("layers", self._layers([(trial, paths[trial][-1]) for trial in trials])),
        }
        note(self.plan, trials, sums, self.store)
        self.stale = False

    def _curves(self, pairs: Sequence[tuple[str, str]]) -> pa.Table:
        stages = [stage for _, stage in pairs]
        counts = self.curves.lengths(stages)
        table = self.curves.table(stages).append_column("trial", repeated([trial for trial, _ in pairs], counts))
        return table.append_column("stage", repeated(stages, counts)).select(CURVES.names).cast(CURVES)

    def _layers(self, pairs: Sequence[tuple[str, str]]) -> pa.Table:
        stages = [stage for _, stage in pairs]
        names = repeated([trial for trial, _ in pairs], self.layers.lengths(stages))
        return self.layers.table(stages).append_column("trial", names).select(LAYERS.names).cast(LAYERS)

    def _read_curves(self, keys: Sequence[str]) -> None:
        """Each once: many trials share a dense network's. What is damaged is set aside, and has none."""
        unread = [key for key in keys if key not in self.curves]
        for start in range(0, len(unread), SLICE):
            some = unread[start : start + SLICE]
            for key, data in zip(some, self.store.at_once(self._curve, some), strict=True):
                if data is None:
                    self.damaged += self.store.set_aside(key)
                else:
                    curve = pq.read_table(io.BytesIO(data)).select(CURVE_OF_A_STAGE.names).cast(CURVE_OF_A_STAGE)
                    self.curves.add(key, [curve], len(curve))

    def _curve(self, key: str) -> bytes | None:
        try:
            return self.store.read_published(key, CURVE)
        except Damaged:
            return None

    @cached_property
    def _schema(self) -> pa.Schema:
        schema = trials_schema(setting_types(trial.method.name for trial in self.plan.sweep.trials))
        said = json.dumps(asked(self.plan.sweep)).encode()
        return schema.with_metadata({**schema.metadata, SWEEP_KEY: said})

    def _save(self, name: str, table: pa.Table) -> str:
        """Write one of the tables; its checksum."""
        sweep = self.plan.sweep.name
        data = sealed_table(table, sweep, name)
        self.store.write(data, sweep, f"{name}.parquet")
        return checksum(data)
