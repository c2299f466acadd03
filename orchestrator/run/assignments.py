"""Where stages and workers meet. Knows the queue, and neither Ray nor Tune."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.events import Started
from prunesweep.orchestrator.run.queue import Ended, StageQueue
from prunesweep.workers.causes import Cause
from prunesweep.workers.host import Where
from prunesweep.workers.spec import Stage, encode
from prunesweep.workers.store import Store


class Desk:
    """Where stages and workers meet: a Tune trial is a worker with a share of the resources, and is given stages.

    A stage is given to a worker that is there, never to one that is yet to start, and a worker that has ended one gets
    the next at once. So a worker costs Tune a trial and a placement group, and a stage nothing but its reports.
    """

    def __init__(self, queue: StageQueue, where: Where) -> None:
        self.queue, self.where = queue, where
        self.waiting: dict[str, Resources] = {}
        self.shares: dict[str, Resources] = {}
        self.stages: dict[str, str] = {}
        self.idle: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for Tune, which writes down whatever it is given: the store remembers."""
        return {}

    def wanted(self) -> Resources | None:
        """The share of a worker to look for: of the best stage that none takes who is idle or was asked for before."""
        coming = Counter(self.waiting.values()) + Counter(self.shares[worker] for worker in self.idle)
        return next((share for share, ready in self.queue.offers().items() if ready > coming[share]), None)

    def surplus(self) -> list[str]:
        """Workers that were asked for, and for whom nothing is ready any more."""
        ready, coming = self.queue.offers(), Counter(self.waiting.values())
        late: list[str] = []
        for worker, share in reversed(self.waiting.items()):
            if coming[share] > ready.get(share, 0):
                coming[share] -= 1
                late.append(worker)
        return late

    def ask(self, worker: str, share: Resources) -> None:
        """A worker is looked for."""
        self.waiting[worker] = share

    def arrived(self, worker: str, process: Any) -> None:
        """It has started, and gets its first stage, unless others have done all meanwhile."""
        self.shares[worker] = self.waiting.pop(worker)
        self.give(worker, process)

    def give(self, worker: str, process: Any) -> bool:
        """Its next stage, if one of its share is ready; it then runs once Tune turns to it."""
        key = self.queue.take(self.shares[worker])
        if key is None:
            self.idle.setdefault(worker, time.monotonic())
            return False
        self.idle.pop(worker, None)
        self.stages[worker] = key
        process.proceed.remote(self._task(key))
        self.queue.tell(Started(key))
        return True

    def heard(self, worker: str, report: Mapping[str, Any]) -> None:
        """A report on a stage: how far it is, or how it ended."""
        if worker not in self.stages:
            return
        if report["ended"]:
            how = Ended(report.get("cause"), report.get("message"), claimed=bool(report.get("claimed")))
            self.queue.ended(self.stages.pop(worker), how)
        else:
            self.queue.progressed(self.stages[worker], report["epoch"])

    def died(self, worker: str, cause: Cause, message: str) -> None:
        """Its process is gone; one that could not start is held against a stage, so that not all go the same way."""
        self.idle.pop(worker, None)
        share = self.waiting.pop(worker, None) or self.shares.pop(worker)
        key = self.stages.pop(worker, None) or self.queue.take(share)
        if key is not None:
            self.queue.ended(key, Ended(cause, message, died=True))

    def left(self, worker: str) -> None:
        """It was sent away, or is not looked for any more."""
        for known in (self.idle, self.waiting, self.shares):
            known.pop(worker, None)

    def _task(self, key: str) -> str:
        gone = (self.queue.gone[key],) if key in self.queue.gone else ()
        where = _at_home(self.where, self.queue.plan.shares[key])
        where = replace(where, gone=gone, gpu_share=self.queue.share(key).gpus)
        return task(self.queue.stages[key], self.queue.store, where)


def task(stage: Stage, store: Store, where: Where) -> str:
    """What a worker is told, as text, so that Tune has nothing to walk through."""
    return json.dumps({"stage": encode(stage), "store": store.location, "where": asdict(where)})


def _at_home(where: Where, resources: Resources) -> Where:
    """As many threads as the sweep gives cores, also where a retry has more: the last bits depend on them.

    `auto` is a GPU only where the trial was given one: Ray may leave others visible.
    """
    auto = "cuda" if resources.gpus else "cpu"
    device = auto if where.device == "auto" else where.device
    return replace(where, threads=max(1, int(resources.cpus)), device=device)
