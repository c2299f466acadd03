"""What a store remembers of the sweeps that were run: a record each, by name, beside the sweep's tables.

With it `resume`, `status` and `gc` know a sweep without its file. Imports neither torch nor Ray.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.provenance import provenance
from prunesweep.orchestrator.resources import Resources, Shares
from prunesweep.orchestrator.search.decoding import decode_search
from prunesweep.orchestrator.sweep import NAME, About, Sweep
from prunesweep.orchestrator.sweepfile.document import SUFFIXES
from prunesweep.orchestrator.text import counted
from prunesweep.workers.decoding import decode_stage, decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError, nearest
from prunesweep.workers.fingerprints import without_fingerprints
from prunesweep.workers.location import Location
from prunesweep.workers.methods import METHODS, last_stage
from prunesweep.workers.seal import intact, sealed_long_json, unsealed_json
from prunesweep.workers.spec import Choice, Stage, TrainSpec, TrialSpec
from prunesweep.workers.store import Store
from prunesweep.workers.trust import choices_of_stage, choices_of_trials, require_trusted
from prunesweep.workers.typed import typed

RECORD = "sweep.json"
"""The file of a record, in the sweep's folder of the store."""

TYPES: Mapping[str, Any] = {
    "path": str,
    "text": str,
    "duplicates": int,
    "resources": Mapping,
    "trials": list,
    "provenance": Mapping,
}

PROVENANCE: Mapping[str, Any] = {"commit": str | None, "difference": str, "packages": Mapping}
"""What a record is made of, and what of it says where the code came from."""

STAGES = "stages"
"""In a record: the last stages of trials with methods that are not prunesweep's, so that it is read without them."""

SEARCHES = "searches"
"""In a record: what the sweep searches for; what was decided is not, since its results say it."""


def remember(sweep: Sweep, store: Store) -> None:
    """Write the record of a sweep that is about to run, unless the one that was run before says the same.

    Raises `UserError` when the two share no trial: then they are two questions, and the name belongs to the other.
    """
    record = {
        "name": sweep.name,
        "path": str(sweep.path.absolute()),
        "text": sweep.text,
        "duplicates": sweep.duplicates,
        "resources": sweep.resources.given,
        "about": asdict(sweep.about),
        "trials": map(encode, sweep.trials),
        "provenance": asdict(provenance(Path.cwd())),
        **({SEARCHES: [encode(search) for search in sweep.searches]} if sweep.searches else {}),
        STAGES: {key: encode(stage) for key, stage in _stages_of_others(sweep).items()},
    }
    data, saved = sealed_long_json(record), store.read(sweep.name, RECORD)
    if data != saved:
        _require_same_question(sweep, saved, store)
        store.write(data, sweep.name, RECORD)


def _require_same_question(sweep: Sweep, saved: bytes | None, store: Store) -> None:
    try:
        before = _recalled(sweep.name, saved, store)
    except UserError:  # the record is damaged, and this sweep is what it should say
        before = None
        store.set_file_aside(sweep.name, RECORD)
    if before is not None and _asked(sweep).isdisjoint(_asked(before)):
        if (of := unsealed_json(saved or b"").get("name", sweep.name)) != sweep.name:
            raise UserError(
                f"{store.path(sweep.name, RECORD)} is the record of {of!a:.100}, in the wrong folder: move it to where "
                "it belongs, or remove it"
            )
        raise UserError(
            f"{store.path(sweep.name)} holds another sweep of that name, from {before.path}, which shares no trial "
            f"with {sweep.path}: give this one another `name:`, or choose another --store"
        )


def _asked(sweep: Sweep) -> set[TrialSpec]:
    """What it asks for, whatever the version of one's own code; of a search where it begins."""
    searched = (replace(search.base, train=TrainSpec(), seed=0) for search in sweep.searches)
    bases = (replace(base, method=Choice.of(base.method.name)) for base in searched)
    return set(map(without_fingerprints, chain(sweep.trials, bases)))


def leaving(sweep: Sweep, store: Store) -> Iterator[str]:
    """A sentence when trials of the sweep that was last run under this name are not in this one.

    They leave the tables of that name; their stages stay in the store until `gc`.
    """
    with suppress(UserError):  # it is damaged, and is set aside
        before = recall(sweep.name, store)
        now = {without_fingerprints(trial) for trial in sweep.trials}
        lost = len({without_fingerprints(trial) for trial in before.trials} - now) if before else 0
        if before and lost:
            yield (
                f"{counted(lost, 'trial')} of {before.path}, which was last run as {sweep.name}, "
                f"leave{'s' * (lost == 1)} its tables; to keep both sweeps, give one another `name:`"
            )


def has_changed(sweep: Sweep) -> bool:
    """Whether the file of a remembered sweep is there and says something else than when it was run."""
    try:
        is_one = sweep.path.suffix in SUFFIXES and sweep.path.is_file()  # the store may name anything, a pipe for one
        return is_one and sweep.path.read_text(encoding="utf-8-sig") != sweep.text
    except (OSError, ValueError):
        return False


def recall(name: str, store: Store) -> Sweep | None:
    """The sweep that was last run under a name, None when there is none; raises `UserError` when it is damaged."""
    return _recalled(name, store.read(name, RECORD) if re.fullmatch(NAME, name) else None, store)


def is_remembered(name: str, store: Store) -> bool:
    """Whether there is a whole record of a sweep of that name; its trials, which may be many, are not looked at."""
    saved = store.read(name, RECORD) if re.fullmatch(NAME, name) else None
    return saved is not None and intact(saved)


def _recalled(name: str, saved: bytes | None, store: Store) -> Sweep | None:
    if saved is None:
        return None
    try:
        return _sweep(name, json.loads(saved if intact(saved) else b""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{store.path(name, RECORD)} is damaged, or of another version of prunesweep; run the sweep's file again, "
            "which sets it aside"
        ) from error


def _sweep(name: str, record: Mapping[str, Any]) -> Sweep:
    """The sweep of a record. Its name is that of the folder, whatever the record says: tables are written there."""
    _check_types(record)
    return Sweep(
        name=name,
        trials=tuple(decode_trial(trial) for trial in record["trials"]),
        duplicates=record["duplicates"],
        resources=_shares(record["resources"]),
        text=record["text"],
        path=Path(record["path"]),
        recorded={key: decode_stage(stage) for key, stage in record.get(STAGES, {}).items()},
        about=_about(record.get("about", {})),
        searches=tuple(decode_search(search) for search in record.get(SEARCHES, ())),
    )


def _check_types(record: Mapping[str, Any]) -> None:
    """Raise `TypeError` unless the fields of a record are what `remember` writes."""
    for field, kind in TYPES.items():
        if not isinstance(record[field], kind):
            raise TypeError(f"its {field} is a {type(record[field]).__name__}")
    if not all(isinstance(record["provenance"].get(part), kind) for part, kind in PROVENANCE.items()):
        raise TypeError("its provenance is none")


def _stages_of_others(sweep: Sweep) -> Mapping[str, Stage]:
    """Of trials whose method is another package's: what it asks for, which only its code knows."""
    if sweep.recorded is not None:
        return sweep.recorded
    others = (trial for trial in sweep.trials if trial.method.name not in METHODS)
    return {trial.key: last_stage(trial) for trial in others}


def require_own_code(sweep: Sweep, allowed: Sequence[str] = ()) -> None:
    """Raise `UserError` when training a remembered sweep would import code that the store may not have imported.

    `allowed` are modules that the user trusts (`workers.trust`). A sweep that is read from a file is its own author's.
    """
    if sweep.recorded is not None:
        who = f"the store's record of {sweep.name}"
        choices = chain(choices_of_trials(sweep.exemplars), *map(choices_of_stage, sweep.recorded.values()))
        require_trusted(choices, who, allowed, f"run the sweep's file ({sweep.path})")


def _shares(given: Mapping[str, Any]) -> Shares:
    """The resources of a record; raises `TypeError` where they are none."""
    shares = Shares(given)
    typed(Resources, {name: value for name, value in given.items() if name != "for"})
    for rule in shares.rules:
        typed(Resources, rule.given)
    return shares


def _about(record: Mapping[str, Any]) -> About:
    """A record that was made before sweeps had titles has none."""
    authors = tuple(map(str, record.get("authors", ())))
    return About(str(record.get("title", "")), authors, str(record.get("notes", "")))


def known(store: Store) -> list[str]:
    """The names of the sweeps that the store remembers."""
    names = [name for name in store.names() if name != "stages" and not name.startswith(".")]
    have_records = store.are_files((name, RECORD) for name in names)
    return [name for name, has_record in zip(names, have_records, strict=True) if has_record]


def read_records(store: Store) -> list[Sweep | UserError]:
    """All sweeps of the store, read many at once; in the place of one whose record is damaged what is to be said."""

    def read(name: str) -> Sweep | UserError:
        try:
            return require(name, store)
        except UserError as error:
            return error

    return store.at_once(read, known(store))


def require(name: str, store: Store) -> Sweep:
    """The sweep of that name; a `UserError` lists what there is."""
    sweep = recall(name, store)
    if sweep is None:
        names = known(store)
        if name in names:
            raise UserError(f"{store.path(name)} has a record, and no sweep has such a name: remove it if it is a copy")
        choice = f"it knows {', '.join(names)}{nearest(name, names)}" if names else "run one with: prunesweep run FILE"
        raise UserError(f'the store {store.location} has no sweep "{Location(name)}": {choice}')
    return sweep
