"""Versions of one's own code and images: named when a sweep is planned, compared with those that were run before.

Imports neither torch nor Ray.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from prunesweep.orchestrator.records import read_records
from prunesweep.orchestrator.sweepfile.read import Sweep
from prunesweep.orchestrator.text import counted
from prunesweep.workers.choices import chosen
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import SAME_CODE, file_of, fingerprinted, parts, same_code, without_fingerprints
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store


@dataclass(frozen=True)
class Change:
    """Trials that were run with another version: of which dataset, model, method or task, and of what of it.

    `part` is `code` or `content`; `before` and `now` are its hashes, "" from before versions were named.
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
    count = len(sweep.trials)
    searches = (replace(search, base=base) for search, base in zip(sweep.searches, trials[count:], strict=True))
    return replace(sweep, trials=tuple(trials[:count]), searches=tuple(searches))


def changes(sweep: Sweep, store: Store) -> list[Change]:
    """What has changed since trials of this sweep were last run in the store, under any name."""
    if not any(choice.fingerprint for trial in sweep.exemplars for choice in chosen(trial).values()):
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
    if images := [change for change in differing if change.part == "content"]:
        raise UserError(f"--same-code is for code, but the images of {images[0].name} have changed; run without it")
    accepted = {change.now: change.before for change in differing}
    if accepted:
        store.write(json.dumps({**same_code(store), **accepted}, indent=1).encode(), SAME_CODE)
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
        verb = "has" if change.part == "code" else "have"
        if change.before:
            versions = f"{change.before[:8]} before, {change.now[:8]} now"
            trials = f"{counted(change.trials, 'trial')} {_are(change)} of another version"
            yield f"{what} {verb} changed: {trials} ({versions})"
        else:
            yield f"{counted(change.trials, 'trial')} from before the version of {what} was named {_are(change)} kept"
    if any(change.part == "code" for change in differing):
        yield "what is listed as new is trained; if the change moves no number (a name, a comment), give --same-code"


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
