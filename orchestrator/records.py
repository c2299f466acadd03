"""What a store remembers of the sweeps that were run: a record each, by name, beside the sweep's tables.

With it `resume`, `status` and `gc` know a sweep without its file. Imports neither torch nor Ray.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.provenance import provenance
from prunesweep.orchestrator.resources import Shares
from prunesweep.orchestrator.sweepfile.grammar import NAME
from prunesweep.orchestrator.sweepfile.read import Sweep
from prunesweep.workers.errors import UserError, nearest
from prunesweep.workers.seal import intact, sealed_json
from prunesweep.workers.spec import decode_trial, encode
from prunesweep.workers.store import Store

RECORD = "sweep.json"
"""The file of a record, in the sweep's folder of the store."""


def remember(sweep: Sweep, store: Store) -> None:
    """Write the record of a sweep that is about to run, over the one of its name that was run before.

    Raises `UserError` when the two share no trial: then they are two questions, and the name belongs to the other.
    """
    try:
        before = recall(sweep.name, store)
    except UserError:  # the record is damaged, and this sweep is what it should say
        before = None
        store.set_file_aside(sweep.name, RECORD)
    trial_keys = {trial.key for trial in sweep.trials}
    if before is not None and trial_keys.isdisjoint(trial.key for trial in before.trials):
        raise UserError(
            f"{store.path(sweep.name)} holds another sweep of that name, from {before.path}, which shares no trial "
            f"with {sweep.path}: give this one another `name:`, or choose another --store"
        )
    record = {
        "name": sweep.name,
        "path": str(sweep.path.absolute()),
        "text": sweep.text,
        "duplicates": sweep.duplicates,
        "resources": sweep.resources.given,
        "trials": [encode(trial) for trial in sweep.trials],
        "provenance": asdict(provenance(Path.cwd())),
    }
    store.write(sealed_json(record), sweep.name, RECORD)


def recall(name: str, store: Store) -> Sweep | None:
    """The sweep that was last run under a name, None when there is none; raises `UserError` when it is damaged."""
    saved = store.read(name, RECORD) if re.fullmatch(NAME, name) else None
    if saved is None:
        return None
    try:
        return _sweep(name, json.loads(saved if intact(saved) else b""))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{store.path(name, RECORD)} is damaged, or of another version of prunesweep; run the sweep's file again, "
            "which sets it aside"
        ) from error


def _sweep(name: str, record: Mapping[str, Any]) -> Sweep:
    """The sweep of a record. Its name is that of the folder, whatever the record says: tables are written there."""
    return Sweep(
        name=name,
        trials=tuple(decode_trial(trial) for trial in record["trials"]),
        duplicates=record["duplicates"],
        resources=Shares(record["resources"]),
        text=record["text"],
        path=Path(record["path"]),
    )


def known(store: Store) -> list[str]:
    """The names of the sweeps that the store remembers."""
    names = (name for name in store.names() if name != "stages" and not name.startswith("."))
    return [name for name in names if store.read(name, RECORD) is not None]


def require(name: str, store: Store) -> Sweep:
    """The sweep of that name; a `UserError` lists what there is."""
    sweep = recall(name, store)
    if sweep is None:
        names = known(store)
        choice = f"it knows {', '.join(names)}{nearest(name, names)}" if names else "run one with: prunesweep run FILE"
        raise UserError(f'the store {store.location} has no sweep "{name}": {choice}')
    return sweep
