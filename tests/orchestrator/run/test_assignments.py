"""Which worker gets which stage. No Ray is started: a worker is a name and a list of what it was told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.resources import Resources, Shares
from prunesweep.orchestrator.run.assignments import Assignments, Busy
from prunesweep.orchestrator.run.events import Event, Failed, Finished, Progressed, Retried, Started, Tick
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.states import StageStates
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.causes import Cause
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.host import Where
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import Store
from tests.cases import trial

ONE, TWO = Resources(cpus=1), Resources(cpus=2)
NODE = Resources(cpus=4)
BIG = {"cpus": 1, "for": [{"method": "gmp", "cpus": 2}]}


class Process:
    """In the place of a handle of Ray's: keeps what is sent."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []
        self.proceed = self

    def remote(self, task: str) -> None:
        self.tasks.append(json.loads(task))

    @property
    def stages(self) -> list[str]:
        """The keys of the stages that it was given."""
        return [decode_stage(task["stage"]).key for task in self.tasks]


class Workers:
    """Assignments with their queue, and what was told."""

    def __init__(
        self,
        folder: Path,
        trials: Sequence[TrialSpec],
        resources: Mapping[str, Any] | None = None,
        most: int | None = None,
        node: Resources = NODE,
    ):
        self.store = Store(folder / "store")
        self.store.require_writable()
        plan = make_plan(Sweep("x", tuple(trials), 0, Shares(resources or {}), "", Path("x.yaml")), self.store)
        self.events: list[Event] = []
        self.queue = StageQueue(plan, self.store, StageStates(plan.runnable), self.tell, node, most)
        self.assignments = Assignments(self.queue, Where())

    def tell(self, event: Event) -> None:
        if not isinstance(event, Tick):
            self.events.append(event)

    def start(self, worker: str) -> Process:
        share = self.assignments.share_wanted()
        assert share is not None
        self.assignments.request(worker, share)
        process = Process()
        self.assignments.started(worker, process)
        return process

    def finish(self, worker: str) -> None:
        state = self.assignments.workers[worker]
        assert isinstance(state, Busy)
        self.store.publish(self.queue.stages[state.stage], {}, {"metrics": {}})
        self.assignments.report(worker, {"ended": True})

    def method(self, process: Process) -> str:
        """Of the last stage that it was given."""
        return self.queue.stages[process.stages[-1]].root.method.name


@pytest.fixture
def gmp() -> list[TrialSpec]:
    return [trial("gmp", seed=seed) for seed in range(3)]


def test_a_worker_goes_through_a_chain_alone(tmp_path: Path):
    workers = Workers(tmp_path, [trial("imp")])
    process = workers.start("a")
    assert workers.assignments.share_wanted() is None, "what follows is not ready, and then has a worker"
    for _ in range(2):
        workers.finish("a")
        assert workers.assignments.assign_next("a", process)
    workers.finish("a")
    assert not workers.assignments.assign_next("a", process)
    assert workers.queue.over
    assert [type(event) for event in workers.events] == [Started, Finished] * 3
    assert process.stages == [event.key for event in workers.events if isinstance(event, Started)]


def test_as_many_workers_are_asked_for_as_stages_are_ready(tmp_path: Path, gmp: list[TrialSpec]):
    workers = Workers(tmp_path, gmp)
    for name in "abc":
        assert workers.assignments.share_wanted() == ONE
        workers.assignments.request(name, ONE)
    assert workers.assignments.share_wanted() is None
    assert workers.assignments.unneeded_requests() == []
    process = Process()
    workers.assignments.started("a", process)
    for again in (True, True, False):
        workers.finish("a")
        assert workers.assignments.assign_next("a", process) is again
    assert workers.assignments.unneeded_requests() == ["c", "b"], "one worker was quicker than the others could start"


def test_a_stage_is_given_to_workers_of_its_share_only(tmp_path: Path, gmp: list[TrialSpec]):
    workers = Workers(tmp_path, [*gmp[:1], trial("dense")], BIG)
    small, large = Process(), Process()
    for name, share in (("small", ONE), ("large", TWO)):
        workers.assignments.request(name, share)
    workers.assignments.started("small", small)
    workers.finish("small")
    assert not workers.assignments.assign_next("small", small), "GMP is ready, but needs two cores"
    workers.assignments.started("large", large)
    assert workers.method(large) == "gmp"


def test_the_share_of_the_longest_chain_is_looked_for_first(tmp_path: Path, gmp: list[TrialSpec]):
    workers = Workers(tmp_path, [*gmp[:1], trial("imp")], BIG)
    assert list(workers.queue.offers().items()) == [(ONE, 1), (TWO, 1)]
    assert workers.assignments.share_wanted() == ONE


def test_an_idle_worker_counts_as_one_that_comes(tmp_path: Path):
    workers = Workers(tmp_path, [trial("imp"), trial("gmp")], most=2)
    first, second = workers.start("a"), workers.start("b")
    assert {workers.method(first), workers.method(second)} == {"dense", "gmp"}
    idle = "b" if workers.method(second) == "gmp" else "a"
    workers.finish(idle)
    assert not workers.assignments.assign_next(idle, second)
    assert list(workers.assignments.idle_since()) == [idle]
    workers.finish("a" if idle == "b" else "b")
    assert workers.assignments.share_wanted() is None, "the idle one takes the phase that is ready now"
    assert workers.assignments.assign_next(idle, second)
    assert idle not in workers.assignments.idle_since()


def test_the_limit_of_concurrent_stages_holds(tmp_path: Path, gmp: list[TrialSpec]):
    assert Workers(tmp_path / "two", gmp, most=2).queue.offers() == {ONE: 2}
    workers = Workers(tmp_path, gmp, most=1)
    workers.start("a")
    assert workers.assignments.share_wanted() is None
    workers.finish("a")
    assert workers.queue.offers() == {ONE: 1}
    assert workers.assignments.share_wanted() is None, "the worker that is idle now takes it"
    workers.assignments.dismissed("a")
    assert workers.assignments.share_wanted() == ONE


def test_a_worker_that_died_gives_its_stage_back(tmp_path: Path, gmp: list[TrialSpec]):
    workers = Workers(tmp_path, gmp[:1])
    process = workers.start("a")
    workers.assignments.report("a", {"ended": False, "epoch": 2, "began": 0})
    workers.assignments.died("a", Cause.KILLED, "gone")
    key = process.stages[0]
    assert workers.events == [Started(key), Progressed(key, 2), Retried(key, Cause.KILLED, "gone")]
    assert workers.assignments.share_wanted() == ONE


def test_workers_that_cannot_start_use_up_the_tries_of_a_stage(tmp_path: Path, gmp: list[TrialSpec]):
    """Else they would be looked for, for ever."""
    workers = Workers(tmp_path, gmp[:1])
    for number in range(20):
        if (share := workers.assignments.share_wanted()) is None:
            break
        workers.assignments.request(str(number), share)
        workers.assignments.died(str(number), Cause.INTERNAL, "no module named so")
    assert workers.queue.over
    assert isinstance(workers.events[-1], Failed)


def test_a_worker_that_goes_on_from_a_checkpoint_says_from_which_epoch(tmp_path: Path, gmp: list[TrialSpec]):
    workers = Workers(tmp_path, gmp[:1])
    process = workers.start("a")
    workers.assignments.report("a", {"ended": False, "epoch": 0, "began": None})
    workers.assignments.report("a", {"ended": False, "epoch": 5, "began": 4})
    assert workers.events == [Started(process.stages[0]), Progressed(process.stages[0], 5, 4)]


def test_an_idle_worker_that_dies_costs_no_stage_a_try(tmp_path: Path, gmp: list[TrialSpec]):
    workers = Workers(tmp_path, gmp[:1], most=1)
    workers.start("a")
    workers.assignments.request("b", ONE)
    workers.assignments.started("b", Process())
    workers.finish("a")
    workers.assignments.died("b", Cause.KILLED, "gone")
    assert [type(event) for event in workers.events] == [Started, Finished]


@pytest.mark.parametrize(
    ("given", "threads", "device"),
    [({"cpus": 2.5, "gpus": 0.25}, 2, "cuda"), ({"cpus": 0.5}, 1, "cpu")],
)
def test_threads_are_those_of_the_sweep_also_where_a_retry_has_more(
    tmp_path: Path, gmp: list[TrialSpec], given: dict[str, float], threads: int, device: str
):
    """The last bits of the sums depend on the threads. The retry gets twice the cores, and takes no more threads."""
    workers = Workers(tmp_path, gmp[:1], given, node=Resources(cpus=8, gpus=1))
    first = workers.start("a")
    workers.assignments.report("a", {"ended": True, "cause": Cause.HOST_MEMORY, "message": "too much"})
    workers.assignments.dismissed("a")
    second = workers.start("b")
    share = workers.assignments.workers["b"].share
    assert share.cpus == 2 * given["cpus"]
    for process in (first, second):
        (task,) = process.tasks
        assert (task["where"]["threads"], task["where"]["device"]) == (threads, device)
