"""Whether a finished sweep's tables are as they would be written again, so that nothing has to be read for them.

    <store>/<sweep>/collected.json     of what they were written: a digest; and the checksums of the tables

What they are written of is what the sweep asks, this code's columns, and of every finished stage the size and time of
its result and curve. Where anything differs, or this file is missing or damaged, all is read and the tables are
written.
"""

from __future__ import annotations

import hashlib
import json

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.schemas import CURVES, LAYERS, TRIALS
from prunesweep.workers.listing import Listing, Stamp, listed
from prunesweep.workers.seal import intact, sealed_json, unsealed_json
from prunesweep.workers.store import RESULT, State, Store

INDEX = "collected.json"
VERSION = 1
"""Raised when the same results make other rows."""

TABLES = ("trials", "curves", "layers")


def is_current(plan: Plan, store: Store) -> bool:
    """Whether the tables hold what the store has of this plan. They are read whole: one may be damaged."""
    data = store.read(plan.sweep.name, INDEX)
    if data is None or not intact(data):
        return False
    noted = unsealed_json(data)
    return noted.get("of") == sources(plan, store) and noted.get("tables") == _sums(plan, store)


def note(sources_read: str, plan: Plan, store: Store) -> None:
    """The tables that were just written are of these `sources`, as they were before they were read."""
    store.write(sealed_json({"of": sources_read, "tables": _sums(plan, store)}), plan.sweep.name, INDEX)


def sources(plan: Plan, store: Store) -> str:
    """A digest of what the tables are made of; it reads no result."""
    keys = [key for key, state in plan.states.items() if state is State.DONE]
    files = {key: _stamps(listing or {}) for key, listing in listed(store, keys).items()}
    columns = [str(schema.remove_metadata()) for schema in (TRIALS, CURVES, LAYERS)]
    asked = [plan.sweep.name, [repr(trial) for trial in plan.sweep.trials], plan.last]
    return hashlib.sha256(json.dumps([VERSION, columns, asked, files]).encode()).hexdigest()


def _stamps(listing: Listing) -> list[tuple[str, Stamp]]:
    """Of the result and the curve, which on an object store may have a publication's name."""
    return sorted((name, stamp) for name, stamp in listing.items() if name == RESULT or name.startswith("curve."))


def _sums(plan: Plan, store: Store) -> list[str | None]:
    files = store.read_many((plan.sweep.name, f"{name}.parquet") for name in TABLES)
    return [None if data is None else hashlib.sha256(data).hexdigest() for data in files]
