"""Searches through the real queue, without Ray: killed anywhere, on any number of slots, they come to the same.

Results are made up from the stages' keys; nothing is trained, and time is counted in epochs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.events import Event, Grown
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.reasons import Ended
from prunesweep.orchestrator.run.searching import OpenSearches
from prunesweep.orchestrator.run.states import StageStates
from prunesweep.orchestrator.search.decision import Decision
from prunesweep.orchestrator.sweepfile.read import sweep_of
from prunesweep.workers.spec import PartStage, Stage
from prunesweep.workers.store import Store

SETTINGS = {
    "name": "tuned",
    "dataset": "digits",
    "model": "resnet8",
    "seeds": 2,
    "train": {"epochs": 10, "batch_size": 64},
    "trials": [
        {"method": "dense"},
        {
            "method": ["gmp", "str"],
            "sparsity": [0.9, 0.95],
            "search": {
                "space": {"train.lr": {"log": [0.01, 0.5]}, "train.momentum": {"uniform": [0.8, 0.95]}},
                "budget": "6x",
                "algorithm": "halving",
            },
        },
    ],
}
SETTINGS["trials"][1]["s_initial"] = -3.0  # of str


def settings(**search: object) -> dict:
    gmp, str_ = ({**SETTINGS["trials"][1], "method": name} for name in ("gmp", "str"))
    del gmp["s_initial"]
    blocks = [{**block, "search": {**block["search"], **search}} for block in (gmp, str_)]
    return {**SETTINGS, "trials": [SETTINGS["trials"][0], *blocks]}


@dataclass
class Slots:
    """A run on a store: stages take as many turns as they have epochs, those of parts that are there left out."""

    plan: Plan
    store: Store
    count: int
    diverges: float = 0.0

    def __post_init__(self) -> None:
        self.heard: list[Event] = []
        searches = OpenSearches(self.plan, self.store, self.heard.append)
        states = StageStates(self.plan.runnable)
        self.queue = searches.queue = StageQueue(
            self.plan, self.store, states, searches.hear, Resources(cpus=self.count), None
        )
        self.running: dict[str, int] = {}
        self.busy: list[int] = []
        """How many slots were busy in each turn."""

    def turns(self) -> Iterator[None]:
        while True:
            while len(self.running) < self.count and (key := self.queue.take()) is not None:
                self.running[key] = max(self.queue.plan.epochs(key), 1)
            if not self.running:
                assert self.queue.over
                return
            self.busy.append(len(self.running))
            for key in sorted(self.running):
                self.running[key] -= 1
            for key in [key for key, left in self.running.items() if not left]:
                del self.running[key]
                self._finish(self.queue.stages[key])
            yield

    def _finish(self, stage: Stage) -> None:
        luck = random.Random(stage.key)
        if luck.random() < self.diverges:
            attempt = self.store.begin(stage)
            self.store.fail(stage.key, attempt.__class__(**{**vars(attempt), "cause": "diverged", "message": "nan"}))
            self.queue.ended(stage.key, Ended("diverged", "nan"))
            return
        score = luck.random()
        copy = {"pruned_validation_loss": luck.random()}
        metrics = {"validation_accuracy": score, **(copy if isinstance(stage, PartStage) else {"test_accuracy": 0.5})}
        self.store.publish(stage, {}, {"metrics": metrics})
        self.queue.ended(stage.key, Ended())


def run(store: Store, slots: int, kill_at: list[int] | None = None, diverges: float = 0.0, **search: object) -> Plan:
    """To the end; killed after these turns, and begun again from what the store has."""
    sweep = sweep_of(settings(**search))
    for turns in kill_at or ():
        killed = Slots(make_plan(sweep, store), store, slots, diverges).turns()
        for _, _ in zip(range(turns), killed, strict=False):
            pass
    for _ in Slots(make_plan(sweep, store), store, slots, diverges).turns():
        pass
    return make_plan(sweep, store)


def decided(plan: Plan) -> list[Decision]:
    return list(plan.decisions)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Plan:
    store = Store(tmp_path_factory.mktemp("straight"))
    store.require_writable()
    return run(store, 2)


def test_a_search_runs_to_its_winners(straight: Plan):
    assert straight.counts.undecided == 0
    assert straight.to_run == {}
    assert len(straight.decisions) == 4
    assert straight.counts.done == straight.counts.trials == 2 + 4 * 2, "dense, and each winner with both seeds"
    for decision in straight.decisions:
        assert decision.winner is not None
        assert {trial.seed for trial in decision.trials} == {0, 1}
        assert {trial.key for trial in decision.trials} <= straight.last.keys()


@pytest.mark.parametrize("slots", [1, 7, 200])
def test_any_number_of_slots_decides_the_same(slots: int, straight: Plan, tmp_path: Path):
    store = Store(tmp_path)
    store.require_writable()
    assert decided(run(store, slots)) == decided(straight)


def test_thirty_kills_change_nothing(straight: Plan, tmp_path: Path):
    store = Store(tmp_path)
    store.require_writable()
    chance = random.Random(3)
    again = run(store, 3, [chance.randrange(1, 12) for _ in range(30)])
    assert decided(again) == decided(straight)
    assert again.sweep.trials == straight.sweep.trials


def test_candidates_that_diverge_are_not_run_again_and_change_nothing_either(tmp_path: Path):
    plans = []
    for slots, kills in ((2, []), (5, [1, 3, 4, 2, 6, 5])):
        store = Store(tmp_path / f"{slots}")
        store.require_writable()
        plan = run(store, slots, kills, diverges=0.2)
        assert plan.settled, "some have diverged"
        assert not plan.settled & plan.to_run.keys()
        plans.append(plan)
    assert decided(plans[0]) == decided(plans[1])


def test_winners_are_trials_from_the_moment_they_are_known(tmp_path: Path):
    store = Store(tmp_path)
    store.require_writable()
    slots = Slots(make_plan(sweep_of(settings()), store), store, 4)
    for _ in slots.turns():
        pass
    counts = [event.plan.counts.trials for event in slots.heard if isinstance(event, Grown)]
    assert counts[0] == 2
    assert counts == sorted(counts)
    assert counts[-1] == 10


def test_winners_are_in_the_order_of_the_searches_whichever_was_decided_first(tmp_path: Path):
    """So are the rows of tables, which a run writes by its plan as that grew. Here STR, the last, is decided before."""
    store, asked = Store(tmp_path), settings()
    store.require_writable()
    dense, gmp, str_ = asked["trials"]
    for blocks in ([str_], [dense, gmp, str_]):
        sweep = sweep_of({**asked, "trials": blocks})
        slots = Slots(make_plan(sweep, store), store, 4)
        for _ in slots.turns():
            pass
    (*_, grown) = (event.plan for event in slots.heard if isinstance(event, Grown))
    assert [trial.method.name for trial in grown.sweep.trials] == ["dense"] * 2 + ["gmp"] * 4 + ["str"] * 4
    assert grown.sweep.trials == make_plan(sweep, store).sweep.trials


def test_parts_cost_only_the_epochs_that_they_add(straight: Plan):
    """Of 10 epochs rungs are at 1 and 3: what a candidate had trained is not counted, and not trained, again."""
    search = straight.decisions[0].search
    counts = [len(step.candidates) for step in straight.decisions[0].rounds]
    assert [step.epoch for step in straight.decisions[0].rounds] == [1, 3, 10]
    assert counts == [COUNT, COUNT // 3, COUNT // 9]
    assert search.base.method.name == "gmp"
    assert straight.decisions[0].spent == COUNT + 2 * (COUNT // 3) + 7 * (COUNT // 9)


COUNT = 26
"""26 + 2 * 8 + 7 * 2 = 56 of 60 epochs; with 27 it would be 27 + 18 + 21 = 66."""


def test_eight_slots_are_busy_while_more_than_one_of_twelve_searches_is_open(tmp_path: Path):
    """A synchronous rung leaves workers idle, which take what other searches ask for: measured 99 %."""
    store = Store(tmp_path)
    store.require_writable()
    sparsities = [round(0.3 + 0.05 * step, 2) for step in range(12)]
    block = {**SETTINGS["trials"][1], "method": "gmp", "sparsity": sparsities}
    del block["s_initial"]
    slots = Slots(make_plan(sweep_of({**SETTINGS, "trials": [block]}), store), store, 8)
    still_open: list[int] = []
    for _ in slots.turns():
        still_open.append(slots.queue.plan.counts.undecided)
    busy = [count for count, searches in zip(slots.busy, still_open, strict=False) if searches > 1]
    assert len(busy) > 50
    assert sum(busy) / (8 * len(busy)) >= 0.95
