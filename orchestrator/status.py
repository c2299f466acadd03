"""What of a sweep has failed, and what has begun and is not finished: as values, for `status` and the end of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestrator.labels import labels
from orchestrator.plan import Plan
from workers.causes import Cause
from workers.claims import newest, this_machine
from workers.store import Attempt, State, Store


@dataclass(frozen=True)
class Failure:
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

    `state` is `running`, `interrupted`, or `claimed` where another machine has it, of which no more is known.
    `began_at` and `host` are None where no attempt is noted, `checkpoint` (epochs) where there is no checkpoint.
    """

    stage: str
    label: str
    state: str
    began_at: str | None
    host: str | None
    checkpoint: int | None
    epochs: int


def failures(plan: Plan, store: Store) -> list[Failure]:
    """The failed stages, those first that block the most others."""
    keys = [key for key, state in plan.states.items() if state is State.FAILED]
    blocks, names = Counter(plan.blocked.values()), labels(plan.stages, keys)
    keys.sort(key=lambda key: -blocks[key])
    return [Failure(key, names[key], blocks[key], store.attempts(key)[-1]) for key in keys]


def unfinished(plan: Plan, store: Store) -> list[Unfinished]:
    """The stages that have begun, in the plan's order."""
    keys = [key for key, state in plan.states.items() if state is State.STARTED]
    names = labels(plan.stages, keys)
    return [_unfinished(key, names[key], plan.stages[key].epochs, store) for key in keys]


def _unfinished(key: str, name: str, epochs: int, store: Store) -> Unfinished:
    last = next(reversed(store.attempts(key)), None)
    began_at, host = (last.started_at or None, last.host or None) if last else (None, None)
    return Unfinished(key, name, _state(key, store), began_at, host, store.checkpointed_epochs(key), epochs)


def _state(key: str, store: Store) -> str:
    _, claim = newest(store, key)
    if claim is None or claim.orphaned:
        return "interrupted"
    return "running" if claim.machine == this_machine() else "claimed"
