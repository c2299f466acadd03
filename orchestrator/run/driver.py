"""Run a sweep: plan, run what is missing, collect. Running, resuming, retrying and extending are this one operation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.provenance import provenance
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.resources import Resources, distinct, fitting
from prunesweep.orchestrator.run.events import Event, Failed, Listener, Tick
from prunesweep.orchestrator.run.notify import require_web
from prunesweep.orchestrator.run.stopping import Stopping
from prunesweep.orchestrator.sweepfile.read import Sweep
from prunesweep.workers.claims import release
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from prunesweep.orchestrator.run.collect import Collector
    from prunesweep.workers.host import Where

ROUNDS = 3
"""A stage that turns out to be damaged while others are computed is itself computed in the next round."""

DEMAND = 100
"""An autoscaling cluster is asked for so many stages at once, unless fewer are allowed."""

RESTARTS = 10
"""So often in one run a new Ray takes the place of one that was killed."""

DEVICES = r"auto|cpu|cuda(:\d+)?"


@dataclass(frozen=True)
class Options:
    """Where a sweep runs, and who is told of its end; nothing here changes a number."""

    address: str | None = None
    data_folder: str = "data"
    device: str = "auto"
    loaders: int = 0
    max_failures: int | None = None
    max_concurrent: int | None = None
    autoscaling: bool = False
    notify: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(DEVICES, self.device):
            raise UserError(f'--device: "{self.device}" is not allowed: auto, cpu, cuda or cuda:N')
        if self.autoscaling and self.address is None:
            raise UserError("--autoscaling needs --address: the Ray that `run` starts has this machine only")
        if self.notify:
            require_web(self.notify)


def run_sweep(sweep: Sweep, store: Store, options: Options, console: Console) -> Plan:
    """Run what the store lacks of a sweep and write its tables; returns the plan as it stands afterwards.

    `KeyboardInterrupt` and `TooManyFailures` pass through, with the tables of what is finished written.
    """
    from prunesweep.orchestrator.run.collect import Collector

    plan = make_plan(sweep, store)
    store.require_writable()
    remember(sweep, store)
    stopping = Stopping(partial(console.print, style="yellow", soft_wrap=True), options.max_failures)
    with stopping.heeding_signals():
        for _ in range(ROUNDS):
            collector, failed = Collector(plan, store), set()
            try:
                if plan.runnable:
                    failed = _execute(plan, store, options, console, collector, stopping)
            finally:
                _write_tables(collector)
            plan = plan.refreshed(store, failed)
            if not plan.runnable:
                break
            for path in collector.damaged:
                console.print(f"{path} is missing or damaged; what is left of it is set aside", soft_wrap=True)
            console.print("computing again what was lost", soft_wrap=True)
    return plan


def _write_tables(collector: Collector) -> None:
    try:
        collector.catch_up()
        collector.write()
    except OSError as error:
        raise UserError(
            f"the tables of {collector.plan.sweep.name} cannot be written ({error}): what is finished is kept; "
            "make room or mend the store, and run the sweep again"
        ) from error


def _execute(
    plan: Plan, store: Store, options: Options, console: Console, collector: Collector, stopping: Stopping
) -> set[str]:
    """Run a plan to its end, on a new Ray where the embedded one was killed; returns the stages that failed."""
    from prunesweep.orchestrator.run.cluster import ClusterLost, NotStarted

    failed: set[str] = set()

    def tell(event: Event) -> None:
        match event:
            case Failed(key):
                failed.add(key)
        for hear in (collector.hear, stopping.hear):
            hear(event)

    where, started = _where(options), True
    for _ in range(RESTARTS):
        try:
            _execute_once(plan, store, options, where, console, stopping, tell)
            return failed
        except ClusterLost as lost:
            before, started = started, not isinstance(lost, NotStarted)
            if not (before or started):
                raise UserError(f"{lost}, twice; `prunesweep doctor` looks at this machine") from lost
            console.print(f"{lost}: starting Ray again", style="yellow", soft_wrap=True)
            plan = plan.refreshed(store, failed)
            if not plan.runnable:
                return failed
    raise UserError(f"Ray ended {RESTARTS} times; what is finished is kept: see what kills it, and run again")


def _where(options: Options) -> Where:
    from prunesweep.workers.host import Where

    return Where(
        data_folder=str(Path(options.data_folder).absolute()),
        device=options.device,
        loaders=options.loaders,
        provenance={"commit": provenance(Path.cwd()).commit},
        run=uuid4().hex[:12],
    )


def _execute_once(
    plan: Plan, store: Store, options: Options, where: Where, console: Console, stopping: Stopping, tell: Listener
) -> None:
    from prunesweep.orchestrator.run import cluster, tune
    from prunesweep.orchestrator.run.progress import Progress

    stopping.check()
    with _claims_released(store, stopping, where), cluster.cluster(options.address):
        stopping.heed_signals()
        stopping.check()
        cluster.require_shared(store)
        slots, node = _room(plan, options)
        with Progress(plan, console) as progress:

            def heard(event: Event) -> None:
                if isinstance(event, Tick):
                    cluster.require_alive()
                progress.hear(event)
                tell(event)

            tune.execute(plan, store, where, slots, heard, node, options.max_concurrent)


def _room(plan: Plan, options: Options) -> tuple[int, Resources]:
    """How many stages are asked for at once, and the most that one can have; an autoscaler sees what waits."""
    from prunesweep.orchestrator.run import cluster

    shares = distinct(plan.shares[key] for key in plan.runnable)
    if options.autoscaling:
        return min(len(plan.runnable), options.max_concurrent or DEMAND), cluster.largest_node(foreseen=shares)
    nodes = cluster.nodes_alive()
    return max(fitting(share, options.loaders, nodes) for share in shares), cluster.largest_node()


@contextmanager
def _claims_released(store: Store, stopping: Stopping, where: Where) -> Iterator[None]:
    try:
        yield
    finally:
        release(store, stopping.running, where.run)
