"""Which worker has which stage. Knows the queue, and neither Ray nor Tune."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.events import Started
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.reasons import Ended
from prunesweep.orchestrator.run.states import Running
from prunesweep.workers.causes import Cause
from prunesweep.workers.encoding import encode
from prunesweep.workers.host import Where
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store


@dataclass(frozen=True)
class Requested:
    """The worker was asked for, and has not started yet."""

    share: Resources


@dataclass(frozen=True)
class Idle:
    """The worker has nothing to do since that time (of the monotonic clock)."""

    share: Resources
    since: float


@dataclass(frozen=True)
class Busy:
    """The worker computes this stage."""

    share: Resources
    stage: str


WorkerState = Requested | Idle | Busy


class Assignments:
    """The workers of a run and their stages. A Tune trial is a worker with a share of the cluster.

    A stage is assigned to a worker that is there, never to one that is yet to start, and a worker that has ended one
    gets the next at once. So a worker costs Tune a trial and a placement group, and a stage nothing but its reports.
    """

    def __init__(self, queue: StageQueue, where: Where) -> None:
        self.queue, self.where = queue, where
        self.workers: dict[str, WorkerState] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for Tune, which writes down whatever it is given: the store remembers."""
        return {}

    # --- how many workers there should be

    def share_wanted(self) -> Resources | None:
        """The share of a worker to start: of the best ready stage for which no idle or requested one is there."""
        coming = Counter(worker.share for worker in self.workers.values() if not isinstance(worker, Busy))
        return next((share for share, ready in self.queue.offers().items() if ready > coming[share]), None)

    def unneeded_requests(self) -> list[str]:
        """Workers that were requested, the last first, and for which no stage is ready any more."""
        requests = {name: worker.share for name, worker in self.workers.items() if isinstance(worker, Requested)}
        ready, coming = self.queue.offers(), Counter(requests.values())
        unneeded: list[str] = []
        for name, share in reversed(requests.items()):
            if coming[share] > ready.get(share, 0):
                coming[share] -= 1
                unneeded.append(name)
        return unneeded

    def request(self, worker: str, share: Resources) -> None:
        """A worker is being started."""
        self.workers[worker] = Requested(share)

    def idle_since(self) -> dict[str, float]:
        """The workers that have nothing to do."""
        return {name: worker.since for name, worker in self.workers.items() if isinstance(worker, Idle)}

    # --- what workers do

    def started(self, worker: str, process: Any) -> None:
        """It has started, and gets its first stage, unless others have done all meanwhile."""
        self.assign_next(worker, process)

    def assign_next(self, worker: str, process: Any) -> bool:
        """Give it the next stage, if one of its share is ready; it then runs once Tune turns to it."""
        state = self.workers[worker]
        key = self.queue.take(state.share)
        if key is None:
            if not isinstance(state, Idle):
                self.workers[worker] = Idle(state.share, time.monotonic())
            return False
        self.workers[worker] = Busy(state.share, key)
        process.proceed.remote(self._task(key))
        self.queue.tell(Started(key))
        return True

    def is_busy(self, worker: str) -> bool:
        """Whether it computes a stage."""
        return isinstance(self.workers.get(worker), Busy)

    def report(self, worker: str, report: Mapping[str, Any]) -> None:
        """What it says of its stage: how far that is, or how it ended (`StageTrainable.step`)."""
        state = self.workers.get(worker)
        if not isinstance(state, Busy):
            return
        if report.get("began") is not None:
            self.queue.progressed(state.stage, report["epoch"], report["began"], report.get("metric"))
        if report["ended"]:
            self.workers[worker] = Idle(state.share, time.monotonic())
            end = Ended(report.get("cause"), report.get("message"), claimed=bool(report.get("claimed")))
            self.queue.ended(state.stage, end)

    def died(self, worker: str, cause: Cause, message: str) -> None:
        """Its process is gone, or could not start. The latter is held against a stage, else it would go on for ever."""
        state = self.workers.pop(worker)
        key = state.stage if isinstance(state, Busy) else self.queue.take(state.share)
        if key is not None:
            self.queue.ended(key, Ended(cause, message, died=True))

    def dismissed(self, worker: str) -> None:
        """It was ended, or its request withdrawn."""
        self.workers.pop(worker, None)

    def _task(self, key: str) -> str:
        queue = self.queue
        expired = (queue.expired_owners[key],) if key in queue.expired_owners else ()
        running = queue.states[key]
        assert isinstance(running, Running)
        where = _as_the_sweep_says(self.where, queue.plan.shares[key])
        parts = tuple(part.key for part in queue.plan.parts.get(key, ()))
        where = replace(where, gone=expired, gpu_share=running.share.gpus, parts=parts)
        return task(queue.stages[key], queue.store, where)


def task(stage: Stage, store: Store, where: Where) -> str:
    """What a worker is told, as text, so that Tune has nothing to walk through."""
    return json.dumps({"stage": encode(stage), "store": store.location.reveal(), "where": asdict(where)})


def _as_the_sweep_says(where: Where, given: Resources) -> Where:
    """As many threads as the sweep gives cores, also where a retry has more: the last bits depend on them.

    `auto` is a GPU only where the trial was given one: Ray may leave others visible.
    """
    auto = "cuda" if given.gpus else "cpu"
    device = auto if where.device == "auto" else where.device
    return replace(where, threads=max(1, int(given.cpus)), device=device)
