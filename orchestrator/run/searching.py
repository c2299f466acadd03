"""Searches while a sweep runs: what finishes is heard, and what it decides is added to the plan and the queue."""

from __future__ import annotations

from contextlib import suppress

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.run.events import Event, Failed, Finished, Grown, Listener, Tick
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.search.decision import Decision
from prunesweep.orchestrator.search.replay import Memory, replay
from prunesweep.workers.store import Store


class OpenSearches:
    """The searches of a run that are not decided, and the stages that each of them waits for.

    A search is replayed when the last of them has a result, or one has failed: in between nothing can be decided.
    While the store cannot be read, what was heard is kept for the next `Tick`. `queue` is the run's, once there is one.
    """

    def __init__(self, plan: Plan, store: Store, tell: Listener) -> None:
        self.plan, self.store, self.tell = plan, store, tell
        self.queue: StageQueue | None = None
        self.memory = Memory(store)
        self.waiting: dict[str, set[str]] = {}
        self.of_stage: dict[str, set[str]] = {}
        self.due: set[str] = set()
        self.searches = {decision.search.key: decision.search for decision in plan.decisions}
        for decision in plan.decisions:
            self.memory.learn(decision.stages)
            self._await(decision)

    def hear(self, event: Event) -> None:
        """Pass it on, and decide what can be decided by it."""
        self.tell(event)
        match event:
            case Finished(key):
                self._ended(key, failed=False)
            case Failed(key):
                self._ended(key, failed=True)
            case Tick():
                pass
            case _:
                return
        if self.due:
            with suppress(OSError):  # the store is gone, and may come back
                self._decide()

    def _ended(self, key: str, *, failed: bool) -> None:
        for search in self.of_stage.get(key, ()):
            self.waiting[search].discard(key)
            if failed or not self.waiting[search]:
                self.due.add(search)

    def _decide(self) -> None:
        decisions = [replay(self.searches[key], self.memory) for key in sorted(self.due)]
        self.plan = self.plan.with_decisions(decisions, self.store)
        self.due.clear()
        for decision in decisions:
            self._await(decision)
        self.tell(Grown(self.plan))
        assert self.queue is not None
        self.queue.extend(self.plan)

    def _await(self, decision: Decision) -> None:
        search = decision.search.key
        wanted = decision.stages.keys() - self.memory.known.keys() - decision.diverged if decision.is_open else set()
        self.waiting[search] = set(wanted)
        for key in wanted:
            self.of_stage.setdefault(key, set()).add(search)
