"""A store that cannot be used for a while: no stage begins until it is there again."""

from __future__ import annotations

import time

from prunesweep.orchestrator.run.events import Listener, StoreLost
from prunesweep.workers.store import Store

CHECK_SECONDS = 2.0
"""A store that is gone is looked for this often."""


class LostStore:
    """Whether the store cannot be used, and why; it is looked for now and then until it is there again."""

    def __init__(self, store: Store, tell: Listener) -> None:
        self.store, self.tell = store, tell
        self.problem: str | None = None
        self.next_look = 0.0

    def lost(self, problem: str) -> None:
        """Somebody could not use the store."""
        if self.problem is None:
            self.tell(StoreLost(problem))
        self.problem = problem

    def look(self) -> None:
        """See, if it is time again, whether the store is back; raises `OSError` where even that cannot be seen."""
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + CHECK_SECONDS
            self.problem = self.store.problem()
            if self.problem is None:
                self.tell(StoreLost(None))
