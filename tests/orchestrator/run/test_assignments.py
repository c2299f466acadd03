"""Which worker gets which stage. No Ray is started: a worker is a name and a list of what it was told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.resources import Resources, Shares
from prunesweep.orchestrator.run import assignments as desks
from prunesweep.orchestrator.run.assignments import Desk
from prunesweep.orchestrator.run.events import Event, Failed, Finished, Progressed, Retried, Started, Tick
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.sweepfile.read import Sweep
from prunesweep.workers.causes import Cause
from prunesweep.workers.host import Where
from prunesweep.workers.spec import TrialSpec, decode_stage
from prunesweep.workers.store import Store
from tests.cases import trial

ONE, TWO = Resources(cpus=1), Resources(cpus=2)
BIG = {"cpus": 1, "for": [{"method": "gmp", "cpus": 2}]}


class Process:
    """In the place of a handle of Ray's: keeps what is sent."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.proceed = self

    def remote(self, task: str) -> None:
        self.told.append(decode_stage(json.loads(task)["stage"]).key)


class Office:
    """A desk with its queue, and what was heard."""

    def __init__(self, folder: Path, trials: Sequence[TrialSpec], resources: object = None, most: int | None = None):
        self.store = Store(folder / "store")
        self.store.require_writable()
        plan = make_plan(Sweep("x", tuple(trials), 0, Shares(resources or {}), "", Path("x.yaml")), self.store)
        self.heard: list[Event] = []
        self.desk = Desk(StageQueue(plan, self.store, self.hear, Resources(cpus=4), most), Where())

    def hear(self, event: Event) -> None:
        if not isinstance(event, Tick):
            self.heard.append(event)

    def worker(self, name: str) -> Process:
        share = self.desk.wanted()
        assert share is not None
        self.desk.ask(name, share)
        process = Process()
        self.desk.arrived(name, process)
        return process

    def finish(self, name: str) -> None:
        key = self.desk.stages[name]
        self.store.publish(self.desk.queue.stages[key], {}, {"metrics": {}})
        self.desk.heard(name, {"ended": True})


@pytest.fixture
def gmp() -> list[TrialSpec]:
    return [trial("gmp", seed=seed) for seed in range(3)]


def test_a_worker_goes_through_a_chain_alone(tmp_path: Path):
    office = Office(tmp_path, [trial("imp")])
    process = office.worker("a")
    assert office.desk.wanted() is None, "what follows is not ready, and then has a worker"
    for _ in range(2):
        office.finish("a")
        assert office.desk.give("a", process)
    office.finish("a")
    assert not office.desk.give("a", process)
    assert office.desk.queue.over
    assert [type(event) for event in office.heard] == [Started, Finished] * 3
    assert process.told == [event.key for event in office.heard if isinstance(event, Started)]


def test_as_many_workers_are_asked_for_as_stages_are_ready(tmp_path: Path, gmp: list[TrialSpec]):
    office = Office(tmp_path, gmp)
    for name in "abc":
        assert office.desk.wanted() == ONE
        office.desk.ask(name, ONE)
    assert office.desk.wanted() is None
    assert office.desk.surplus() == []
    process = Process()
    office.desk.arrived("a", process)
    for again in (True, True, False):
        office.finish("a")
        assert office.desk.give("a", process) is again
    assert office.desk.surplus() == ["c", "b"], "one worker was quicker than the others could start"


def test_a_stage_is_given_to_workers_of_its_share_only(tmp_path: Path, gmp: list[TrialSpec]):
    office = Office(tmp_path, [*gmp[:1], trial("dense")], BIG)
    small, large = Process(), Process()
    for name, share in (("small", ONE), ("large", TWO)):
        office.desk.ask(name, share)
    office.desk.arrived("small", small)
    office.finish("small")
    assert not office.desk.give("small", small), "GMP is ready, but needs two cores"
    office.desk.arrived("large", large)
    assert office.desk.queue.stages[large.told[0]].root.method.name == "gmp"


def test_the_share_of_the_longest_chain_is_looked_for_first(tmp_path: Path, gmp: list[TrialSpec]):
    office = Office(tmp_path, [*gmp[:1], trial("imp")], BIG)
    assert list(office.desk.queue.offers().items()) == [(ONE, 1), (TWO, 1)]
    assert office.desk.wanted() == ONE


def test_an_idle_worker_counts_as_one_that_comes(tmp_path: Path):
    office = Office(tmp_path, [trial("imp"), trial("gmp")], most=2)
    first, second = office.worker("a"), office.worker("b")
    names = {office.desk.queue.stages[process.told[0]].root.method.name for process in (first, second)}
    assert names == {"dense", "gmp"}
    idle = "b" if office.desk.queue.stages[second.told[0]].root.method.name == "gmp" else "a"
    office.finish(idle)
    assert not office.desk.give(idle, second)
    assert list(office.desk.idle) == [idle]
    office.finish("a" if idle == "b" else "b")
    assert office.desk.wanted() is None, "the idle one takes the phase that is ready now"
    assert office.desk.give(idle, second)
    assert not office.desk.idle


def test_the_limit_of_concurrent_stages_holds(tmp_path: Path, gmp: list[TrialSpec]):
    assert Office(tmp_path / "two", gmp, most=2).desk.queue.offers() == {ONE: 2}
    office = Office(tmp_path, gmp, most=1)
    office.worker("a")
    assert office.desk.wanted() is None
    office.finish("a")
    assert office.desk.wanted() == ONE


def test_a_worker_that_died_gives_its_stage_back(tmp_path: Path, gmp: list[TrialSpec]):
    office = Office(tmp_path, gmp[:1])
    process = office.worker("a")
    office.desk.heard("a", {"ended": False, "epoch": 2})
    office.desk.died("a", Cause.KILLED, "gone")
    key = process.told[0]
    assert office.heard == [Started(key), Progressed(key, 2), Retried(key, Cause.KILLED, "gone")]
    assert office.desk.wanted() == ONE


def test_workers_that_cannot_start_use_up_the_tries_of_a_stage(tmp_path: Path, gmp: list[TrialSpec]):
    """Else they would be looked for, for ever."""
    office = Office(tmp_path, gmp[:1])
    for number in range(20):
        if (share := office.desk.wanted()) is None:
            break
        office.desk.ask(str(number), share)
        office.desk.died(str(number), Cause.INTERNAL, "no module named so")
    assert office.desk.queue.over
    assert isinstance(office.heard[-1], Failed)


def test_threads_are_those_of_the_sweep_also_where_a_retry_has_more() -> None:
    assert desks._at_home(Where(device="auto"), Resources(cpus=2.5, gpus=0.5)).threads == 2
    assert desks._at_home(Where(device="auto"), Resources(cpus=0.5)).threads == 1
    assert desks._at_home(Where(device="auto"), Resources(gpus=0.5)).device == "cuda"
    assert desks._at_home(Where(device="auto"), Resources()).device == "cpu"
