"""Which stage runs next, and what becomes of those that ended. Knows the store and the plan, and not Ray."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.events import (
    Blocked,
    Elsewhere,
    Failed,
    Finished,
    Listener,
    Progressed,
    Retried,
    Waiting,
)
from prunesweep.orchestrator.run.failures import larger, policy
from prunesweep.orchestrator.run.shares import Learned
from prunesweep.workers.causes import Cause
from prunesweep.workers.claims import Watch
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store

KNOCK_SECONDS = 2.0
"""A store that is gone is looked for this often."""


@dataclass(frozen=True)
class Ended:
    """How a worker's try at a stage ended, in its own words: nothing is said when there should be a result.

    `claimed` when another run computes the stage. `died` when the worker could not leave a word in the store.
    """

    cause: str | None = None
    message: str | None = None
    claimed: bool = False
    died: bool = False


class StageQueue:
    """The stages of a plan: those that are ready, with the longest chain still before them first; running; elsewhere.

    Elsewhere are stages that another run on this store computes. They are neither run nor waited for by a worker.
    """

    def __init__(
        self, plan: Plan, store: Store, tell: Listener, node: Resources, max_running: int | None = None
    ) -> None:
        """`node` is what the largest node of the cluster has; of stages at most `max_running` run at once."""
        self.plan, self.store, self.tell, self.node, self.max_running = plan, store, tell, node, max_running
        self.stages = dict(plan.runnable)
        self.children: dict[str, list[str]] = {key: [] for key in self.stages}
        for key, stage in self.stages.items():
            if stage.parent is not None and stage.parent.key in self.stages:
                self.children[stage.parent.key].append(key)
        self.remaining = _chain_lengths(self.stages, self.children)
        self.order = {key: number for number, key in enumerate(plan.stages)}
        self.ready: dict[Resources, list[tuple[int, int, str]]] = {}
        self.running: set[str] = set()
        self.elsewhere: dict[str, Watch] = {}
        self.gone: dict[str, str] = {}
        self.learned = Learned(plan, store)
        self.given: dict[str, Resources] = {}
        self.failures: Counter[tuple[str, str]] = Counter()
        self.epochs: dict[str, int] = {}
        self.epochs_at_failure: dict[str, int] = {}
        self.problem: str | None = None
        self.next_knock = 0.0
        for key, stage in self.stages.items():
            if stage.parent is None or stage.parent.key not in self.stages:
                self._release(key)

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing can become ready any more."""
        return not (self.ready or self.running or self.elsewhere)

    def offers(self) -> dict[Resources, int]:
        """How many stages are ready that get this share, in the order of their best; none while none may begin."""
        room = len(self.stages) if self.max_running is None else self.max_running - len(self.running)
        if self.problem is not None or room <= 0:
            return {}
        return {share: min(room, len(self.ready[share])) for share in sorted(self.ready, key=self._best)}

    def take(self, share: Resources | None = None) -> str | None:
        """The next stage, of those that get this share, which the caller now runs; None while none is ready."""
        found = self.offers()
        share = next(iter(found), None) if share is None else share
        if share is None or share not in found:
            return None
        key = heapq.heappop(self.ready[share])[2]
        if not self.ready[share]:
            del self.ready[share]
        self.running.add(key)
        self.given[key] = share
        return key

    def _best(self, share: Resources) -> tuple[int, int, str]:
        return self.ready[share][0]

    def share(self, key: str) -> Resources:
        """What the stage gets: what the sweep asks for, or more after one like it ran out of memory."""
        return self.learned.share(key, self.node)

    def progressed(self, key: str, epoch: int) -> None:
        """The stage has finished so many epochs."""
        self.epochs[key] = max(epoch, self.epochs.get(key, 0))
        self.tell(Progressed(key, epoch))

    def ended(self, key: str, how: Ended) -> None:
        """A worker's try at the stage is over: with a result, or for a reason."""
        self.running.discard(key)
        problem = None
        try:
            done = bool(self.store.done([key]))
            if not (done or how.claimed):
                problem = self.store.problem()
                how = self._explained(key, how)
        except OSError as error:
            done, problem = False, str(error)
        if done:
            self._finish(key)
        elif problem is not None:
            self._wait_for_store(problem)
            self._release(key)
            self.tell(Retried(key, Cause.STORE, problem))
        elif how.claimed:
            self.elsewhere[key] = Watch(self.store, key)
            self.tell(Elsewhere(key))
        else:
            self._fail(key, how.cause or Cause.INTERNAL, how.message or "")

    def look(self) -> None:
        """Look after one of the stages elsewhere, or after a store that is gone; to be called now and then."""
        try:
            if self.problem is not None:
                self._knock()
            elif self.elsewhere:
                self._watch(min(self.elsewhere, key=lambda key: self.elsewhere[key].next_look))
        except OSError as error:
            self._wait_for_store(str(error))

    def _watch(self, key: str) -> None:
        watch = self.elsewhere[key]
        if time.monotonic() < watch.next_look:
            return
        ended = watch.ended()
        if self.store.done([key]):
            del self.elsewhere[key]
            self._finish(key)
        elif ended:
            del self.elsewhere[key]
            if watch.seen is not None:
                self.gone[key] = watch.seen.owner
            self._release(key)

    def _wait_for_store(self, problem: str) -> None:
        if self.problem is None:
            self.tell(Waiting(problem))
        self.problem = problem

    def _knock(self) -> None:
        if time.monotonic() >= self.next_knock:
            self.next_knock = time.monotonic() + KNOCK_SECONDS
            self.problem = self.store.problem()
            if self.problem is None:
                self.tell(Waiting(None))

    def _release(self, key: str) -> None:
        heapq.heappush(self.ready.setdefault(self.share(key), []), (-self.remaining[key], self.order[key], key))

    def _ready(self) -> set[str]:
        return {key for stages in self.ready.values() for *_, key in stages}

    def _need(self, key: str, share: Resources) -> None:
        """Stages like this one get more from now on, those that are ready too."""
        self.learned.need(key, share)
        found, self.ready = self._ready(), {}
        for each in found:
            self._release(each)

    def _finish(self, key: str) -> None:
        self.tell(Finished(key))
        for child in self.children.pop(key, ()):
            self._release(child)

    def _explained(self, key: str, how: Ended) -> Ended:
        """With what was left in the store; a worker that died could leave nothing, so that is noted here."""
        attempts = self.store.attempts(key)
        last = attempts[-1] if attempts else None
        if how.died and last is not None and last.cause is None:
            self.store.fail(key, replace(last, cause=how.cause, message=how.message))
        if how.cause is not None:
            return how
        if last is not None and last.cause is not None:
            return Ended(last.cause, last.message)
        return Ended(Cause.INTERNAL, "the worker gave no reason; see the logs of Ray")

    def _fail(self, key: str, cause: str, message: str) -> None:
        if self._try_again(key, cause):
            self.tell(Retried(key, cause, message))
            return
        self.tell(Failed(key, cause, message))
        for descendant in self._descendants(key):
            self.tell(Blocked(descendant, key))

    def _try_again(self, key: str, cause: str) -> bool:
        """Whether the stage is ready again, or waits for what it needs.

        Tries count that brought it no epoch further: on machines that come and go, a long stage may lose many.
        """
        if self.epochs.get(key, 0) > self.epochs_at_failure.get(key, 0):
            self.epochs_at_failure[key] = self.epochs[key]
            self.failures[key, cause] = 0
        self.failures[key, cause] += 1
        if self.failures[key, cause] > policy(cause).again:
            return False
        if policy(cause).larger:
            share = larger(self.given.get(key, self.share(key)), cause, self.node)
            if share is None:
                return False
            self._need(key, share)
        parent = self.stages[key].parent
        if parent is not None and cause == Cause.PARENT_DAMAGED and not self._is_done(parent.key):
            self._require(parent, key)
        else:
            self._release(key)
        return True

    def _is_done(self, key: str) -> bool:
        with suppress(OSError):  # whoever runs it will see
            return bool(self.store.done([key]))
        return False

    def _require(self, parent: Stage, child: str) -> None:
        """Run a stage again whose result was lost, and the child after it."""
        self.stages[parent.key] = parent
        waiting = self.children.setdefault(parent.key, [])
        if child not in waiting:
            waiting.append(child)
        self.remaining[parent.key] = parent.epochs + self.remaining[child]
        if parent.key not in self._ready() | self.running | self.elsewhere.keys():
            self._release(parent.key)

    def _descendants(self, key: str) -> Iterator[str]:
        for child in self.children.get(key, ()):
            yield child
            yield from self._descendants(child)


def _chain_lengths(stages: Mapping[str, Stage], children: Mapping[str, list[str]]) -> dict[str, int]:
    """Epochs from the start of each stage to the end of its longest chain of descendants."""
    lengths: dict[str, int] = {}
    for key in reversed(list(stages)):
        lengths[key] = stages[key].epochs + max((lengths[child] for child in children[key]), default=0)
    return lengths
