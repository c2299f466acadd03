"""Which stage runs next, and what becomes of those that ended. Knows the store and the plan, and not Ray."""

from __future__ import annotations

import heapq
import time
from contextlib import suppress
from dataclasses import replace

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.chains import chain_lengths, children_of
from prunesweep.orchestrator.run.events import Blocked, Elsewhere, Failed, Finished, Listener, Progressed, Retried
from prunesweep.orchestrator.run.failures import larger, policy
from prunesweep.orchestrator.run.lost_store import LostStore
from prunesweep.orchestrator.run.reasons import Ended, Reasons
from prunesweep.orchestrator.run.shares import StageShares
from prunesweep.orchestrator.run.states import (
    AwaitsParent,
    BehindFailure,
    Done,
    GivenUp,
    Ready,
    Running,
    RunningElsewhere,
    StageStates,
)
from prunesweep.orchestrator.run.tries import FailedTries
from prunesweep.workers.causes import Cause
from prunesweep.workers.claims import Watch
from prunesweep.workers.lineage import needed
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store


class StageQueue:
    """The stages of a plan: those that are ready are handed out, that with the longest chain behind it first.

    What a stage is doing is in `states` alone. Stages that another run on this store computes are neither handed out
    nor waited for by a worker.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        states: StageStates,
        tell: Listener,
        node: Resources,
        max_running: int | None = None,
        reasons: Reasons | None = None,
    ) -> None:
        """`node` is what the largest node of the cluster has; of stages at most `max_running` run at once."""
        self.plan, self.store, self.states, self.tell, self.max_running = plan, store, states, tell, max_running
        self.stages = dict(plan.runnable)
        self.needs = {key: [need for need in plan.needs(key) if need in self.stages] for key in self.stages}
        self.children = children_of(self.needs)
        self.chain_lengths = chain_lengths(self.stages, self.children)
        self.shares = StageShares(plan, store, node)
        self.reasons = reasons or Reasons(store)
        self.failed_tries: dict[str, FailedTries] = {}
        self.expired_owners: dict[str, str] = {}
        self.lost_store = LostStore(store, tell)
        self._positions = {key: position for position, key in enumerate(plan.stages)}
        self._ready: dict[Resources, list[tuple[int, int, str]]] = {}
        for key, needs in self.needs.items():
            if not needs:
                self._make_ready(key)

    def extend(self, plan: Plan) -> None:
        """Take up the stages that a plan has now and had not: those of searches that have decided."""
        self.plan = self.shares.plan = plan
        fresh = {key: stage for key, stage in plan.runnable.items() if key not in self.states}
        self._positions |= {key: place for place, key in enumerate(fresh, len(self._positions))}
        self.stages |= fresh
        self.needs |= {key: [need for need in plan.needs(key) if need in self.stages] for key in fresh}
        self.children |= {key: [] for key in fresh}
        for key in fresh:
            for need in self.needs[key]:
                self.children[need].append(key)
        self.chain_lengths |= chain_lengths(fresh, self.children)
        for key in fresh:
            self.states.set(key, AwaitsParent())
            self._begin_or_block(key)

    def _begin_or_block(self, key: str) -> None:
        """What becomes of a stage that came later: those that it needs may have ended already."""
        states = {need: self.states[need] for need in self.needs[key]}
        lost = {need: state for need, state in states.items() if isinstance(state, GivenUp | BehindFailure)}
        for need, state in lost.items():
            self._without(key, need, state.culprit if isinstance(state, BehindFailure) else need)
        if not lost:
            self._begin_after(key)

    def _begin_after(self, key: str) -> None:
        """A stage that waits is ready once all that it needs is done."""
        waits = isinstance(self.states[key], AwaitsParent)
        if waits and all(isinstance(self.states[need], Done) for need in self.needs[key]):
            self._make_ready(key)

    def _without(self, key: str, need: str, culprit: str) -> None:
        """A stage that starts from one that has failed is blocked; one that would have continued from it goes without.

        The latter is a part, whose training may have failed on another machine or with another sparsity to judge by.
        """
        if need not in {stage.key for stage in needed(self.stages[key])}:
            self.needs[key].remove(need)
            self._begin_after(key)
        elif isinstance(self.states[key], AwaitsParent):
            self.states.set(key, BehindFailure(culprit))
            self.tell(Blocked(key, culprit))
            for child in self.children.get(key, ()):
                self._without(child, key, culprit)

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing can become ready any more."""
        return not any(self.states.of(kind) for kind in (Ready, Running, RunningElsewhere))

    # --- handing out

    def offers(self) -> dict[Resources, int]:
        """How many stages may begin that get this share, in the order of their best; none while the store is lost."""
        room = len(self.stages) if self.max_running is None else self.max_running - len(self.states.of(Running))
        if self.lost_store.problem is not None or room <= 0:
            return {}
        by_best = sorted(self._ready, key=lambda share: self._ready[share][0])
        return {share: min(room, len(self._ready[share])) for share in by_best}

    def take(self, share: Resources | None = None) -> str | None:
        """The next stage, of those that get this share, which the caller now runs; None while none may begin."""
        offers = self.offers()
        share = next(iter(offers), None) if share is None else share
        if share is None or share not in offers:
            return None
        key = heapq.heappop(self._ready[share])[2]
        if not self._ready[share]:
            del self._ready[share]
        self.states.set(key, Running(share))
        return key

    def _make_ready(self, key: str) -> None:
        share = self.shares.share(key)
        rank = -self.chain_lengths[key], self._positions[key], key
        heapq.heappush(self._ready.setdefault(share, []), rank)
        self.states.set(key, Ready(share))

    # --- what workers report

    def progressed(self, key: str, epoch: int, began: int = 0, metric: float | None = None) -> None:
        """The running stage has finished so many epochs: see `Progressed`."""
        running = self.states[key]
        assert isinstance(running, Running)
        self.states.set(key, replace(running, epoch=epoch))
        self.tell(Progressed(key, epoch, began, metric))

    def ended(self, key: str, end: Ended) -> None:
        """A worker's try at the stage is over: with a result, or for a reason."""
        problem = None
        try:
            done = bool(self.store.done([key]))
            if not (done or end.claimed):
                problem = self.store.problem()
                end = self.reasons.explained(key, end)
        except OSError as error:
            done, problem = False, str(error)
        if done:
            self._finish(key)
        elif problem is not None:
            self.lost_store.lost(problem)
            self._make_ready(key)
            self.tell(Retried(key, Cause.STORE, problem))
        elif end.claimed:
            self.states.set(key, RunningElsewhere(Watch(self.store, key)))
            self.tell(Elsewhere(key))
        else:
            self._fail(key, end.cause or Cause.INTERNAL, end.message or "")

    def _finish(self, key: str) -> None:
        self.states.set(key, Done())
        self.tell(Finished(key))
        for child in self.children.get(key, ()):
            self._begin_after(child)

    # --- what is looked after between reports

    def look(self) -> None:
        """Look after one of the stages elsewhere, or after a store that is gone; to be called now and then."""
        watches = {key: state.watch for key, state in self.states.of(RunningElsewhere).items()}
        try:
            if self.lost_store.problem is not None:
                self.lost_store.look()
            elif watches:
                self._look_elsewhere(*min(watches.items(), key=lambda item: item[1].next_look))
        except OSError as error:
            self.lost_store.lost(str(error))

    def _look_elsewhere(self, key: str, watch: Watch) -> None:
        if time.monotonic() < watch.next_look:
            return
        ended = watch.ended()
        if self.store.done([key]):
            self._finish(key)
        elif ended:
            if watch.seen is not None:
                self.expired_owners[key] = watch.seen.owner
            self._make_ready(key)

    # --- failures

    def _fail(self, key: str, cause: str, message: str) -> None:
        if self._try_again(key, cause):
            self.tell(Retried(key, cause, message))
            return
        self.states.set(key, GivenUp(cause))
        self.tell(Failed(key, cause, message))
        for child in self.children.get(key, ()):
            self._without(child, key, key)

    def _try_again(self, key: str, cause: str) -> bool:
        """Whether the stage is ready again, or waits for what it needs, as the policy for the cause says."""
        running = self.states[key]
        assert isinstance(running, Running)
        self.failed_tries[key] = self.failed_tries.get(key, FailedTries()).after(cause, running.epoch)
        if self.failed_tries[key].counts[cause] > policy(cause).again:
            return False
        if policy(cause).larger:
            share = larger(running.share, cause, self.shares.node)
            if share is None:
                return False
            self._raise_share(share, key)
        lost = [need for need in needed(self.stages[key]) if not self._has_result(need.key)]
        if lost and cause == Cause.PARENT_DAMAGED:
            self.states.set(key, AwaitsParent())
            for stage in lost:
                self._run_first(stage, key)
        else:
            self._make_ready(key)
        return True

    def _raise_share(self, share: Resources, key: str) -> None:
        """Stages like this one get more from now on, those that are ready too."""
        self.shares.raise_to(share, key)
        self._ready = {}
        for ready in list(self.states.of(Ready)):
            self._make_ready(ready)

    def _has_result(self, key: str) -> bool:
        with suppress(OSError):  # whoever runs it will see
            return bool(self.store.done([key]))
        return False

    def _run_first(self, parent: Stage, child: str) -> None:
        """Run a stage again whose result was lost, and the child after it."""
        self.stages[parent.key] = parent
        self.needs.setdefault(parent.key, [])
        if parent.key not in self.needs[child]:
            self.needs[child].append(parent.key)
        siblings = self.children.setdefault(parent.key, [])
        if child not in siblings:
            siblings.append(child)
        self.chain_lengths[parent.key] = parent.epochs + self.chain_lengths[child]
        under_way = Ready | Running | RunningElsewhere
        if not (parent.key in self.states and isinstance(self.states[parent.key], under_way)):
            self._make_ready(parent.key)
