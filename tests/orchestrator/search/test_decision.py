"""What searches decide, by numbers worked out by hand; nothing is trained."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from math import log
from typing import Any

import pytest

from prunesweep.orchestrator.search import halving
from prunesweep.orchestrator.search.decision import decide
from prunesweep.orchestrator.search.decoding import decode_search
from prunesweep.orchestrator.search.sampling import sobol_points
from prunesweep.orchestrator.search.space import Range, Values, grid_points, size
from prunesweep.orchestrator.search.spec import Rungs
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import PartStage, PruneStage
from tests.cases import TRAIN
from tests.orchestrator.search.cases import LR, results, search_of, settle

TWENTY = replace(TRAIN, epochs=20)


def near_a_tenth(settings, epoch):
    """The best learning rate is 0.1; more epochs help everybody."""
    return 0.9 - abs(log(settings["train.lr"] / 0.1)) / 10 + epoch / 1000


# --- spaces


def test_a_range_is_uniform_or_logarithmic_and_a_list_has_equal_shares():
    assert Range("a", "uniform", 0.8, 0.9).at(0.25) == 0.825
    assert Range("a", "log", 0.01, 1.0).at(0.5) == 0.1
    assert [Range("a", "uniform", 1, 3, whole=True).at(share) for share in (0.0, 0.34, 0.99)] == [1, 2, 3]
    assert Range("a", "log", 0.01, 1.0, steps=3).values == (0.01, 0.1, 1.0)
    assert [Values("a", ("x", "y")).at(share) for share in (0.0, 0.49, 0.5)] == ["x", "x", "y"]


def test_a_grid_is_the_product_of_its_lists():
    space = (Values("a", (1, 2)), Range("b", "uniform", 0.0, 1.0, steps=3))
    assert size(space) == 6
    assert grid_points(space)[:2] == [(("a", 1), ("b", 0.0)), (("a", 1), ("b", 0.5))]
    assert size(LR) is None


def test_a_larger_sample_begins_with_the_smaller_one_and_points_differ():
    space = (Values("a", (1, 2, 3)), *LR)
    assert sobol_points(space, 20, seed=1)[:7] == sobol_points(space, 7, seed=1)
    assert len(set(sobol_points(space, 20, seed=1))) == 20
    assert sobol_points(space, 7, seed=1) != sobol_points(space, 7, seed=2)
    assert sorted(sobol_points(space[:1], 20, seed=1)) == [(("a", 1),), (("a", 2),), (("a", 3),)]


def test_the_first_points_stay_what_they_are():
    """They are in the keys of stages: whoever changes them says "changes results"."""
    assert search_of("gmp").sampling_seed == SEED
    assert [dict(p)["train.lr"] for p in sobol_points(LR, 4, SEED)] == DRAWN


SEED, DRAWN = 3182101845, [0.03299, 0.2099, 0.1826, 0.02326]


# --- searches and their keys


def test_a_search_is_named_by_what_decides_it():
    search = search_of("gmp")
    assert replace(search, final_seeds=(0, 1, 2)).key == search.key
    other_lr = replace(search.base, train=replace(search.base.train, lr=0.3))
    assert replace(search, base=other_lr).key == search.key, "what the space decides says nothing"
    for change in ({"epochs": 70}, {"by": "validation_loss"}, {"algorithm": "grid"}, {"seeds": (1,)}):
        assert replace(search, **change).key != search.key
    assert decode_search(json.loads(json.dumps(encode(search)))) == search
    halved = replace(search, algorithm="halving", rungs=Rungs())
    assert decode_search(json.loads(json.dumps(encode(halved)))) == halved


@pytest.mark.parametrize(
    "changes",
    [
        *({"rungs": {"start": start, "factor": factor}} for start, factor in ((0.1, 1), (0.1, 0), (0.0, 3), ("x", 3))),
        *({"epochs": epochs} for epochs in (10**12, 1.5, "64")),
        *(
            {"space": [{**encode(LR[0]), **of}]}
            for of in ({"steps": 10**9}, {"low": 0.0}, {"low": "0"}, {"scale": "x"})
        ),
        *({"space": space} for space in ([], {}, "x", [encode(LR[0])] * 2)),
        *({"space": [{"name": "train.lr", "values": values}]} for values in ([], "0.1", ["x"], [{"a": 1}], [10**30])),
        *(
            {"space": [{"name": name, "values": [value]}]}
            for name, value in (
                *(("train.optimizer", "evil:Optimizer"), ("train.schedule", "evil:schedule"), ("train.no", 1)),
                *(("train.epochs", 1), ("train.optimizer_code", "0"), ("no", 1)),
            )
        ),
        *({"algorithm": algorithm} for algorithm in ("no", "random", None)),
        *({"algorithm": "grid", "rungs": None}, {"rungs": None}),
        *(
            {name: seeds}
            for name in ("seeds", "final_seeds")
            for seeds in ([], "01", [0, 0], ["0"], [-1], [1.5], [2**70])
        ),
    ],
    ids=str,
)
def test_a_record_that_asks_for_what_no_file_can_is_refused(changes: dict[str, Any]):
    """Anybody may have written it: a factor of 1 would never reach the last rung."""
    said = encode(replace(search_of("gmp"), algorithm="halving", rungs=Rungs()))
    with pytest.raises((TypeError, ValueError)):
        decode_search({**said, **changes})


def test_a_range_of_a_billion_whole_numbers_is_drawn_from_and_not_listed():
    dimension = Range("pruning_interval", "uniform", 1, 10**9, whole=True)
    assert dimension.values is None
    assert (dimension.at(0.0), dimension.at(0.5)) == (1, 5 * 10**8)


def test_the_budget_is_in_epochs_of_whole_paths():
    """GMP trains 6 epochs; IMP 6 and 3 more, in which it prunes twice."""
    assert (search_of("gmp", epochs=64).length, search_of("gmp", epochs=64).trainings) == (6, 10)
    assert (search_of("imp", epochs=64).length, search_of("imp", epochs=64).trainings) == (9, 7)
    assert search_of("gmp", epochs=64, seeds=(0, 1)).trainings == 5


def test_a_candidate_of_another_length_is_refused():
    search = search_of("imp", (Values("retrain_epochs", (3, 6)),))
    with pytest.raises(UserError, match="candidates of equal length"):
        decide(search, {})


def test_candidates_share_what_the_space_does_not_change():
    assert search_of("imp", LR).shared_epochs == 0
    assert search_of("imp", (Values("retrain_schedule", ("LLR", "ALLR")),)).shared_epochs == 6


# --- deciding


def test_random_search_takes_the_best_of_its_points():
    search = search_of("gmp")
    first = decide(search, {})
    assert (len(first.candidates), first.is_open, first.winner) == (10, True, None)
    decision = settle(search, near_a_tenth)
    rates = [dict(candidate.point)["train.lr"] for candidate in decision.candidates]
    assert decision.winner is not None
    assert dict(decision.winner.point)["train.lr"] == min(rates, key=lambda lr: abs(log(lr / 0.1)))
    assert decision.spent == 60


def test_the_winner_runs_with_all_seeds():
    decision = settle(search_of("gmp", final_seeds=(0, 1, 2)), near_a_tenth)
    assert [trial.seed for trial in decision.trials] == [0, 1, 2]
    assert len({trial.train.lr for trial in decision.trials}) == 1


def test_what_is_decided_does_not_depend_on_what_came_first():
    """Results in any order, one at a time: at each point the decision is a function of what there is."""
    search = search_of("gmp", train=TWENTY, epochs=16 * 20, algorithm="halving", rungs=Rungs())
    straight = settle(search, near_a_tenth)
    for seed in range(5):
        known, shuffled = {}, random.Random(seed)
        decision = decide(search, known)
        while decision.is_open:
            waiting = results(decision, near_a_tenth).keys() - known.keys()
            key = shuffled.choice(sorted(waiting))
            known[key] = results(decision, near_a_tenth)[key]
            decision = decide(search, known)
        assert decision == straight


def test_ties_go_to_the_smaller_key():
    decision = settle(search_of("gmp"), lambda settings, epoch: 0.5)
    assert decision.winner is not None
    assert decision.winner.key == min(candidate.key for candidate in decision.candidates)


def test_candidates_that_diverge_lose_and_a_search_of_nothing_else_fails():
    decision = settle(search_of("gmp"), lambda settings, epoch: None if settings["train.lr"] < 0.3 else 0.1)
    assert decision.winner is not None
    assert dict(decision.winner.point)["train.lr"] >= 0.3
    failed = settle(search_of("gmp"), lambda settings, epoch: None)
    assert (failed.failed, failed.winner, failed.trials) == (True, None, ())


def test_a_candidate_whose_dense_network_diverges_needs_no_result_of_its_own():
    search = search_of("imp")
    (step,) = decide(search, {}).rounds
    roots = {path[0].key: None for paths in step.paths for path in paths}
    assert decide(search, roots).failed


def test_of_losses_the_smaller_is_better_and_seeds_are_averaged():
    search = search_of("gmp", by="validation_loss", seeds=(0, 1), epochs=24)
    (step,) = decide(search, {}).rounds
    assert len(step.candidates) == 2
    losses = [[0.2, 0.5], [0.3, 0.3]]
    known = {
        path[-1].key: {"validation_loss": loss}
        for paths, own in zip(step.paths, losses, strict=True)
        for path, loss in zip(paths, own, strict=True)
    }
    decision = decide(search, known)
    assert [score for _, score in decision.final_scores()] == [0.35, 0.3]
    assert decision.winner == step.candidates[1]


def test_of_a_metric_that_is_an_error_the_smaller_is_better():
    search = search_of("gmp", by="validation_mae", lower_metric=True, epochs=12)
    (step,) = decide(search, {}).rounds
    known = {paths[0][-1].key: {"validation_mae": mae} for paths, mae in zip(step.paths, (0.5, 0.3), strict=True)}
    assert decide(search, known).winner == step.candidates[1]


def test_a_grid_tries_every_point():
    space = (Values("pruning_interval", (1, 2)), Range("train.lr", "log", 0.01, 0.1, steps=3))
    decision = decide(search_of("gmp", space, epochs=36, algorithm="grid"), {})
    assert len(decision.candidates) == 6


# --- halving


def test_rungs_of_twenty_epochs_are_at_two_and_six():
    """10 % and 30 %; 90 % would leave nothing to save."""
    assert halving.rung_epochs(Rungs(), 20) == (2, 6, 20)
    assert halving.rung_epochs(Rungs(0.25, 2), 8) == (2, 4, 8)
    assert halving.rung_epochs(Rungs(), 22, shared=20) == (21, 22), "of two epochs the first is half"


def test_sixteen_trainings_pay_for_sixty_seven_candidates():
    """67 to epoch 2, 22 to 6, 7 to 20: 134 + 88 + 98 = 320 epochs, which are all."""
    assert halving.survivors(67, Rungs(), 3) == (67, 22, 7)
    assert halving.cost(67, Rungs(), (2, 6, 20)) == 67 * 2 + 22 * 4 + 7 * 14 == 320
    search = search_of("gmp", train=TWENTY, epochs=320, algorithm="halving", rungs=Rungs())
    assert halving.affordable(search) == 67


def test_halving_trains_the_best_third_on_and_the_winner_to_the_end():
    search = search_of("gmp", train=TWENTY, epochs=80, algorithm="halving", rungs=Rungs())
    decision = settle(search, near_a_tenth)
    assert [step.epoch for step in decision.rounds] == [2, 6, 20]
    counts = [len(step.candidates) for step in decision.rounds]
    assert counts == [17, 5, 1]
    assert all(isinstance(path[-1], PartStage) for paths in decision.rounds[0].paths for path in paths)
    ranked = sorted(decision.rounds[0].scored(), key=lambda pair: -pair[1])
    assert {c.number for c in decision.rounds[1].candidates} == {c.number for c, _ in ranked[:5]}
    assert decision.winner == ranked[0][0]
    assert decision.rounds[2].paths[0][0][-1] == decision.winner.paths[0][-1]


def test_a_rung_cuts_the_path_wherever_it_falls():
    """IMP: 6 epochs dense, a phase of 1 and one of 2. What begins before a rung is run whole."""
    stages = search_of("imp").path((("train.lr", 0.05),), 0)
    assert [stage.epochs for stage in stages] == [6, 1, 2]
    assert halving.cut(stages, 2) == [PartStage(stages[0], 2)]
    assert halving.cut(stages, 6) == stages[:1]
    assert halving.cut(stages, 8) == [*stages[:2], PartStage(stages[2], 1)]
    assert halving.cut(stages, 9) == stages


def test_a_path_that_ends_with_a_prune_is_whole_at_its_last_epoch():
    stages = search_of("str", (Range("s_initial", "uniform", -4.0, -2.0),)).path((("s_initial", -3.0),), 0)
    assert isinstance(halving.cut(stages, 6)[-1], PruneStage)
    assert halving.cut(stages, 5) == [PartStage(stages[0], 5)]


@pytest.mark.parametrize("metrics", [{}, {"validation_accuracy": None}])
def test_a_candidate_whose_result_does_not_say_what_is_chosen_by_does_not_win(metrics: dict[str, Any]):
    search = search_of("gmp", (Values("train.lr", (0.1, 0.2)),), epochs=1000, algorithm="grid")
    first, second = decide(search, {}).rounds[0].candidates
    decision = decide(search, {first.key: metrics, second.key: {"validation_accuracy": 0.1}})
    assert decision.winner == second
