"""Halving that compares pruned copies: what is cut and pruned, and who goes on. Nothing is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from prunesweep.orchestrator.search import halving
from prunesweep.orchestrator.search.decision import decide
from prunesweep.orchestrator.search.decoding import decode_search
from prunesweep.orchestrator.search.space import Range, Values
from prunesweep.orchestrator.search.spec import Rungs, Search
from prunesweep.workers.encoding import encode
from prunesweep.workers.spec import PartStage, PrunedCopy, PruneStage, Scope
from tests.cases import TRAIN
from tests.orchestrator.search.cases import search_of

TWENTY = replace(TRAIN, epochs=20)

POINT = (("train.lr", 0.05),)


def halved(method: str, **fields: Any) -> Search:
    """17 candidates to epoch 2, 5 of them to 6, and one to 20."""
    return search_of(method, train=TWENTY, epochs=80, algorithm="halving", rungs=Rungs(pruned=True), **fields)


def test_a_rung_prunes_to_the_sparsity_that_the_path_ends_at():
    """IMP: 6 epochs dense, a phase of 1 and one of 2. Behind a whole stage the prune is a stage of no epochs."""
    search = search_of("imp", algorithm="halving", rungs=Rungs(pruned=True))
    stages, copy = search.path(POINT, 0), search.copy(POINT)
    assert copy == PrunedCopy(0.75)
    assert halving.cut(stages, 2, copy) == [PartStage(stages[0], 2, copy)]
    assert halving.cut(stages, 6, copy) == [stages[0], PruneStage(stages[0], 0.75)]
    assert halving.cut(stages, 8, copy) == [*stages[:2], PartStage(stages[2], 1, copy)]


def test_methods_that_learn_their_sparsity_are_pruned_to_that_of_the_trial():
    search = halved("str", space=(Range("s_initial", "uniform", -4.0, -2.0),))
    assert search.path((("s_initial", -3.0),), 0)[0].sparsity == 0.0
    assert search.copy((("s_initial", -3.0),)) == PrunedCopy(0.75)


def test_nothing_is_pruned_that_has_no_sparsity_to_come_to_or_says_so():
    assert halved("dense").copy(POINT) is None
    assert halved("small_dense").copy(POINT) is None
    assert replace(halved("gmp"), rungs=Rungs()).copy(POINT) is None


def test_a_copy_is_pruned_as_its_candidate_would_be_and_where():
    space = (Values("allocation", ("global", "erk")),)
    search = search_of("imp", space, algorithm="halving", rungs=Rungs(pruned=True))
    scoped = replace(search, base=replace(search.base, prune=Scope.of(exempt=["last"])))
    assert scoped.copy((("allocation", "erk"),)) == PrunedCopy(0.75, "erk", Scope.of(exempt=["last"]))


def test_what_is_compared_is_in_the_key_and_in_records():
    pruned, before = halved("gmp"), replace(halved("gmp"), rungs=Rungs())
    assert pruned.key != before.key
    for search in (pruned, before):
        assert decode_search(json.loads(json.dumps(encode(search)))) == search
    assert "pruned" not in encode(before)["rungs"], "a record of before is read as what it was"


def test_the_best_by_copy_and_as_they_are_go_on_by_turns_and_the_winner_is_best_by_the_metric():
    """Losses of copies fall with the number of the candidate, and accuracies, too: five of 17, a copy first."""
    search, known = halved("gmp"), dict[str, Any]()
    while (decision := decide(search, known)).is_open:
        step = decision.rounds[-1]
        for candidate, (path,) in zip(step.candidates, step.paths, strict=True):
            accuracy, loss = 1 / (1 + candidate.number), 1 / candidate.number
            copied = {"validation_accuracy": accuracy, "pruned_validation_loss": loss}
            known[path[-1].key] = copied if step.epoch < 20 else {"validation_accuracy": candidate.number / 100}
    numbers = [[candidate.number for candidate in step.candidates] for step in decision.rounds]
    assert numbers == [[*range(1, 18)], [1, 2, 15, 16, 17], [17]]
    assert (decision.rounds[0].scores[3], decision.rounds[0].losses[3]) == (0.2, 0.25)
    assert decision.rounds[-1].losses == ()
    assert decision.final_scores() == [(decision.winner, 0.17)]


def test_a_copy_whose_loss_is_not_finite_goes_on_by_its_accuracy_alone():
    (first,) = decide(halved("gmp"), {}).rounds
    metrics = [{"validation_accuracy": number / 100, "pruned_validation_loss": None} for number in range(1, 18)]
    metrics[0]["pruned_validation_loss"] = 3.0
    known = {path[-1].key: own for (path,), own in zip(first.paths, metrics, strict=True)}
    numbers = [candidate.number for candidate in decide(halved("gmp"), known).rounds[1].candidates]
    assert numbers == [1, 14, 15, 16, 17]


def test_behind_a_whole_stage_the_network_as_it_is_is_that_of_the_stage():
    """IMP, 3 + 1 + 2 epochs, with a rung at epoch 3: four candidates to there, and two of them to the end."""
    train = replace(TRAIN, epochs=3)
    search = search_of("imp", train=train, epochs=18, algorithm="halving", rungs=Rungs(0.5, 2, pruned=True))
    assert halving.rungs_of(search) == (3, 6)
    (first,) = decide(search, {}).rounds
    assert len(first.candidates) == 4
    known: dict[str, Any] = {}
    for candidate, (path,) in zip(first.candidates, first.paths, strict=True):
        dense, pruned = path
        known[dense.key] = {"validation_accuracy": 1 / candidate.number, "validation_loss": 0.1}
        known[pruned.key] = {"validation_accuracy": 0.1, "validation_loss": 1 / candidate.number}
    step, following = decide(search, known).rounds
    assert step.scores == step.losses == (1.0, 1 / 2, 1 / 3, 1 / 4)
    assert [candidate.number for candidate in following.candidates] == [1, 4], "the best as it is, and by its copy"
