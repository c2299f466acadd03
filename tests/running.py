"""A sweep run stage by stage in one process, as workers do it, without Ray: `python -m tests.running FILE STORE`."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.host import Where
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.store import Store


def run(file: Path, store: Store) -> None:
    """Every stage in the plan's order; tables are written after each."""
    store.require_writable()
    plan = make_plan(read_sweep(file), store)
    remember(plan.sweep, store)
    for stage in plan.stages.values():
        with suppress(StageFailed):
            list(run_stage(stage, store, Where(device="cpu")))
            Collector(plan.refreshed(store), store).write()


if __name__ == "__main__":
    run(Path(sys.argv[1]), Store(sys.argv[2]))
