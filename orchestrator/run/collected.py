"""Whether a finished sweep's tables are as they would be written again, so that nothing has to be read for them.

What they are written of is what the sweep asks, this code's columns, and the results and curves of the stages of every
finished trial. Where anything differs from what the index (`orchestrator.index`) says, or the index is missing or
damaged, all is read and the tables are written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from prunesweep.orchestrator.index import Index, line, parsed, read_index, write_index
from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.schemas import CLASSES, CURVES, LAYERS, TRIALS
from prunesweep.orchestrator.run.tuning import tuning
from prunesweep.workers.spec import path
from prunesweep.workers.store import RESULT, State, Store

VERSION = 3
"""Raised when the same results make other rows."""

TABLES = ("trials", "curves", "layers", "classes")


def is_current(plan: Plan, store: Store) -> bool:
    """Whether the tables hold what the store had of this plan when its states were looked up.

    The tables are read whole: one may be damaged.
    """
    index = read_index(plan.sweep.name, store)
    trials = [trial.key for trial in plan.sweep.trials if plan.states[plan.last[trial.key]] is State.DONE]
    if index.of != _answered(plan, trials) or not all(is_as_noted(key, index, store) for key in _stages(plan, trials)):
        return False
    return index.tables == checksums(plan, store)


def tables_of(plan: Plan) -> tuple[str, ...]:
    """The tables of a sweep: one more where it has searches."""
    return (*TABLES, "candidates") if plan.decisions else TABLES


def checksums(plan: Plan, store: Store) -> dict[str, str]:
    """Of the tables that are there now."""
    names = tables_of(plan)
    files = store.read_many((plan.sweep.name, f"{name}.parquet") for name in names)
    return {name: checksum(data or b"") for name, data in zip(names, files, strict=True)}


def note(plan: Plan, trials: Iterable[str], tables: Mapping[str, str], store: Store) -> None:
    """The tables that were just written, with these checksums, hold these trials; of stages is noted what was read."""
    files = {key: line(stamps) for key in plan.stages if (stamps := store.whole(key))}
    write_index(Index(_answered(plan, trials), made_by(), files, tables), plan.sweep.name, store)


def checksum(table: bytes) -> str:
    """Of a table's file."""
    return hashlib.sha256(table).hexdigest()


def _answered(plan: Plan, trials: Iterable[str]) -> str:
    """A digest of what the sweep asks, of the columns, and of the trials that have rows."""
    trials = list(trials)
    by_trial = tuning(plan)
    searched = [[decision.search.key, [step.scores for step in decision.rounds]] for decision in plan.decisions]
    tuned = [by_trial[key] for key in trials if key in by_trial]
    inits = [str(trial.init) for trial in plan.sweep.trials if trial.init is not None]  # of which keys lack the name
    asked = [plan.sweep.name, plan.last, trials, inits, *([tuned, searched] if plan.decisions else [])]
    return hashlib.sha256(json.dumps([made_by(), asked]).encode()).hexdigest()


def made_by() -> str:
    """A digest of this code's columns: tables with another were made by another version."""
    columns = [str(schema.remove_metadata()) for schema in (TRIALS, CURVES, LAYERS, CLASSES)]
    return hashlib.sha256(json.dumps([VERSION, columns]).encode()).hexdigest()


def _stages(plan: Plan, trials: Iterable[str]) -> set[str]:
    return {stage.key for trial in trials for stage in path(plan.stages[plan.last[trial]])}


def is_as_noted(key: str, index: Index, store: Store) -> bool:
    """Whether a stage's result and curve are those that were read."""
    noted, seen = parsed(index.files.get(key, "")), store.seen(key)
    return RESULT in noted and len(noted) > 1 and all(seen.get(name) == stamp for name, stamp in noted.items())
