"""Versions of one's own code and images: named when a sweep is planned, compared with those that were run before.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from prunesweep.orchestrator.forest import forest
from prunesweep.orchestrator.records import read_records, require
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.document import listed
from prunesweep.orchestrator.sweepfile.matching import require_matching
from prunesweep.orchestrator.text import counted
from prunesweep.workers.choices import chosen
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import (
    file_of,
    fingerprinted,
    note_same_code,
    parts,
    same_code,
    without_fingerprints,
)
from prunesweep.workers.init.resolving import Weights
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store


@dataclass(frozen=True)
class Change:
    """Trials that were run with another version: of which dataset, model, method or task, and of what of it.

    `part` is `code`, `content` or `weights`; `before` and `now` are its hashes, "" from before versions were named.
    """

    kind: str
    name: str
    part: str
    before: str
    now: str
    trials: int


def versioned(sweep: Sweep, store: Store, data_folder: str | None = None) -> Sweep:
    """The sweep with the versions of the code and the images that are here; raises `UserError` where they are not."""
    folder = data_folder or os.environ.get("PRUNESWEEP_DATA") or "data"
    trials = fingerprinted(sweep.exemplars, folder, same_code(store))
    if any(trial.init is not None for trial in trials):
        weights = Weights(folder, store, partial(_stage_of, store=store))
        trials = _with_hashes(sweep, trials, weights)
        sweep = replace(sweep, supplies={**sweep.supplies, **weights.supplies}, starts=tuple(weights.starts))
    require_matching(sweep, trials, folder)
    count = len(sweep.trials)
    distinct = tuple(dict.fromkeys(trials[:count]))
    searches = (replace(search, base=base) for search, base in zip(sweep.searches, trials[count:], strict=True))
    duplicates = sweep.duplicates + count - len(distinct)
    return replace(sweep, trials=distinct, duplicates=duplicates, searches=tuple(searches))


def _with_hashes(sweep: Sweep, trials: list[TrialSpec], weights: Weights) -> list[TrialSpec]:
    """The trials with the hashes of the weights that they start from; raises `UserError` with their places."""
    problems: dict[str, None] = {}
    hashed: list[TrialSpec] = []
    for trial in trials:
        try:
            hashed.append(weights.resolved(trial))
        except UserError as error:
            assert trial.init is not None
            problems[f"{sweep.places.get(trial.init.weights, f'{sweep.path}: init')}: {error}"] = None
    if problems:
        raise listed(problems)
    return hashed


def _stage_of(name: str, prefix: str, *, store: Store) -> tuple[str, str]:
    """The key of a trial of the store that begins so, and its last stage's; raises `UserError`."""
    sweep = require(name, store)
    keys = [trial.key for trial in sweep.trials if trial.key.startswith(prefix)]
    if len(keys) != 1:
        count = f"{len(keys)} trials of {name}, give more of it" if keys else f"no trial of {name}"
        raise UserError(f"trial: {prefix} begins the key of {count}; the column `trial` of its results has the keys")
    _, last = forest(sweep)
    return keys[0], last[keys[0]]


def changes(sweep: Sweep, store: Store) -> list[Change]:
    """What has changed since trials of this sweep were last run in the store, under any name."""
    if not any(map(_has_version, sweep.exemplars)):
        return []
    keys = {trial.key for trial in sweep.trials}
    run_before = [(without_fingerprints(trial), trial) for trial in _run_before(store)]
    before = {asked: trial for asked, trial in run_before if trial.key not in keys}
    same = {asked for asked, trial in run_before if trial.key in keys}
    counts: Counter[tuple[str, str, str, str, str]] = Counter()
    for trial in sweep.trials:
        asked = without_fingerprints(trial)
        if asked in before and asked not in same:
            counts.update(_differences(before[asked], trial))
    return [Change(*change, trials) for change, trials in counts.items()]


def accept(sweep: Sweep, store: Store, data_folder: str | None = None) -> Sweep:
    """Take the code that is here for the version that the sweep was last run with; returns the sweep with that.

    Raises `UserError` where it has not been run, or its images have changed, which are never the same.
    """
    differing = changes(sweep, store)
    if others := [change for change in differing if change.part != "code"]:
        what = f"the {'images of' if others[0].part == 'content' else 'weights'} {others[0].name}"
        raise UserError(f"--same-code is for code, but {what} have changed; run without it")
    accepted = {change.now: change.before for change in differing}
    if accepted:
        note_same_code(accepted, store)
    searches = tuple(replace(search, base=without_fingerprints(search.base)) for search in sweep.searches)
    bare = replace(sweep, trials=tuple(map(without_fingerprints, sweep.trials)), searches=searches)
    return versioned(bare, store, data_folder)


def lines(differing: list[Change]) -> Iterator[str]:
    """The changes for people, a line each, and what to do."""
    for change in differing:
        what = (
            f"your {change.kind} file {file_of(change.kind, change.name)}"
            if change.part == "code"
            else (f"the images of {change.name}")
        )
        what = f"the weights {change.name}" if change.part == "weights" else what
        verb = "has" if change.part == "code" else "have"
        if change.before:
            versions = f"{change.before[:8]} before, {change.now[:8]} now"
            trials = f"{counted(change.trials, 'trial')} {_are(change)} of another version"
            yield f"{what} {verb} changed: {trials} ({versions})"
        else:
            yield f"{counted(change.trials, 'trial')} from before the version of {what} was named {_are(change)} kept"
    if any(change.part == "code" for change in differing):
        yield "what is listed as new is trained; if the change moves no number (a name, a comment), give --same-code"


def _has_version(trial: TrialSpec) -> bool:
    return trial.init is not None or any(choice.fingerprint for choice in chosen(trial).values())


def _are(change: Change) -> str:
    return "is" if change.trials == 1 else "are"


def _run_before(store: Store) -> Iterator[TrialSpec]:
    for sweep in read_records(store):
        if isinstance(sweep, Sweep):  # of a damaged record its own run says that it is
            yield from sweep.trials


def _differences(before: TrialSpec, now: TrialSpec) -> Iterator[tuple[str, str, str, str, str]]:
    choices = chosen(now)
    for kind in choices:
        earlier, later = (parts(chosen(trial)[kind].fingerprint) for trial in (before, now))
        for part in ("code", "content"):
            if earlier.get(part) != later.get(part):
                yield kind, choices[kind].name, part, earlier.get(part, ""), later.get(part, "")
    if before.init and now.init and before.init != now.init:
        yield "init", now.init.source, "weights", before.init.weights, now.init.weights
