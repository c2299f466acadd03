"""A store that is looked at again and again: it is asked only for what may have changed since the last look."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prunesweep.orchestrator.report.cost import COSTS
from prunesweep.orchestrator.status.status import LOOKS, Seen
from prunesweep.workers.claims import Claim, newest, this_machine
from prunesweep.workers.store import State, Store

DONE_SECONDS = 300.0
"""What is done is looked at again after so long: it may have been damaged, or removed."""

SOME = 20
"""Of a remote store with more stages to ask for than this, the names of all its stages are listed first."""


class WatchedStore(Store):
    """A store that remembers which stages are done, and what they cost."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.location)
        self._done: dict[str, float] = {}
        self._costs: dict[str, dict[str, Any]] = {}

    def states(self, keys: Iterable[str]) -> dict[str, State]:
        """As of `Store`; a stage that was done a moment ago is taken to be done."""
        keys, now = list(keys), time.monotonic()
        known = {key for key in keys if now - self._done.get(key, -DONE_SECONDS) < DONE_SECONDS}
        asked = self._there([key for key in keys if key not in known])
        states = super().states(asked)
        self.release(asked)
        self._done |= {key: now for key, state in states.items() if state is State.DONE}
        return {key: State.DONE if key in known else states.get(key, State.ABSENT) for key in keys}

    def _there(self, keys: Sequence[str]) -> Sequence[str]:
        if self.is_local or len(keys) <= SOME:
            return keys
        names = set(self.names("stages"))
        return [key for key in keys if key in names]

    def results(self, keys: Sequence[str]) -> Iterator[dict[str, Any] | None]:
        """Of each result what it says of its cost, which is all that is asked of many; each is read once.

        For one thread at a time, and not while another asks for states.
        """
        unread = [key for key in keys if key not in self._costs]
        for key, result in zip(unread, super().results(unread), strict=True):
            if result is not None:
                self._costs[key] = {name: result[name] for name in COSTS if name in result}
        self.release(keys)
        return (self._costs.get(key) for key in keys)


class Claims:
    """The claims on stages that have begun, from one look to the next."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[Claim, float]] = {}

    def seen(self, keys: Sequence[str], store: Store, now: float) -> Seen:
        """Of stages whose process may live the claim; None where another machine's was not renewed for too long.

        `now` is in seconds by any clock that runs evenly.
        """
        held = dict(zip(keys, store.at_once(lambda key: newest(store, key)[1], keys), strict=True))
        claims = {key: claim for key, claim in held.items() if claim is not None and not claim.orphaned}
        self._first = {key: self._since(key, claim, now) for key, claim in claims.items()}
        return {key: None if self._is_silent(key, now) else claim for key, claim in claims.items()}

    def _since(self, key: str, claim: Claim, now: float) -> tuple[Claim, float]:
        before = self._first.get(key)
        return before if before is not None and before[0] == claim else (claim, now)

    def _is_silent(self, key: str, now: float) -> bool:
        """Whether a process of this machine lives is known."""
        claim, since = self._first[key]
        return (not claim.machine or claim.machine != this_machine()) and now - since > LOOKS[-1]
