"""A sweep run to its end in one process, a stage after another: what `prunesweep run` does, but for Ray.

    python -m tests.in_process SWEEP STORE

The queue, the searches, the workers and the tables are the real ones. For tests of what comes of a run, for which Ray
takes ten times as long, and for those that kill one more often than Ray can be started.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.collect import Collector, collecting
from prunesweep.orchestrator.run.events import Event, Grown
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.reasons import Ended, Reasons
from prunesweep.orchestrator.run.searching import OpenSearches
from prunesweep.orchestrator.run.states import StageStates
from prunesweep.orchestrator.run.supplying import supply
from prunesweep.workers.host import Where
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.store import Store

RUN = "in_process"

LOOK_SECONDS = 0.2
"""How often it is seen whether a store that could not be used is back."""


def run_here(sweep: Mapping[str, Any] | str | Path, store: Store, data: Path | str = "data") -> Plan:
    """The plan after all of its stages have run or failed; the sweep is remembered, and its tables are written."""
    store.require_writable()
    plan = make_plan(planned_sweep(sweep, store, str(data)), store)
    supply(plan, store)
    remember(plan.question, store)
    collector = Collector(plan, store)
    with collecting(collector) as collect:

        def hear(event: Event) -> None:
            if isinstance(event, Grown):
                collector.grow(event.plan)
            collect(event)

        searches = OpenSearches(plan, store, hear)
        queue = StageQueue(
            plan, store, StageStates(plan.runnable), searches.hear, Resources(), None, Reasons(store, RUN)
        )
        searches.queue = queue
        _work_off(queue, store, str(data))
    collector.catch_up()
    collector.write()
    return collector.plan.refreshed(store)


def _work_off(queue: StageQueue, store: Store, data: str) -> None:
    while not queue.over:
        queue.look()
        if (key := queue.take()) is None:
            time.sleep(LOOK_SECONDS)
        else:
            queue.ended(key, _run(queue, key, store, data))


def _run(queue: StageQueue, key: str, store: Store, data: str) -> Ended:
    parts = tuple(part.key for part in queue.plan.parts.get(key, ()))
    try:
        # A checkpoint of every epoch, for those that kill it.
        for _ in run_stage(queue.stages[key], store, Where(data, run=RUN, parts=parts, checkpoint_share=inf)):
            pass
    except StageFailed as failure:
        return Ended(str(failure.cause), failure.message)
    return Ended()


if __name__ == "__main__":
    sys.exit(1 if run_here(Path(sys.argv[1]), Store(sys.argv[2])).to_run else 0)
