"""Store -> the four tables of a sweep, `trials.parquet` and so on: one writer, atomic, incremental.

The tables are a function of the sweep and the store alone: rows in the sweep's order, one for every finished trial.
What turns out to be damaged is set aside; its trials have no rows until it is computed again.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from threading import Event as Flag
from typing import Any

import pyarrow as pa

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.schemas import CLASSES, LAYERS, SWEEP_KEY, curves_schema, trials_schema
from prunesweep.orchestrator.results.sealing import ROW_GROUP, WIDE_GROUP, modest, sealed_table
from prunesweep.orchestrator.run.candidates import candidates_table
from prunesweep.orchestrator.run.collected import checksum, note
from prunesweep.orchestrator.run.events import Event, Finished, Listener, Tick
from prunesweep.orchestrator.run.kept import kept
from prunesweep.orchestrator.run.parts import Parts, repeated
from prunesweep.orchestrator.run.rows import (
    TEST_SETS,
    Inherited,
    Result,
    asked,
    classes_of,
    inherited,
    is_complete,
    layers_of,
    row_of,
    setting_types,
)
from prunesweep.orchestrator.run.tuning import tuning, with_tuning
from prunesweep.workers.spec import path
from prunesweep.workers.store import CURVE, Damaged, State, Store
from prunesweep.workers.tasks import metrics_of
from prunesweep.workers.tasks.base import Metric

WRITE_SHARE = 0.02
"""While a sweep runs, writing its tables may take this share of the time."""

LOOK_SECONDS = 0.5
"""What has finished is read this often."""

SLICE = 256
"""So many results are in memory at once: those of large networks take 100 kB each."""

Read = tuple[str, Result | None, bytes | None]
"""A stage, its result and its curve; None for what is damaged."""

LAYERS_OF_A_STAGE = pa.schema([field for field in LAYERS if field.name != "trial"])
CLASSES_OF_A_STAGE = pa.schema([field for field in CLASSES if field.name != "trial"])
"""Which many trials may share."""

LATER_IN_CURVES = "nonzero_multiply_adds"
"""Which curves of version 0.1 do not have."""


def curve_of(data: bytes, schema: pa.Schema) -> pa.Table | None:
    """The curve of a stage, with these columns; None where the file is none: whoever writes one can take its sum."""
    try:
        file = modest(data)
        is_whole = file.schema_arrow.names == schema.names  # then it is read in two thirds of the time
        table = file.read(None if is_whole else schema.names, use_threads=False)
        if LATER_IN_CURVES not in table.column_names:
            table = table.append_column(LATER_IN_CURVES, pa.nulls(len(table), pa.float64()))
        return table if table.schema.equals(schema) else table.cast(schema)  # which takes half of the time
    except (pa.ArrowException, ValueError, OSError):
        return None


class Collector:
    """Gathers the rows of finished trials, and writes the tables now and then.

    `waiting` are the keys of trials' last stages that have a result and are not read yet; `expect` may be called from
    any thread, everything else from one at a time. `damaged` are the paths of what was found missing or damaged, and is
    set aside. All but `expect` raise `OSError` while the store cannot be used; what was waiting then waits on.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.inherited: dict[str, Inherited] = {}
        self.parents = {stage.parent.key for stage in plan.stages.values() if stage.parent}
        self.rows = Parts(self._schema, partial(pa.Table.from_pylist, schema=self._schema))
        self.curves = Parts(self._of_a_stage, pa.concat_tables)
        self.layers = Parts(LAYERS_OF_A_STAGE, partial(pa.Table.from_pylist, schema=LAYERS_OF_A_STAGE))
        self.classes = Parts(CLASSES_OF_A_STAGE, partial(pa.Table.from_pylist, schema=CLASSES_OF_A_STAGE))
        self.damaged: list[str] = []
        self.first = self.stale = True
        self.next_write = 0.0
        self.waiting = deque(key for key in plan.trials_of if plan.states[key] is State.DONE)

    def grow(self, plan: Plan) -> None:
        """Searches have decided: the plan has more stages, and perhaps more trials; from any thread, as `expect`."""
        fresh = [key for key in plan.trials_of if key not in self.plan.trials_of]
        self.parents |= {stage.parent.key for stage in plan.stages.values() if stage.parent}
        self.plan = plan
        self.waiting.extend(key for key in fresh if plan.states[key] is State.DONE)
        self.stale = True

    def expect(self, key: str) -> None:
        """A stage has its result now; it is read by `take_up`."""
        if key in self.plan.trials_of:
            self.waiting.append(key)

    def catch_up(self) -> None:
        """Have those wait, too, that have a result by now: another run's, or one whose end was not heard."""
        known = set(self.waiting)
        lacking = [key for key in self.plan.trials_of if key not in self.layers and key not in known]
        done = self.store.done(lacking)
        self.waiting.extend(key for key in lacking if key in done)

    def take_up(self) -> None:
        """Read what waits, and is not in the tables that were written before."""
        if self.first:
            self._keep()
            self.first = False
        keys = [self.waiting.popleft() for _ in range(len(self.waiting))]
        stages = dict.fromkeys(s.key for key in keys if key not in self.layers for s in path(self.plan.stages[key]))
        unread = [key for key in stages if key not in (self.inherited if key in self.parents else self.curves)]
        try:
            for read in self._ahead([unread[start : start + SLICE] for start in range(0, len(unread), SLICE)]):
                for key, result, curve in read:
                    self._take_up(key, result, curve)
        except OSError:
            self.waiting.extend(keys)
            raise

    def _keep(self) -> None:
        """Of a stage that others start from its curve is kept; what their rows say of it is read when there are new."""
        tables = kept(self.plan, self.store, self._schema)
        if tables is not None:
            self.rows.adopt(tables.trials, tables.rows)
            self.curves.adopt(tables.curves.select(self._of_a_stage.names), tables.curve_places)
            self.layers.adopt(tables.layers.select(LAYERS_OF_A_STAGE.names), tables.layer_places)
            self.classes.adopt(tables.classes.select(CLASSES_OF_A_STAGE.names), tables.class_places)

    def _ahead(self, slices: Sequence[Sequence[str]]) -> Iterator[list[Read]]:
        """What each slice reads; of a store at a distance one is read while the one before is taken up."""
        if self.store.is_local:
            yield from map(self._read, slices)
            return
        with ThreadPoolExecutor(1, "reading ahead") as pool:
            coming: deque[Future[list[Read]]] = deque()
            for keys in slices:
                coming.append(pool.submit(self._read, keys))
                if len(coming) > 1:
                    yield coming.popleft().result()
            yield from (last.result() for last in coming)

    def _read(self, keys: Sequence[str]) -> list[Read]:
        """Read stages, parents before children: each once, since many trials share a dense network."""
        results = list(self.store.results(keys))
        curves = self.store.at_once(lambda item: self._curve(*item), list(zip(keys, results, strict=True)))
        self.store.release(keys)
        return list(zip(keys, results, curves, strict=True))

    def _curve(self, key: str, result: Result | None) -> bytes | None:
        try:
            return None if result is None else self.store.read_published(key, CURVE, result)
        except Damaged:
            return None

    def _take_up(self, key: str, result: Result | None, curve: bytes | None) -> None:
        """Results are large and many: of a stage that others start from what their rows say of it is kept."""
        stages = path(self.plan.stages[key])
        table = None if curve is None else curve_of(curve, self._of_a_stage)
        if result is None or table is None or not is_complete(result):
            self.damaged += self.store.set_aside(key, refused=True)
            return
        before = [self.inherited[stage.key] for stage in stages[:-1] if stage.key in self.inherited]
        if len(before) < len(stages) - 1:  # one of them is damaged
            return
        self.curves.add(key, [table], len(table))
        own = inherited(stages[-1], result, table, self.metrics[0].name)
        if key in self.parents:
            self.inherited[key] = own
        if key in self.plan.trials_of:
            layers, classes = list(layers_of(result)), list(classes_of(result))
            self.layers.add(key, layers, len(layers))
            self.classes.add(key, classes, len(classes))
            for trial in self.plan.trials_of[key]:
                row = row_of(self.plan.sweep.name, trial, stages, [*before, own], result, self.metrics)
                self.rows.add(trial.key, [row], 1)
            self.stale = True

    def write_if_due(self) -> None:
        """Write the tables unless that would take more than its share of the time."""
        if self.stale and time.monotonic() >= self.next_write:
            start = time.monotonic()
            with suppress(OSError):  # a full disk may have room later
                self.write()
            self.next_write = time.monotonic() + (time.monotonic() - start) / WRITE_SHARE

    def write(self) -> None:
        """Write the four tables, of all that waits, too."""
        self.take_up()
        trials = [trial.key for trial in self.plan.sweep.trials if trial.key in self.rows]
        last = [self.plan.last[trial] for trial in trials]
        paths = [path(self.plan.stages[key]) for key in last]
        owners = [trial for trial, stages in zip(trials, paths, strict=True) for _ in stages]
        stages = [stage.key for stages in paths for stage in stages]
        said = {**self._schema.metadata, SWEEP_KEY: json.dumps(asked(self.plan)).encode()}
        described = self._schema.with_metadata(said)
        sums = {
            "trials": self._save("trials", described, self._trials(trials)),
            "curves": self._save("curves", self._curves_schema, self._curves(owners, stages)),
            "layers": self._save("layers", LAYERS, self._of_last(self.layers, trials, last, LAYERS)),
            "classes": self._save("classes", CLASSES, self._of_last(self.classes, trials, last, CLASSES)),
        }
        if self.plan.decisions:
            candidates = candidates_table(self.plan)
            sums["candidates"] = self._save("candidates", candidates.schema, [candidates])
        note(self.plan, trials, sums, self.store)
        self.stale = False

    def _trials(self, trials: Sequence[str]) -> Iterator[pa.Table]:
        by_trial = tuning(self.plan)
        for part in self.rows.slices(trials, WIDE_GROUP):
            yield with_tuning(self.rows.table(trials[part]), trials[part], by_trial)

    def _curves(self, trials: Sequence[str], stages: Sequence[str]) -> Iterator[pa.Table]:
        """Of each trial and stage; a row group at a time, since a dense network's rows come once for each trial."""
        for part in self.curves.slices(stages, ROW_GROUP):
            counts = self.curves.lengths(stages[part])
            table = self.curves.table(stages[part]).append_column("trial", repeated(trials[part], counts))
            yield table.append_column("stage", repeated(stages[part], counts)).select(self._curves_schema.names)

    def _of_last(self, parts: Parts[Any], trials: list[str], stages: list[str], whole: pa.Schema) -> Iterator[pa.Table]:
        """What of each trial its last stage has."""
        for part in parts.slices(stages, ROW_GROUP):
            names = repeated(trials[part], parts.lengths(stages[part]))
            yield parts.table(stages[part]).append_column("trial", names).select(whole.names)

    @cached_property
    def _schema(self) -> pa.Schema:
        trials = self.plan.sweep.exemplars
        test_sets = {name for trial in trials for name in trial.test_sets}
        types = setting_types(trial.method.name for trial in trials) | ({TEST_SETS: pa.string()} if test_sets else {})
        return trials_schema(types, self.metrics, test_sets)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Of the sweep's tasks, which have one primary metric; that is the first."""
        tasks = dict.fromkeys(trial.task for trial in self.plan.sweep.exemplars)
        return tuple(dict.fromkeys(metric for task in tasks for metric in metrics_of(task)))

    @cached_property
    def _curves_schema(self) -> pa.Schema:
        return curves_schema(self.metrics[0])

    @cached_property
    def _of_a_stage(self) -> pa.Schema:
        return pa.schema([field for field in self._curves_schema if field.name not in ("trial", "stage")])

    def _save(self, name: str, schema: pa.Schema, parts: Iterable[pa.Table]) -> str:
        """Write one of the tables; its checksum."""
        sweep = self.plan.sweep.name
        data = sealed_table(parts, schema, sweep, name)
        self.store.write(data, sweep, f"{name}.parquet")
        return checksum(data)


@contextmanager
def collecting(collector: Collector) -> Iterator[Listener]:
    """What to call with each event while stages run: what finishes is collected in a thread, and no stage waits for it.

    The thread has ended when this has. What it raised comes out with the next `Tick`, or at the end.
    """
    over = Flag()
    with ThreadPoolExecutor(1, "collecting") as pool:
        work = pool.submit(_collect_until, over, collector)

        def hear(event: Event) -> None:
            match event:
                case Finished(key):
                    collector.expect(key)
                case Tick() if work.done():
                    work.result()

        try:
            yield hear
        finally:
            over.set()
    work.result()


def _collect_until(over: Flag, collector: Collector) -> None:
    while not over.wait(LOOK_SECONDS):
        with suppress(OSError):  # a store that is gone may come back
            collector.take_up()
            collector.write_if_due()
