"""Rows of the tables that were written before, where results are as they were: nothing is read for them again.

So a sweep that is continued or extended costs what is new in it, and three tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prunesweep.orchestrator.index import Index, read_index
from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.sealing import modest
from prunesweep.orchestrator.run.collected import TABLES, checksum, is_as_noted, made_by
from prunesweep.workers.spec import path
from prunesweep.workers.store import State, Store

Places = dict[str, tuple[int, int]]
"""By key the first of its rows, and how many there are."""


class Kept(NamedTuple):
    """The tables, and where in them is what can be kept: rows by trial, curves by stage, the others by last stage."""

    trials: pa.Table
    rows: Places
    curves: pa.Table
    curve_places: Places
    layers: pa.Table
    layer_places: Places
    classes: pa.Table
    class_places: Places


def kept(plan: Plan, store: Store, schema: pa.Schema) -> Kept | None:
    """What the tables have of the plan's finished trials; None where they are damaged, or of other columns."""
    index = read_index(plan.sweep.name, store)
    if index.by != made_by():
        return None
    files = store.read_many((plan.sweep.name, f"{name}.parquet") for name in TABLES)
    written = {name: index.tables.get(name) for name in TABLES}
    if written != {name: checksum(data or b"") for name, data in zip(TABLES, files, strict=True)}:
        return None
    try:
        return _kept(plan, store, index, schema, [modest(data or b"").read() for data in files])
    except (pa.ArrowException, KeyError, ValueError):  # whoever can write tables can note their sums
        return None


def _kept(plan: Plan, store: Store, index: Index, schema: pa.Schema, tables: Sequence[pa.Table]) -> Kept | None:
    trials, curves, layers, classes = tables
    rows = {trial: place for (trial,), place in _runs(trials, "trial")}
    last = dict(_unchanged(plan, store, index, rows))
    aligned = _aligned(trials, schema)
    if aligned is None:
        return None
    stages = {stage: (0, 0) for key in last.values() for stage in _path(plan, key)}
    stages |= {stage: place for (_, stage), place in _runs(curves, "trial", "stage") if stage in stages}
    of_last = (layers, _by_last(layers, last)), (classes, _by_last(classes, last))
    return Kept(aligned, {trial: rows[trial] for trial in last}, curves, stages, *of_last[0], *of_last[1])


def _by_last(table: pa.Table, last: Mapping[str, str]) -> Places:
    """Where the rows of each trial's last stage are, which some do not have."""
    places = dict.fromkeys(last.values(), (0, 0))
    return places | {last[trial]: place for (trial,), place in _runs(table, "trial") if trial in last}


def _unchanged(plan: Plan, store: Store, index: Index, rows: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Trials and their last stages, where all files of the path are those of which the tables were made."""
    for key, trials in plan.trials_of.items():
        done = plan.states[key] is State.DONE and all(trial.key in rows for trial in trials)
        if done and all(is_as_noted(stage, index, store) for stage in _path(plan, key)):
            yield from ((trial.key, key) for trial in trials)


def _path(plan: Plan, key: str) -> list[str]:
    return [stage.key for stage in path(plan.stages[key])]


def _runs(table: pa.Table, *columns: str) -> Iterator[tuple[tuple[str, ...], tuple[int, int]]]:
    """Rows that follow each other with the same values in these columns, with the first and how many there are."""
    if not len(table):
        return
    codes = [pc.dictionary_encode(table[name].combine_chunks()) for name in columns]
    changes = np.any([np.diff(code.indices.to_numpy()) != 0 for code in codes], axis=0)
    starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
    lengths = np.diff(np.append(starts, len(table)))
    values = zip(*(table[name].take(pa.array(starts)).to_pylist() for name in columns), strict=True)
    yield from zip(values, zip(starts.tolist(), lengths.tolist(), strict=True), strict=True)


def _aligned(trials: pa.Table, schema: pa.Schema) -> pa.Table | None:
    """The rows with the columns of a sweep that may have other methods; None where a column has another type."""
    known = {field.name: field.type for field in trials.schema}
    if any(known.get(field.name, field.type) != field.type for field in schema):
        return None
    columns = [trials[f.name] if f.name in known else pa.nulls(len(trials), f.type) for f in schema]
    return pa.table(columns, schema=schema)
