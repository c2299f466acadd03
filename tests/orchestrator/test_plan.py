"""Plans: shared stages, states and forecasts, by numbers worked out by hand; nothing is trained here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.orchestrator.labels import labels
from prunesweep.orchestrator.plan import Plan, Size, make_plan
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.status.forecast import estimate
from prunesweep.orchestrator.status.status import failures, unfinished
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.claims import Claim, Holding
from prunesweep.workers.spec import PruneStage, Stage
from prunesweep.workers.store import Store

SWEEPS = Path(__file__).parents[2] / "sweeps"
HEAD = "dataset: digits\nmodel: resnet8\ntrain: {epochs: 6}\n"
ONE_SHOT = HEAD + "trials: [{method: imp, sparsity: [0.5, 0.9], retrain_epochs: [1, 2]}]\n"
"""A seed: four trials on a dense stage of 6 epochs and pruning stages of 1, 2, 1 and 2."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def planned(tmp_path: Path, store: Store):
    """Plans a text as it stands against the store."""

    def plan(text: str, name: str = "x.yaml") -> Plan:
        (tmp_path / name).write_text(text)
        return make_plan(read_sweep(tmp_path / name), store)

    return plan


def finish(store: Store, stage: Stage, seconds: float, size: int) -> None:
    store.begin(stage)
    store.publish(stage, {}, {"elapsed_seconds": seconds, "bytes": size})


def fail(store: Store, stage: Stage) -> None:
    store.fail(stage.key, replace(store.begin(stage), cause="diverged", message="nan"))


def dense(plan: Plan) -> Stage:
    return next(iter(plan.stages.values()))


def test_the_schedule_table_costs_396_epochs_a_seed_instead_of_5166(store: Store):
    """90 + 18 schedules and sparsities x (2 + 5 + 10); trial by trial each would pay the 90 again."""
    counts = make_plan(read_sweep(SWEEPS / "imagenet_schedules.yaml"), store).counts
    assert counts.per_seed == Size(trials=54, stages=55, epochs_unshared=54 * 90 + 18 * 17, epochs=90 + 18 * 17)
    assert (counts.per_seed.epochs_unshared, counts.per_seed.epochs) == (5166, 396)
    assert (counts.seeds, counts.trials, counts.stages, counts.epochs) == (2, 108, 110, 792)
    assert (counts.new, counts.stages_to_run, counts.epochs_to_run) == (108, 110, 792)


def test_seeds_that_ask_for_different_things_have_no_common_figure(planned):
    trials = "".join(
        f'    yield TrialSpec(Choice.of("digits"), Choice.of("resnet8"), Choice.of("gmp"), {seed}, {sparsity})\n'
        for seed, sparsity in ((0, 0.5), (1, 0.5), (1, 0.9))
    )
    plan = planned(f"from prunesweep.workers.spec import Choice, TrialSpec\n\ndef trials():\n{trials}", "x.py")
    assert plan.counts.per_seed is None
    assert plan.sizes == {0: Size(1, 1, 20, 20), 1: Size(2, 2, 40, 40)}


def test_a_stage_may_occupy_what_each_of_its_trials_needs(planned):
    """The dense network serves both sparsification methods; GMP trains its own."""
    rules = "resources: {cpus: 2, for: [{method: imp, gpus: 0.5}, {method: random, gpus: 0.25, cpus: 4}]}\n"
    pruned, gmp = "{method: [imp, random], sparsity: 0.9, retrain_epochs: 1}", "{method: gmp, sparsity: 0.9}"
    plan = planned(f"{HEAD}{rules}trials: [{pruned}, {gmp}]")
    shares = [plan.shares[key] for key in plan.stages]
    assert shares == [Resources(4, 0.5), Resources(2, 0.5), Resources(4, 0.25), Resources(2, 0)]


def test_parents_come_before_children(planned):
    stages = list(
        planned(HEAD + "trials: [{method: imp, sparsity: 0.9, phases: 3, retrain_epochs: 3}]").stages.values()
    )
    assert [stage.epochs for stage in stages] == [6, 1, 1, 1]
    assert [stage.parent for stage in stages] == [None, *stages[:-1]]


def test_the_states_of_trials(planned, store: Store):
    """Two seeds: one has a result, a failure and a stage that has begun; the other's dense network failed."""
    plan = planned("seeds: 2\n" + ONE_SHOT)
    roots = [stage for stage in plan.stages.values() if stage.parent is None]
    first = [stage for stage in plan.stages.values() if stage.parent == roots[0]]
    finish(store, roots[0], 1, 1)
    finish(store, first[0], 1, 1)
    fail(store, first[1])
    store.begin(first[2])
    fail(store, roots[1])
    plan = planned("seeds: 2\n" + ONE_SHOT)
    counts = plan.counts
    assert (counts.done, counts.failed, counts.unfinished, counts.new, counts.blocked) == (1, 1, 1, 1, 4)
    assert (counts.stages_to_run, counts.epochs_to_run) == (8, 5 + 12)
    assert [(each.stage, each.blocks) for each in failures(plan, store)] == [(roots[1].key, 4), (first[1].key, 0)]
    begun = unfinished(plan, store)
    assert [(each.stage, each.checkpoint, each.epochs) for each in begun] == [(first[2].key, None, first[2].epochs)]


def test_a_stage_that_is_begun_again_after_a_failure_is_unfinished(planned, store: Store):
    plan = planned(HEAD + "trials: [{method: dense}]\n")
    fail(store, dense(plan))
    store.begin(dense(plan))
    counts = planned(HEAD + "trials: [{method: dense}]\n").counts
    assert (counts.failed, counts.unfinished) == (0, 1)


def test_whether_a_stage_runs_now_is_known_of_this_machine(planned, store: Store):
    plan = planned(HEAD + "trials: [{method: dense}]\n")
    key = dense(plan).key
    store.begin(dense(plan))
    mine = Claim.mine("0001", "a run")

    def state() -> str:
        return unfinished(planned(HEAD + "trials: [{method: dense}]\n"), store)[0].state

    assert state() == "interrupted"
    for claim, known in ((mine, "running"), (replace(mine, born="1"), "interrupted")):
        with Holding(store, key, claim):
            assert state() == known


# --- estimates


def test_an_estimate_is_seconds_an_epoch_and_bytes_a_stage_of_each_kind(planned, store: Store):
    """Dense 12 s for 6 epochs: 2 s an epoch. Pruned 5 s and 4 s an epoch. A second seed: 6 x 2 + (1+2+1+2) x 4.5."""
    plan = planned(ONE_SHOT)
    pruned = [stage for stage in plan.stages.values() if isinstance(stage, PruneStage)]
    finish(store, dense(plan), 12, 1000)
    finish(store, pruned[0], 5, 300)
    finish(store, pruned[1], 8, 500)
    forecast = estimate(planned(ONE_SHOT), store)
    assert forecast is not None
    assert (forecast.seconds, forecast.bytes) == (3 * 4.5, 2 * 400)
    forecast = estimate(planned("seeds: [1]\n" + ONE_SHOT), store)
    assert forecast is not None, "other sweeps' stages count too"
    assert (forecast.seconds, forecast.bytes) == (12 + 6 * 4.5, 1000 + 4 * 400)


def test_nothing_is_guessed_from_stages_that_are_not_alike(planned, store: Store):
    finish(store, dense(planned(ONE_SHOT)), 12, 1000)
    assert estimate(planned(ONE_SHOT), store) is None, "nothing pruned is known"
    wider = ONE_SHOT.replace("resnet8", "{name: resnet8, width: 32}").replace("method: imp", "method: gmp")
    wider = wider.replace(", retrain_epochs: [1, 2]", "")
    assert estimate(planned(wider), store) is None, "another width is another network"
    known = estimate(planned(wider.replace("width: 32", "width: 16")), store)
    assert known is not None
    assert known.seconds == 2 * 12


def test_nothing_to_do_costs_nothing(planned, store: Store):
    plan = planned(HEAD + "trials: [{method: dense}]\n")
    finish(store, dense(plan), 12, 1000)
    forecast = estimate(planned(HEAD + "trials: [{method: dense}]\n"), store)
    assert forecast is not None
    assert (forecast.seconds, forecast.bytes) == (0, 0)


# --- labels


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("method: dense", {"train dense resnet8 digits 6 epochs seed 0"}),
        (
            "method: dense, train: {lr: [0.1, 0.2], momentum: 0.5}",
            {f"train dense resnet8 digits 6 epochs seed 0, train.lr {lr}" for lr in (0.1, 0.2)},
        ),
        (
            "method: gmp, sparsity: 0.9, pruning_interval: [1, 2]",
            {f"train gmp 0.9 resnet8 digits 6 epochs seed 0, pruning_interval {n}" for n in (1, 2)},
        ),
    ],
)
def test_stages_with_one_label_say_in_what_they_differ(planned, block: str, expected: set[str]):
    plan = planned(HEAD + f"trials: [{{{block}}}]\n")
    assert set(labels(plan.stages, plan.stages).values()) == expected


def test_labels_of_pruning_stages_name_what_differs_before_them(planned):
    text = "method: imp, sparsity: 0.9, retrain_epochs: 2, train: {lr: [0.1, 0.2]}"
    plan = planned(HEAD + f"trials: [{{{text}}}]\n")
    named = labels(plan.stages, [key for key, stage in plan.stages.items() if stage.parent is not None])
    assert sorted(name.rpartition(", ")[2] for name in named.values()) == ["train.lr 0.1", "train.lr 0.2"]
