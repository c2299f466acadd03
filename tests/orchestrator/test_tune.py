"""The searcher alone: which stage it hands out when. No Ray is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ray.tune.search import Searcher

from orchestrator.events import Blocked, Event, Failed, Finished, Progressed, Tick
from orchestrator.plan import Plan, make_plan
from orchestrator.sweep import Resources, Sweep
from orchestrator.tune import ReadyStages
from tests.cases import trial
from workers.host import Where
from workers.spec import PruneStage, Stage, TrialSpec
from workers.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def plan_of(store: Store, *trials: TrialSpec) -> Plan:
    return make_plan(Sweep("x", trials, 0, Resources(), "", Path("x.yaml")), store)


class Heard(list[Event]):
    def __call__(self, event: Event) -> None:
        if not isinstance(event, Tick):
            self.append(event)


def take(stages: ReadyStages, name: str) -> Stage | None:
    """What the searcher gives to a Tune trial of that name; None where it has nothing now."""
    given = stages.suggest(name)
    return stages.stages[stages.running[name]] if isinstance(given, dict) else None


def finish(stages: ReadyStages, store: Store, name: str) -> None:
    store.publish(stages.stages[stages.running[name]], {}, {"metrics": {}})
    stages.on_trial_complete(name, {"epoch": 1})


def test_children_wait_for_their_parent_and_the_search_ends(store: Store):
    heard = Heard()
    stages = ReadyStages(plan_of(store, trial("imp")), store, Where(), heard)
    root = take(stages, "a")
    assert root is not None
    assert root.parent is None
    assert stages.suggest("b") is None, "its child is not ready, but may become so"
    finish(stages, store, "a")
    first = take(stages, "b")
    assert isinstance(first, PruneStage)
    finish(stages, store, "b")
    second = take(stages, "c")
    assert second is not None
    assert second.parent == first
    finish(stages, store, "c")
    assert stages.suggest("d") == Searcher.FINISHED
    assert heard == [Finished(stage.key) for stage in (root, first, second)]


def test_the_longest_chain_goes_first(store: Store):
    """dense (6 epochs, then 3 more of phases), GMP (6 epochs): the chain must not run alone at the end."""
    stages = ReadyStages(plan_of(store, trial("gmp"), trial("imp")), store, Where(), Heard())
    first, second = take(stages, "a"), take(stages, "b")
    assert first is not None
    assert second is not None
    assert (first.root.method.name, second.root.method.name) == ("dense", "gmp")


def test_a_stage_whose_result_is_missing_blocks_its_descendants(store: Store):
    heard = Heard()
    stages = ReadyStages(plan_of(store, trial("imp"), trial("gmp")), store, Where(), heard)
    root = take(stages, "a")
    assert root is not None
    attempt = store.begin(root)
    store.fail(root.key, replace(attempt, cause="diverged", message="the loss became nan"))
    stages.on_trial_complete("a", {"epoch": 1})
    assert heard[0] == Failed(root.key, "diverged", "the loss became nan")
    assert [type(event) for event in heard[1:]] == [Blocked, Blocked]
    assert all(isinstance(event, Blocked) and event.culprit == root.key for event in heard[1:])
    assert take(stages, "b") is not None, "GMP is not concerned"
    finish(stages, store, "b")
    assert stages.suggest("c") == Searcher.FINISHED


def test_a_worker_that_died_is_noted_in_the_store(store: Store):
    heard = Heard()
    stages = ReadyStages(plan_of(store, trial("gmp")), store, Where(), heard)
    stage = take(stages, "a")
    assert stage is not None
    store.begin(stage)
    stages.on_trial_complete("a", None, error=True)
    assert heard == [Failed(stage.key, "worker died", "killed, out of memory, or its node was lost")]
    assert store.attempts(stage.key)[-1].cause == "worker died"


def test_an_error_after_the_result_was_published_is_no_failure(store: Store):
    heard = Heard()
    stages = ReadyStages(plan_of(store, trial("gmp")), store, Where(), heard)
    stage = take(stages, "a")
    assert stage is not None
    store.publish(stage, {}, {"metrics": {}})
    stages.on_trial_complete("a", None, error=True)
    assert heard == [Finished(stage.key)]


def test_what_is_done_is_not_handed_out(store: Store):
    plan = plan_of(store, trial("imp"))
    root = next(iter(plan.stages.values()))
    store.publish(root, {}, {"metrics": {}})
    stages = ReadyStages(plan_of(store, trial("imp")), store, Where(), Heard())
    assert isinstance(take(stages, "a"), PruneStage)


def test_reports_are_told(store: Store):
    heard = Heard()
    stages = ReadyStages(plan_of(store, trial("gmp")), store, Where(), heard)
    stage = take(stages, "a")
    assert stage is not None
    stages.on_trial_result("a", {"epoch": 2})
    assert heard == [Progressed(stage.key, 2)]


def test_a_result_whose_parent_is_lost_is_not_done(store: Store):
    """A row needs its whole path, so the parent is run again; the child's result then counts once more."""
    plan = plan_of(store, trial("random"))
    root, child = plan.stages.values()
    for stage in (root, child):
        store.publish(stage, {}, {"metrics": {}})
    store.remove("stages", root.key, "result.json")
    assert list(plan_of(store, trial("random")).to_run) == [root.key, child.key]
    store.publish(root, {}, {"metrics": {}})
    assert plan_of(store, trial("random")).to_run == {}
