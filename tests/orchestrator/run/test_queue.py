"""The queue alone: which stage runs when, and what becomes of those that end. No Ray is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.resources import Resources, Shares
from prunesweep.orchestrator.run.events import (
    Blocked,
    Elsewhere,
    Event,
    Failed,
    Finished,
    Listener,
    Progressed,
    Retried,
    StoreLost,
    Tick,
)
from prunesweep.orchestrator.run.failures import POLICIES, larger
from prunesweep.orchestrator.run.queue import StageQueue
from prunesweep.orchestrator.run.reasons import Ended, Reasons
from prunesweep.orchestrator.run.states import BehindFailure, Done, GivenUp, StageStates
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.causes import Cause
from prunesweep.workers.claims import Claim, Holding
from prunesweep.workers.files import Unavailable
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.spec import PartStage, PruneStage, Stage, TrialSpec
from prunesweep.workers.store import State, Store
from tests.cases import trial


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def plan_of(store: Store, *trials: TrialSpec) -> Plan:
    return make_plan(Sweep("x", trials, 0, Shares({}), "", Path("x.yaml")), store)


class Heard(list[Event]):
    def __call__(self, event: Event) -> None:
        if not isinstance(event, Tick):
            self.append(event)


def new_queue(store: Store, plan: Plan, tell: Listener, node: Resources, most: int | None = None) -> StageQueue:
    return StageQueue(plan, store, StageStates(plan.runnable), tell, node, most)


def queue_of(store: Store, *trials: TrialSpec, tell: Listener | None = None) -> StageQueue:
    store.require_writable()
    return new_queue(store, plan_of(store, *trials), Heard() if tell is None else tell, Resources(cpus=4, gpus=1))


def take(queue: StageQueue) -> Stage | None:
    key = queue.take()
    return None if key is None else queue.stages[key]


def finish(queue: StageQueue, stage: Stage | None) -> None:
    assert stage is not None
    queue.store.publish(stage, {}, {"metrics": {}})
    queue.ended(stage.key, Ended())


def fail(queue: StageQueue, stage: Stage, cause: str) -> None:
    """As a worker does that could say why."""
    attempt = queue.store.begin(stage)
    queue.store.fail(stage.key, replace(attempt, cause=cause, message="so it is"))
    queue.ended(stage.key, Ended(cause, "so it is"))


def test_children_wait_for_their_parent_and_the_queue_ends(store: Store):
    heard = Heard()
    queue = queue_of(store, trial("imp"), tell=heard)
    root = take(queue)
    assert root is not None
    assert root.parent is None
    assert take(queue) is None, "its child is not ready, but may become so"
    assert not queue.over
    finish(queue, root)
    first = take(queue)
    assert isinstance(first, PruneStage)
    finish(queue, first)
    second = take(queue)
    assert second is not None
    assert second.parent == first
    finish(queue, second)
    assert take(queue) is None
    assert queue.over
    assert heard == [Finished(stage.key) for stage in (root, first, second)]


def ticket(k: int) -> TrialSpec:
    method = IMP(rewind_epoch=k, retrain_schedule="LRW")
    return replace(trial("imp"), method=method.choice("imp"))


def test_the_dense_training_continues_from_the_parts_that_rewinding_needs(store: Store):
    """6 dense epochs, once; 4 and 2 of tickets from epochs 2 and 4. A dense trial that stands first changes nothing."""
    plan = plan_of(store, trial("dense"), ticket(4), ticket(2))
    dense, late, early = (plan.stages[plan.last[t.key]] for t in plan.sweep.trials)
    assert (plan.counts.epochs, plan.counts.epochs_unshared) == (6 + 2 + 4, 6 + 8 + 10)
    queue = new_queue(store, plan, Heard(), Resources(cpus=4))
    first, second = PartStage(dense, 2), PartStage(dense, 4)
    for stage in (first, second, dense):
        assert take(queue) == stage
        assert take(queue) is None, "all others wait"
        finish(queue, stage)
    assert {take(queue), take(queue)} == {early, late}
    assert plan.parts[dense.key] == [first, second]


def test_a_dense_training_that_is_done_waits_for_nothing_and_a_ticket_for_its_part(store: Store):
    store.require_writable()
    (dense,) = plan_of(store, trial("dense")).stages.values()
    store.publish(dense, {}, {"metrics": {}})
    queue = queue_of(store, trial("dense"), ticket(2))
    assert take(queue) == PartStage(dense, 2)
    assert take(queue) is None


def test_a_part_that_is_lost_is_trained_again_before_its_ticket(store: Store):
    queue = queue_of(store, ticket(2))
    for _ in range(2):
        finish(queue, take(queue))
    last = take(queue)
    part = PartStage(last.root, 2)
    store.remove_tree("stages", part.key)
    queue.ended(last.key, Ended(Cause.PARENT_DAMAGED, "it is gone"))
    assert take(queue) == part
    assert take(queue) is None
    finish(queue, part)
    assert take(queue) == last


def test_the_longest_chain_goes_first(store: Store):
    """dense (6 epochs, then 3 more of phases), GMP (6 epochs): the chain must not run alone at the end."""
    queue = queue_of(store, trial("gmp"), trial("imp"))
    names = [stage.root.method.name for stage in (take(queue), take(queue)) if stage]
    assert names == ["dense", "gmp"]


def test_a_stage_that_failed_blocks_its_descendants(store: Store):
    heard = Heard()
    queue = queue_of(store, trial("imp"), trial("gmp"), tell=heard)
    root = take(queue)
    assert root is not None
    fail(queue, root, Cause.DIVERGED)
    assert heard[0] == Failed(root.key, "diverged", "so it is")
    assert [type(event) for event in heard[1:]] == [Blocked, Blocked]
    assert all(isinstance(event, Blocked) and event.culprit == root.key for event in heard[1:])
    finish(queue, take(queue))  # GMP is not concerned
    assert queue.over
    assert queue.states[root.key] == GivenUp("diverged")
    assert list(queue.states.of(BehindFailure).values()) == [BehindFailure(root.key)] * 2
    assert len(queue.states.of(Done)) == 1


@pytest.mark.parametrize("cause", list(Cause))
def test_a_failure_is_tried_again_as_often_as_its_cause_allows(cause: Cause, store: Store):
    heard = Heard()
    queue = queue_of(store, replace(trial("gmp"), seed=1), tell=heard)
    tries = 0
    while (stage := take(queue)) is not None:
        tries += 1
        fail(queue, stage, cause)
    assert queue.over
    assert [type(event) for event in heard] == [Retried] * (tries - 1) + [Failed]
    shares = 2 if cause is Cause.HOST_MEMORY else 0
    again = {Cause.GPU_MEMORY: 0, Cause.HOST_MEMORY: shares}.get(cause, POLICIES[cause].again)
    assert tries == 1 + again, "without a GPU there is no larger share of one; of four cores there is one of 2 and of 4"


def test_every_cause_has_a_policy():
    assert set(POLICIES) == set(Cause)


def test_after_running_out_of_memory_a_stage_gets_a_larger_share(store: Store):
    asked, node = Resources(cpus=1, gpus=0.25), Resources(cpus=4, gpus=8)
    shares, share = [], larger(asked, Cause.GPU_MEMORY, node)
    while share is not None:
        shares.append(share.gpus)
        share = larger(share, Cause.GPU_MEMORY, node)
    assert shares == [0.5, 1.0]
    queue = queue_of(store, trial("gmp"))
    stage = take(queue)
    assert stage is not None
    assert queue.shares.share(stage.key).cpus == 1
    fail(queue, stage, Cause.HOST_MEMORY)
    assert take(queue) == stage
    assert queue.shares.share(stage.key).cpus == 2


def test_stages_like_one_that_ran_out_of_memory_get_more_at_once(store: Store):
    """Two that were running already fail as well, and the share grows once for both."""
    queue = queue_of(store, *(replace(trial("gmp"), seed=seed) for seed in range(3)), replace(trial("dnw"), seed=9))
    one, two = take(queue), take(queue)
    assert one is not None
    assert two is not None
    fail(queue, one, Cause.HOST_MEMORY)
    fail(queue, two, Cause.HOST_MEMORY)
    stages = [take(queue) for _ in range(4)]
    assert {stage.root.method.name: queue.shares.share(stage.key).cpus for stage in stages if stage} == {
        "gmp": 2,
        "dnw": 1,
    }


def test_only_tries_that_bring_a_stage_no_further_count(store: Store):
    """On machines that come and go a stage of 20 epochs may be killed more often than three times."""
    heard = Heard()
    queue = queue_of(store, trial("gmp"), tell=heard)
    for epoch in (1, 2, 3, 4, 5):
        stage = take(queue)
        assert stage is not None
        queue.progressed(stage.key, epoch)
        fail(queue, stage, Cause.KILLED)
    for _ in range(POLICIES[Cause.KILLED].again):
        stage = take(queue)
        assert stage is not None
        queue.progressed(stage.key, 5)  # as far as before
        fail(queue, stage, Cause.KILLED)
    assert [type(event) for event in heard if not isinstance(event, Progressed)] == [*[Retried] * 7, Failed]
    assert queue.over


def test_what_was_learned_of_memory_holds_in_the_next_run_as_far_as_the_cluster_has_it(store: Store):
    queue = queue_of(store, trial("gmp"))
    stage = take(queue)
    assert stage is not None
    for _ in range(2):
        fail(queue, stage, Cause.HOST_MEMORY)
        assert take(queue) == stage
    again = queue_of(store, replace(trial("gmp"), seed=5), trial("dnw"))
    assert [again.shares.share(key).cpus for key in again.stages] == [4, 1]
    smaller = new_queue(store, again.plan, Heard(), Resources(cpus=2))
    assert [smaller.shares.share(key).cpus for key in smaller.stages] == [2, 1]
    store.write(b"{}", "x", "shares.json")
    assert [queue_of(store, trial("gmp")).shares.share(key).cpus for key in queue.stages] == [1]


def test_of_the_ready_stages_only_so_many_run_at_once(store: Store):
    plan = plan_of(store, *(replace(trial("gmp"), seed=seed) for seed in range(3)))
    store.require_writable()
    queue = new_queue(store, plan, Heard(), Resources(cpus=4), most=2)
    one, two, three = take(queue), take(queue), take(queue)
    assert one is not None
    assert two is not None
    assert three is None
    finish(queue, two)
    assert take(queue) is not None
    assert take(queue) is None
    assert not queue.over


def test_a_worker_that_died_is_noted_in_the_store(store: Store):
    heard = Heard()
    queue = queue_of(store, trial("gmp"), tell=heard)
    for _ in range(POLICIES[Cause.KILLED].again + 1):
        stage = take(queue)
        assert stage is not None
        store.begin(stage)
        queue.ended(stage.key, Ended(Cause.KILLED, "its process was killed", died=True))
        assert store.attempts(stage.key)[-1].cause == "killed"
    assert isinstance(heard[-1], Failed)


def test_a_worker_that_died_before_its_first_note_leaves_its_cause(store: Store):
    """Else the run ended without one, and the stage counted as one that nobody has tried."""
    queue = queue_of(store, trial("gmp"))
    stage = take(queue)
    assert stage is not None
    queue.ended(stage.key, Ended(Cause.KILLED, "its process was killed", died=True))
    (attempt,) = store.attempts(stage.key)
    assert (attempt.cause, attempt.message, attempt.process) == ("killed", "its process was killed", 0)
    assert store.states([stage.key]) == {stage.key: State.FAILED}


def test_a_death_is_not_noted_in_the_attempt_of_another_run(store: Store):
    queue = queue_of(store, trial("gmp"))
    stage = take(queue)
    assert stage is not None
    others = store.begin(stage, store.new_attempt(stage.key, "another"))
    queue.ended(stage.key, Ended(Cause.KILLED, "", died=True))
    attempts = store.attempts(stage.key)
    assert attempts[0] == others, "it may still run"
    assert [attempt.cause for attempt in attempts] == [None, "killed"]


def test_a_death_under_the_next_ray_is_noted_beside_those_under_the_one_before(store: Store):
    reasons, plan = Reasons(store, "run"), plan_of(store, trial("gmp"))
    for message in ("Ray's raylet ended", "Ray's gcs_server ended"):
        queue = StageQueue(plan, store, StageStates(plan.runnable), Heard(), Resources(), None, reasons)
        stage = take(queue)
        assert stage is not None
        reasons.all_died([stage.key], message)
    assert [attempt.message for attempt in store.attempts(stage.key)] == [
        "Ray's raylet ended",
        "Ray's gcs_server ended",
    ]


def test_an_error_after_the_result_was_published_is_no_failure(store: Store):
    heard = Heard()
    queue = queue_of(store, trial("gmp"), tell=heard)
    stage = take(queue)
    assert stage is not None
    store.publish(stage, {}, {"metrics": {}})
    queue.ended(stage.key, Ended(Cause.KILLED, "", died=True))
    assert heard == [Finished(stage.key)]


def test_what_is_done_is_not_handed_out(store: Store):
    plan = plan_of(store, trial("imp"))
    root = next(iter(plan.stages.values()))
    store.publish(root, {}, {"metrics": {}})
    assert isinstance(take(queue_of(store, trial("imp"))), PruneStage)


def test_a_parent_found_damaged_runs_again_and_then_its_child(store: Store):
    """Once, though two children find it; and a child that was done by then is left alone."""
    heard = Heard()
    trials = trial("random", 0.5), trial("random", 0.75), trial("random", 0.9)
    queue = queue_of(store, *trials, tell=heard)
    root = take(queue)
    finish(queue, root)
    assert root is not None
    done, one, two = take(queue), take(queue), take(queue)
    assert done is not None
    assert one is not None
    assert two is not None
    finish(queue, done)
    store.remove("stages", root.key, "result.json")
    fail(queue, one, Cause.PARENT_DAMAGED)
    fail(queue, two, Cause.PARENT_DAMAGED)
    assert take(queue) == root
    assert take(queue) is None
    finish(queue, root)
    assert [take(queue), take(queue)] == [one, two]
    finish(queue, one)
    finish(queue, two)
    assert queue.over
    assert heard.count(Finished(root.key)) == 2
    assert heard.count(Finished(done.key)) == 1
    assert not [event for event in heard if isinstance(event, Failed | Blocked)]


def test_what_another_run_computes_is_neither_run_nor_lost(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prunesweep.workers.claims.LOOK_SECONDS", 0)
    heard = Heard()
    queue = queue_of(store, trial("random", 0.5), tell=heard)
    root = take(queue)
    assert root is not None
    with Holding(store, root.key, Claim.mine("them", "another run")):
        queue.ended(root.key, Ended(claimed=True))
        queue.look()
        assert take(queue) is None
        assert not queue.over
        store.publish(root, {}, {"metrics": {}})
    queue.look()
    assert heard == [Elsewhere(root.key), Finished(root.key)]
    assert isinstance(take(queue), PruneStage)


def test_a_claim_that_ends_without_a_result_sets_its_stage_free(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prunesweep.workers.claims.LOOK_SECONDS", 0)
    queue = queue_of(store, trial("gmp"))
    stage = take(queue)
    assert stage is not None
    with Holding(store, stage.key, Claim.mine("them", "another run")):
        queue.ended(stage.key, Ended(claimed=True))
        queue.look()
        assert take(queue) is None
    queue.look()
    assert take(queue) == stage


def test_a_store_that_is_gone_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("prunesweep.orchestrator.run.lost_store.CHECK_SECONDS", 0)
    heard = Heard()
    queue = queue_of(store, trial("gmp"), tell=heard)
    stage = take(queue)
    assert stage is not None
    place, away = Path(store.location), tmp_path / "away"
    place.rename(away)
    place.mkdir()  # a mount point, now without its disk
    queue.ended(stage.key, Ended(Cause.STORE, "cannot be written"))
    for _ in range(3):
        queue.look()
        assert take(queue) is None
        assert not queue.over
    assert list(place.iterdir()) == [], "nothing is written to what is not the store"
    place.rmdir()
    away.rename(place)
    queue.look()
    assert take(queue) == stage
    waiting, retried, again = heard
    assert isinstance(waiting, StoreLost)
    assert "is gone" in (waiting.problem or "")
    assert isinstance(retried, Retried)
    assert again == StoreLost(None)


def test_a_store_that_cannot_even_be_read_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch):
    """As on a network filesystem that has lost its server: whatever is asked of it is an error."""

    def broken(*_: object) -> None:
        raise Unavailable("Stale file handle")

    heard = Heard()
    queue = queue_of(store, trial("random", 0.5), tell=heard)
    finish(queue, take(queue))
    child = take(queue)
    assert child is not None
    with monkeypatch.context() as patch:
        for name in ("done", "attempts", "problem"):
            patch.setattr(Store, name, broken)
        queue.ended(child.key, Ended(Cause.KILLED, "", died=True))
        assert take(queue) is None
    assert heard[1:] == [StoreLost("Stale file handle"), Retried(child.key, Cause.STORE, "Stale file handle")]
    queue.look()
    assert take(queue) == child


def test_reports_are_told(store: Store):
    heard = Heard()
    queue = queue_of(store, trial("gmp"), tell=heard)
    stage = take(queue)
    assert stage is not None
    queue.progressed(stage.key, 2)
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


def test_what_failed_is_not_run_again_in_the_same_run(store: Store):
    plan = plan_of(store, trial("random", 0.5), trial("gmp"))
    root, child, gmp = plan.stages.values()
    again = plan.refreshed(store, {root.key})
    assert list(again.runnable) == [gmp.key]
    assert list(again.to_run) == [root.key, child.key, gmp.key]
