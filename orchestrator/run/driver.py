"""Run what a plan lacks, then write its tables. Running, resuming, retrying and extending are this one operation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.provenance import provenance
from prunesweep.orchestrator.records import remember, require_own_code
from prunesweep.orchestrator.resources import LOWER, Resources, distinct, fitting, lowered_by_option
from prunesweep.orchestrator.run.events import Event, Failed, Grown, Listener, Tick
from prunesweep.orchestrator.run.notify import require_web
from prunesweep.orchestrator.run.pace import Pace
from prunesweep.orchestrator.run.preflight import require_ready, require_trainable
from prunesweep.orchestrator.run.progress import ProgressDisplay
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.reasons import Reasons
from prunesweep.orchestrator.run.repetitions import Repetitions
from prunesweep.orchestrator.run.searching import OpenSearches
from prunesweep.orchestrator.run.sessions import end_sessions
from prunesweep.orchestrator.run.states import Running, StageStates
from prunesweep.orchestrator.run.stopping import CONTINUES, Stopping
from prunesweep.orchestrator.run.supplying import supply
from prunesweep.workers.claims import release
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import Where
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from prunesweep.orchestrator.run.cluster import ClusterLost
    from prunesweep.orchestrator.run.collect import Collector

DEMAND = 100
"""An autoscaling cluster is asked for so many stages at once, unless fewer are allowed."""

DEVICES = r"auto|cpu|cuda(:\d+)?"


@dataclass(frozen=True)
class Options:
    """Where a sweep runs, and who is told of its end; nothing here changes a number. `stall_limit` is in minutes.

    `allow` are modules that a store may have imported. A `rehearsal` is one of `orchestrator.run.rehearsal`.
    """

    address: Location | None = None
    data_folder: str = "data"
    device: str = "auto"
    loaders: int = 0
    max_failures: int | None = None
    max_concurrent: int | None = None
    autoscaling: bool = False
    notify: Location | None = None
    stall_limit: float | None = None
    allow: Sequence[str] = ()
    rehearsal: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(DEVICES, self.device):
            raise UserError(f'--device: "{self.device}" is not allowed: auto, cpu, cuda or cuda:N')
        if self.autoscaling and self.address is None:
            raise UserError("--autoscaling needs --address: the Ray that `run` starts has this machine only")
        if self.notify:
            require_web(self.notify)


def run_sweep(plan: Plan, store: Store, options: Options, console: Console) -> Plan:
    """Run what the store lacks of a plan and write its tables; returns the plan as it stands afterwards.

    `KeyboardInterrupt` and `TooManyFailures` pass through, with the tables of what is finished written.
    """
    prepare(plan, store, options)
    return SweepRun(store, options, console).run(plan)


def prepare(plan: Plan, store: Store, options: Options) -> None:
    """What is done before anything is started; raises `UserError` for what would stop the run.

    A rehearsal shows of all networks which cannot be trained, where a run ends with the first.
    """
    require_own_code(plan.question, options.allow)
    if options.address is None:
        require_ready(plan, options.data_folder, options.device)
        if not options.rehearsal:
            require_trainable(plan, options.data_folder, options.device)
        if plan.runnable:
            _require_room_here(plan, options)
    store.require_writable()
    supply(plan, store)
    remember(plan.question, store)


class SweepRun:
    """One run of a sweep, with all that is done again.

    Work is repeated for three reasons, each inside the next: a stage that failed is tried again as the policy for its
    cause says (`StageQueue`); where Ray was lost, what is left is run on a new one; and what turned out to be damaged
    while the others ran is computed once they are done. The latter two are the loop of `run`, `Repetitions` its limits.
    """

    def __init__(self, store: Store, options: Options, console: Console) -> None:
        self.store, self.options, self.console = store, options, console
        self.stopping = Stopping(partial(console.print, style="yellow", soft_wrap=True), options.max_failures)
        self.repetitions = Repetitions()
        self.failed: set[str] = set()
        self.slots = 1
        self.where = Where(
            data_folder=str(Path(options.data_folder).absolute()),
            device=options.device,
            loaders=options.loaders,
            provenance={"commit": provenance(Path.cwd()).commit},
            run=uuid4().hex[:12],
            stall_limit=inf if options.stall_limit is None else 60 * options.stall_limit,
            rehearsal=options.rehearsal,
        )
        self.reasons = Reasons(store, self.where.run)

    def run(self, plan: Plan) -> Plan:
        """To the end, whatever that takes; the plan as it stands then."""
        from prunesweep.orchestrator.run.collected import is_current

        with self.stopping.heeding_signals():
            while plan.runnable or not is_current(plan, self.store):
                lost, damaged = self._once(plan)
                plan = plan.refreshed(self.store, self.failed)
                if not plan.runnable or not self.repetitions.allow(lost):
                    return plan
                for line in _why_again(lost, damaged):
                    self.console.print(line, style="yellow" if lost else None, soft_wrap=True)
            return plan

    def _once(self, plan: Plan) -> tuple[ClusterLost | None, Sequence[str]]:
        """Run what is runnable and write the tables: how Ray was lost, if it was, and what turned out to be damaged."""
        from prunesweep.orchestrator.run.collect import Collector

        collector = Collector(plan, self.store)
        try:
            lost = self._execute(plan, collector) if plan.runnable else None
        finally:
            _write_tables(collector)
        return lost, collector.damaged

    def _execute(self, plan: Plan, collector: Collector) -> ClusterLost | None:
        """Run what is runnable of a plan on a Ray; None, or how Ray was lost before the end."""
        self.stopping.check()
        self.stopping.starting = True
        from prunesweep.orchestrator.run import cluster
        from prunesweep.orchestrator.run.ray_internals import require_known

        states = self.stopping.states = StageStates(plan.runnable)
        self.stopping.end_processes = end_sessions
        note = partial(self._note_lost, states)
        try:
            self.console.print("starting Ray" if self.options.address is None else "connecting to the cluster")
            with _claims_released(self.store, states, self.where), cluster.cluster(self.options.address, note):
                from prunesweep.orchestrator.run import tune

                require_known()
                self.stopping.heed_signals()
                self.stopping.starting = False
                self.stopping.check()
                cluster.require_shared(self.store)
                self.slots, node = _room(plan, self.options)
                with self._told(plan, states, collector) as tell:
                    most = self.options.max_concurrent
                    searches = OpenSearches(plan, self.store, tell)
                    queue = StageQueue(plan, self.store, states, searches.hear, node, most, self.reasons)
                    searches.queue = queue
                    tune.execute(queue, self.where, self.slots)
        except cluster.ClusterLost as lost:
            note(str(lost))
            return lost
        finally:
            self.stopping.starting = False
        return None

    def _note_lost(self, states: StageStates, message: str) -> None:
        """Ray is lost, and no process of it is left that could still begin a try: why the stages ended that ran."""
        self.reasons.all_died(states.of(Running), message)

    @contextmanager
    def _told(self, plan: Plan, states: StageStates, collector: Collector) -> Iterator[Listener]:
        """What to call with each event while stages run; time that passes finds a Ray that was lost."""
        from prunesweep.orchestrator.run.cluster import require_alive
        from prunesweep.orchestrator.run.collect import collecting

        display = ProgressDisplay(plan, states, self.console, Pace(), self.options.rehearsal)
        with display as progress, collecting(collector) as collect:

            def tell(event: Event) -> None:
                match event:
                    case Tick():
                        require_alive()
                    case Failed(key):
                        self.failed.add(key)
                    case Grown(more):
                        collector.grow(more)
                for hear in (progress.hear, collect, self.stopping.hear):
                    hear(event)

            yield tell


def _why_again(lost: ClusterLost | None, damaged_paths: Sequence[str]) -> Iterator[str]:
    if lost is not None:
        yield f"{lost}: starting Ray again"
        return
    for path in damaged_paths:
        yield f"{path} is missing or damaged; what is left of it is set aside"
    yield "computing again what was lost"


def _write_tables(collector: Collector) -> None:
    try:
        collector.catch_up()
        collector.write()
    except OSError as error:
        raise UserError(
            f"the tables of {collector.plan.sweep.name} cannot be written ({error}): make room or mend the store; "
            f"{CONTINUES}"
        ) from error


def _room(plan: Plan, options: Options) -> tuple[int, Resources]:
    """How many stages are asked for at once, and the most that one can have; an autoscaler sees what waits."""
    from prunesweep.orchestrator.run import cluster

    if options.autoscaling:
        most = options.max_concurrent or DEMAND
        return min(len(plan.runnable), most), cluster.largest_node(foreseen=_shares(plan))
    nodes = cluster.nodes_alive()
    return _fitting(plan, options, nodes), cluster.largest_node()


def _require_room_here(plan: Plan, options: Options) -> None:
    """Raise `UserError` when this machine is too small for a trial, before Ray is started on it."""
    from prunesweep.orchestrator.run import cluster

    _fitting(plan, options, [cluster.this_machine()])


def _fitting(plan: Plan, options: Options, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many stages fit on the nodes at once; raises `UserError` when one of them fits on none."""
    sweep = plan.sweep
    lower = LOWER if sweep.recorded is None else lowered_by_option(sweep.resources)
    return max(fitting(share, options.loaders, nodes, lower) for share in _shares(plan))


def _shares(plan: Plan) -> list[Resources]:
    return distinct(plan.shares[key] for key in plan.runnable)


@contextmanager
def _claims_released(store: Store, states: StageStates, where: Where) -> Iterator[None]:
    try:
        yield
    finally:
        release(store, states.of(Running), where.run)
