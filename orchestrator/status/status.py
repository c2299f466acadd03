"""What of a sweep has failed, and what has begun and is not finished: as values, for `status` and the end of a run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunesweep.orchestrator.labels import labels
from prunesweep.orchestrator.plan import Plan
from prunesweep.workers.activity import Activity
from prunesweep.workers.causes import Cause
from prunesweep.workers.claims import BEAT_SECONDS, Claim, newest, this_machine
from prunesweep.workers.store import Attempt, State, Store

Seen = Mapping[str, Claim | None]
"""By stage: the claims of those that live; None where another machine has one and gave no sign of life."""

RUNNING, INTERRUPTED, SILENT = "running", "interrupted", "no sign of life"

LOOKS = (BEAT_SECONDS + 0.5, 2 * BEAT_SECONDS + 0.5)
"""Seconds after the first look at the claims of other machines: at those that are unchanged, and once more at those
that still are. A heartbeat may come late where the store is slow."""


@dataclass(frozen=True)
class FailedStage:
    """A stage whose last attempt failed; `blocks` stages wait for it."""

    stage: str
    label: str
    blocks: int
    attempt: Attempt

    @property
    def cause(self) -> str:
        """Why, in a word or two: a `Cause`."""
        return self.attempt.cause or Cause.INTERNAL


@dataclass(frozen=True)
class Unfinished:
    """A stage that has begun and has neither a result nor a failure: it runs now, or was interrupted.

    `state` is `running`, `interrupted`, or `no sign of life` where another machine has it and was not heard of.
    `began_at` and `host` are None where no attempt is noted, `checkpoint` (epochs) where there is no checkpoint.
    `doing` is what its process said last, None unless it runs.
    """

    stage: str
    label: str
    state: str
    began_at: str | None
    host: str | None
    checkpoint: int | None
    epochs: int
    doing: Activity | None = None

    @property
    def epochs_left(self) -> int:
        """Of a stage that runs, by what it says; else what a run that continues it would have to do."""
        reached = self.doing.epoch if self.doing else None
        return self.epochs - (reached if reached is not None else self.checkpoint or 0)


def failures(plan: Plan, store: Store) -> list[FailedStage]:
    """The failed stages, those first that block the most others."""
    keys = [key for key, state in plan.states.items() if state is State.FAILED]
    blocks, names = Counter(plan.blocked.values()), labels(plan.stages, keys)
    keys.sort(key=lambda key: -blocks[key])
    last = zip(keys, store.last_attempts(keys), strict=True)
    return [FailedStage(key, names[key], blocks[key], attempt) for key, attempt in last if attempt]


def unfinished(plan: Plan, store: Store, seen: Seen | None = None) -> list[Unfinished]:
    """The stages that have begun, in the plan's order; without `seen` their claims are looked at, once."""
    keys = _begun([plan])
    names, seen = labels(plan.stages, keys), _claims(keys, store) if seen is None else seen
    last = dict(zip(keys, store.last_attempts(keys), strict=True))
    kept = dict(zip(keys, store.at_once(store.checkpointed_epochs, keys), strict=True))
    return [_unfinished(key, names[key], plan.stages[key].epochs, last[key], kept[key], seen) for key in keys]


def _unfinished(key: str, name: str, epochs: int, last: Attempt | None, kept: int | None, seen: Seen) -> Unfinished:
    claim = seen.get(key)
    began_at, host = (last.started_at or None, last.host or None) if last else (None, None)
    state = INTERRUPTED if key not in seen else SILENT if claim is None else RUNNING
    doing = claim.doing if claim else None
    return Unfinished(key, name, state, began_at, host, kept, epochs, doing)


# --- who runs what


def look(plans: Sequence[Plan], store: Store) -> tuple[Sequence[Plan], Seen]:
    """The claims on stages that have begun, and the plans as they stand then.

    Whether a process of this machine lives is known; what other machines claim is watched for a renewal, all together
    for less than five seconds.
    """
    keys = _begun(plans)
    seen = _watched(_claims(keys, store), store)
    ended = [key for key in keys if key not in seen]
    if any(state is not State.STARTED for state in store.states(ended).values()):
        plans = [plan.refreshed(store) for plan in plans]
        seen |= _claims([key for key in _begun(plans) if key not in keys], store)
    return plans, seen


def _begun(plans: Iterable[Plan]) -> list[str]:
    return list(dict.fromkeys(k for plan in plans for k, state in plan.states.items() if state is State.STARTED))


def _watched(first: Mapping[str, Claim | None], store: Store) -> dict[str, Claim | None]:
    """The claims after a while: None of those that were not renewed, and nothing of those that were given up."""
    begun, seen = time.monotonic(), dict(first)
    silent = [key for key, claim in first.items() if claim and (not claim.machine or claim.machine != this_machine())]
    for seconds in LOOKS:
        if silent:
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
            now = _claims(silent, store)
            seen = {key: now.get(key) if key in silent else claim for key, claim in seen.items()}
            seen = {key: claim for key, claim in seen.items() if claim}
            silent = [key for key in silent if key in seen and seen[key] == first[key]]
    return {key: None if key in silent else claim for key, claim in seen.items()}


def _claims(keys: Sequence[str], store: Store) -> dict[str, Claim | None]:
    """Those of processes that may live; a remote store is asked for many at once."""
    claims = store.at_once(lambda key: newest(store, key)[1], keys)
    return {key: claim for key, claim in zip(keys, claims, strict=True) if claim and not claim.orphaned}
