"""A sweep run in this process, stage by stage, as `prunesweep run` does without Ray: for tests of what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.run.supplying import supply
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import Store


def run_here(sweep: Mapping[str, Any] | str | Path, store: Store, data: Path | str = "data") -> Plan:
    """The plan after all of its stages have run; the sweep is remembered, and its tables are written."""
    plan = make_plan(planned_sweep(sweep, store, str(data)), store)
    supply(plan, store)
    remember(plan.sweep, store)
    for stage in plan.to_run.values():
        for _ in run_stage(stage, store, Where(data_folder=str(data))):
            pass
    plan = plan.refreshed(store)
    Collector(plan, store).write()
    return plan
