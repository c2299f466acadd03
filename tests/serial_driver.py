"""Runs a sweep to its end in this process, a stage after another, without Ray: the real queue, searches and workers.

    python -m tests.serial_driver SWEEP STORE

For tests that kill a run more often than Ray can be started.
"""

from __future__ import annotations

import sys
import time
from math import inf
from pathlib import Path

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.run.events import Event
from prunesweep.orchestrator.run.queue import Ended, StageQueue
from prunesweep.orchestrator.run.searching import OpenSearches
from prunesweep.orchestrator.run.states import StageStates
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.host import Where
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.store import Store

LOOK_SECONDS = 0.2
"""How often it is seen whether a store that could not be used is back."""


def main(sweep: Path, place: str) -> None:
    store = Store(place)
    store.require_writable()
    plan = make_plan(read_sweep(sweep), store)
    remember(plan.question, store)
    heard: list[Event] = []
    searches = OpenSearches(plan, store, heard.append)
    states = StageStates(plan.runnable)
    queue = searches.queue = StageQueue(plan, store, states, searches.hear, Resources(), None, run="serial")
    while not queue.over:
        queue.look()
        key = queue.take()
        if key is None:
            time.sleep(LOOK_SECONDS)
            continue
        parts = tuple(part.until for part in queue.plan.parts.get(key, ()))
        try:
            for _ in run_stage(queue.stages[key], store, Where(run="serial", parts=parts, checkpoint_share=inf)):
                pass
            queue.ended(key, Ended())
        except StageFailed as failure:
            queue.ended(key, Ended(str(failure.cause), failure.message))
    whole = make_plan(read_sweep(sweep), store)
    collector = Collector(whole, store)
    collector.catch_up()
    collector.write()
    assert not whole.to_run


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
