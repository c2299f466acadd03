"""Whether a store is whole: checksums, keys, parents, and tables against stages. Reading only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import safetensors

from prunesweep.orchestrator.records import RECORD, recall
from prunesweep.orchestrator.results.sealing import described, unsealed_table
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.errors import UserError
from prunesweep.workers.filesystems import AT_ONCE
from prunesweep.workers.fingerprints import SAME_CODE, is_same_code
from prunesweep.workers.init.kept import FOLDER, HASH, is_whole
from prunesweep.workers.progress import is_note
from prunesweep.workers.seal import intact, unsealed_json
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import CHECKPOINTS, RESULT, STATE, Damaged, State, Store

KEY = re.compile("[0-9a-f]{20}")

TABLES = ("trials", "curves", "layers", "classes", "candidates")

COMPUTED = "the next run of its sweep computes the stage again"
WRITTEN = "the next run of the sweep writes it again"
SUPPLIED = "a stage that needs it sets it aside; running the sweep's file, where the weights are, writes it again"
HARMLESS = "nothing needs it; it is written again when the stage runs"
CONTINUED = "it is of a part of a stage; what would continue from it computes these epochs again"
PASSED_OVER = "a stage that runs passes it over, and sets it aside"


@dataclass(frozen=True)
class Fault:
    """What is wrong at a place in the store, and what running again does about it."""

    place: str
    problem: str
    remedy: str


class Check:
    """A store that is looked through. `deep` reads networks, momentum and checkpoints, too: all there is."""

    def __init__(self, store: Store, deep: bool = False) -> None:
        self.store, self.deep = store, deep
        self.files: dict[str, set[str]] = {}
        for file in store.files("stages"):
            if len(file.path) > 2:
                self.files.setdefault(file.path[1], set()).add("/".join(file.path[2:]))
        self.keys = [name for name in store.names("stages") if not name.startswith(".")]  # .DS_Store and the like
        others = ("stages", FOLDER, SAME_CODE)
        self.sweeps = [name for name in store.names() if name not in others and not name.startswith(".")]
        self.results: dict[str, dict[str, Any]] = {}
        self.states: dict[str, State] = {}

    @property
    def steps(self) -> int:
        """How many of `faults` there are to come, stages and sweeps, as far as a progress bar is concerned."""
        return len(self.keys) + len(self.sweeps)

    def faults(self, step: Callable[[int], None] = lambda count: None) -> Iterator[Fault]:
        """All that is wrong; `step` hears of each stage and sweep that was looked at."""
        self.states = self.store.states(self.files)
        with ThreadPoolExecutor(1 if self.store.is_local else AT_ONCE, "checking") as pool:
            for faults in pool.map(lambda key: list(self._stage(key)), self.keys):
                yield from faults
                step(1)
        for name in self.sweeps:
            yield from self._sweep(name)
            step(1)
        yield from self._weights()
        said = self.store.read(SAME_CODE)
        if said is not None and not is_same_code(said):
            yield Fault(SAME_CODE, "is damaged", "remove it, and say --same-code again where it is so")

    def _weights(self) -> Iterator[Fault]:
        """What trials start from: read only when all is."""
        for file in self.store.files(FOLDER) if self.deep else ():
            weights = file.path[-1].removesuffix(".safetensors")
            if len(file.path) == 2 and HASH.fullmatch(weights):
                data = self.store.read(*file.path)
                if data is None or not is_whole(data, weights):
                    yield Fault("/".join(file.path), "is damaged, or other weights than its name says", SUPPLIED)

    # --- stages

    def _stage(self, key: str) -> Iterator[Fault]:
        place = f"stages/{key}"
        if not KEY.fullmatch(key):
            if ".damaged-" not in key:
                yield Fault(place, "is no stage's name", "nothing reads it")
            return
        if key not in self.files:
            yield Fault(place, "is no folder, or an empty one", "it is set aside when the stage runs")
            return
        spec = self.store.read("stages", key, "spec.json")
        stage = _stage_of(spec)
        if spec is not None and (stage is None or stage.key != key):
            yield Fault(f"{place}/spec.json", "is damaged" if stage is None else f"is that of {stage.key}", HARMLESS)
        yield from self._outcome(key, stage if stage is not None and stage.key == key else None)
        yield from self._notes(key)
        if self.deep:
            yield from self._checkpoints(key)

    def _outcome(self, key: str, stage: Stage | None) -> Iterator[Fault]:
        if self.states[key] is State.DAMAGED:
            yield Fault(f"stages/{key}/{RESULT}", "is damaged, or another stage's", COMPUTED)
        elif self.states[key] is State.DONE:
            result = self.store.result(key)
            if result is not None:
                self.results[key] = result
                yield from self._published(key, result)
                if stage is not None and stage.parent and self.states.get(stage.parent.key) is not State.DONE:
                    problem = f"starts from {stage.parent.key}, which has no whole result"
                    yield Fault(f"stages/{key}", problem, "it counts as not done; the next run computes that one again")

    def _published(self, key: str, result: Mapping[str, Any]) -> Iterator[Fault]:
        """Curves are read always; what is large only when all is."""
        missing = set(self.store.missing(key, self.files[key]))
        for name in result["files"]:
            try:
                if name in missing:
                    raise Damaged(key, "is missing")
                if self.deep or name.endswith(".parquet"):
                    data = self.store.read_published(key, name)
                    if name.endswith(".safetensors"):
                        safetensors.deserialize(data)  # type: ignore[no-untyped-call]
            except Damaged:
                yield Fault(f"stages/{key}/{name}", "is missing, or damaged", _remedy(name, result))
            except safetensors.SafetensorError as error:
                yield Fault(f"stages/{key}/{name}", f"cannot be opened: {error}", _remedy(name, result))

    def _notes(self, key: str) -> Iterator[Fault]:
        names = sorted(filter(is_note, self.files[key]))
        paths = [("stages", key, *name.split("/")) for name in names]
        for path, data in zip(paths, self.store.read_many(paths), strict=True):
            if data is not None and not intact(data):
                yield Fault("/".join(path), "is damaged", "it counts as an attempt of which nothing is known")

    def _checkpoints(self, key: str) -> Iterator[Fault]:
        for name in CHECKPOINTS:
            data = self.store.read("stages", key, name) if name in self.files[key] else None
            if data is not None and not intact(data):
                yield Fault(f"stages/{key}/{name}", "is damaged", PASSED_OVER)

    # --- sweeps

    def _sweep(self, name: str) -> Iterator[Fault]:
        names = self.store.names(name)
        if not {RECORD, *(f"{table}.parquet" for table in TABLES)} & set(names):
            return  # somebody's own files
        tables: dict[str, pa.Table] = {}
        for table in (table for table in TABLES if f"{table}.parquet" in names):
            try:
                tables[table] = self._table(name, table)
            except (ValueError, OSError) as error:
                yield Fault(f"{name}/{table}.parquet", str(error).partition("\n")[0], WRITTEN)
        yield from self._rows(name, tables)
        if RECORD in names and (problem := self._record_problem(name)):
            yield Fault(f"{name}/{RECORD}", problem, "running the sweep's file writes it again")

    def _record_problem(self, name: str) -> str | None:
        data = self.store.read(name, RECORD)
        try:
            if data is None or recall(name, self.store) is None:
                return "is no file"
            of = unsealed_json(data).get("name", name)
        except UserError:
            return "is damaged"
        return None if of == name else f"is that of the sweep {of!a:.100}"

    def _table(self, sweep: str, name: str) -> pa.Table:
        data = self.store.read(sweep, f"{name}.parquet")
        if data is None:
            raise ValueError("is no file")
        table = unsealed_table(data, name)
        of = described(table.schema).get("sweep", sweep)
        if of != sweep:
            raise ValueError(f"is of the sweep {of}")
        return table

    def _rows(self, sweep: str, tables: Mapping[str, pa.Table]) -> Iterator[Fault]:
        """Tables against the stages: a row's numbers are its last stage's."""
        if "trials" not in tables:
            return
        place = f"{sweep}/trials.parquet"
        rows = tables["trials"].to_pylist()
        for row in rows:
            if lacking := [key for key in row.get("stage_keys") or () if self.states.get(key) is not State.DONE]:
                problem = f"has trial {row['trial']}, whose stage {lacking[0]} has no whole result"
                yield Fault(place, problem, "the next run computes that again")
            elif differing := self._differing(row):
                yield Fault(place, f"has another {differing} of trial {row['trial']} than its stage", WRITTEN)
        trials = {row["trial"] for row in rows}
        for name in ("curves", "layers", "classes"):  # classes are of tasks that have some
            extra = set(tables[name]["trial"].to_pylist()) ^ trials if name in tables else set()
            if extra - (trials if name == "classes" else set()):
                yield Fault(f"{sweep}/{name}.parquet", f"has not the trials of trials.parquet: {min(extra)}", WRITTEN)

    def _differing(self, row: Mapping[str, Any]) -> str | None:
        keys: Sequence[str] = row.get("stage_keys") or ()
        metrics: Mapping[str, Any] = self.results[keys[-1]]["metrics"] if keys and keys[-1] in self.results else {}
        return next((name for name, value in metrics.items() if name in row and row[name] != value), None)


def _stage_of(spec: bytes | None) -> Stage | None:
    try:
        return decode_stage(json.loads(spec or b""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _remedy(name: str, result: Mapping[str, Any]) -> str:
    if STATE in result["files"]:
        return CONTINUED
    if name.endswith(".parquet"):
        return COMPUTED
    return "the stage is computed again when one starts from it, or it is exported"
