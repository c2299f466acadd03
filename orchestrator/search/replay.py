"""Searches replayed on a store: what its results make of them, read once each. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prunesweep.orchestrator.search.decision import Decision, decide
from prunesweep.orchestrator.search.spec import Search
from prunesweep.workers.causes import Cause
from prunesweep.workers.store import State, Store


class Memory:
    """What a store has of the stages of searches; a result that was read stays as it is, and is not read again."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.known: dict[str, Mapping[str, Any] | None] = {}
        """As `orchestrator.search.numbers.Known`."""

    def learn(self, keys: Iterable[str]) -> bool:
        """Look these stages up; whether anything is known now that was not."""
        unknown = [key for key in keys if key not in self.known]
        states = self.store.states(unknown) if unknown else {}
        done = [key for key in unknown if states[key] is State.DONE]
        failed = [key for key in unknown if states[key] is State.FAILED]
        before = len(self.known)
        for key, result in zip(done, self.store.results(done), strict=True):
            if result is not None:
                self.known[key] = result["metrics"]
        self.store.release(done)
        for key, attempt in zip(failed, self.store.last_attempts(failed), strict=True):
            if attempt is not None and attempt.cause == Cause.DIVERGED:
                self.known[key] = None
        return len(self.known) > before


def replay(search: Search, memory: Memory) -> Decision:
    """What the search has decided by now: round after round, until one is not over."""
    decision = decide(search, memory.known)
    while decision.is_open and memory.learn(decision.stages):
        decision = decide(search, memory.known)
    return decision
