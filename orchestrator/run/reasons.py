"""Why a run's tries at stages ended: what their workers have left in the store, or what is noted here for them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from prunesweep.workers.causes import Cause
from prunesweep.workers.store import Store


@dataclass(frozen=True)
class Ended:
    """How a worker's try at a stage ended, in its own words: nothing is said when there should be a result.

    `claimed` when another run computes the stage. `died` when the worker could not leave a word in the store.
    """

    cause: str | None = None
    message: str | None = None
    claimed: bool = False
    died: bool = False


class Reasons:
    """Those of one run, which is known by a name; it may start one Ray after the other."""

    def __init__(self, store: Store, run: str = "") -> None:
        self.store, self.run = store, run
        self._known: set[str] = set()

    def explained(self, key: str, end: Ended) -> Ended:
        """The end of a try, with what this run's worker left in the store; one that died could leave nothing.

        Then the death is noted here, once its process is gone: in the try that it had begun, or as one of its own.
        """
        tries = [attempt for attempt in self.store.attempts(key) if attempt.run == self.run]
        last = next((attempt for attempt in reversed(tries) if attempt.name not in self._known), None)
        if end.died and (last is None or last.cause is None):
            noted = last or replace(self.store.new_attempt(key, self.run), host="", process=0)
            last = replace(noted, cause=end.cause, message=end.message)
            self.store.fail(key, last)
        if last is not None:
            self._known.add(last.name)
        if last is not None and last.cause is not None:
            return replace(end, cause=last.cause, message=last.message)
        if end.cause is not None:
            return end
        return Ended(Cause.INTERNAL, "the worker gave no reason; see the logs of Ray")

    def all_died(self, keys: Iterable[str], message: str) -> None:
        """The processes that ran these stages are gone, with their Ray."""
        for key in list(keys):
            with suppress(OSError):  # whether the store is there matters to the next Ray
                if not self.store.done([key]):
                    self.explained(key, Ended(Cause.KILLED, message, died=True))
