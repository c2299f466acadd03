"""Bisection towards a target sparsity, on methods made up by a rule: which values are tried, and who may win."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import exp, log
from typing import Any

import pytest

from prunesweep.orchestrator.search.bisection import Try, next_share
from prunesweep.orchestrator.search.cost import planned
from prunesweep.orchestrator.search.decision import Decision, decide
from prunesweep.orchestrator.search.decoding import decode_search
from prunesweep.orchestrator.search.space import Range, Space
from prunesweep.orchestrator.search.spec import Search
from prunesweep.orchestrator.search.target import Target
from prunesweep.workers.encoding import encode
from tests.orchestrator.search.cases import LR, search_of

STEER = Range("s_initial", "uniform", -8.0, 0.0)
TARGET = Target(rises=True, within=0.005, tries=6, steer=STEER)
Judge = Callable[[Mapping[str, Any]], tuple[float, float] | None]
"""Sparsity and validation accuracy for settings; None for what diverges."""


def search_at(sparsity: float = 0.9, target: Target = TARGET, space: Space = LR, **fields: Any) -> Search:
    search = search_of("str", space, target=target, **{"epochs": 16 * 6, **fields})
    return replace(search, base=replace(search.base, sparsity=sparsity))


def rising(settings: Mapping[str, Any]) -> tuple[float, float]:
    """The sparsity's logit is s_initial + 3: 0.27 at -4, 0.73 at -2, 0.88 at -1, 0.95 at 0. The best rate is 0.1."""
    return 1 / (1 + exp(-settings["s_initial"] - 3)), 0.9 - abs(log(settings.get("train.lr", 0.1) / 0.1)) / 10


def results(decision: Decision, judge: Judge) -> dict[str, Mapping[str, Any] | None]:
    made: dict[str, Mapping[str, Any] | None] = {}
    for step in decision.rounds:
        for candidate, paths in zip(step.candidates, step.paths, strict=True):
            for first, *_, last in paths:
                came = judge(dict(candidate.point))
                made[first.key] = None if came is None else {"reached_sparsity": came[0]}
                if came is not None:
                    made[last.key] = {"reached_sparsity": 0.9, "validation_accuracy": came[1]}
    return made


def settle(search: Search, judge: Judge) -> Decision:
    decision = decide(search, {})
    while decision.is_open:
        decision = decide(search, results(decision, judge))
    return decision


def tried(decision: Decision) -> list[float]:
    return [dict(candidate.point)["s_initial"] for candidate in decision.candidates]


# --- one bisection


def test_it_looks_outwards_twice_by_halves_and_then_at_the_end():
    assert next_share([Try(0.5, 0.1)], 0.9) == 0.75
    assert next_share([Try(0.5, 0.1), Try(0.75, 0.2)], 0.9) == 0.875
    assert next_share([Try(0.5, 0.1), Try(0.75, 0.2), Try(0.875, 0.3)], 0.9) == 1.0
    assert next_share([Try(0.5, 0.99)], 0.9) == 0.25


def test_between_two_tries_it_follows_the_logits_and_keeps_off_the_ends():
    """Logits of 0.1, 0.5 and 0.9 are equally far apart: half of the way. That of 0.6 is too near to 0.5."""
    assert next_share([Try(0.25, 0.1), Try(0.75, 0.9)], 0.5) == pytest.approx(0.5)
    assert next_share([Try(0.0, 0.5), Try(1.0, 0.9999)], 0.6) == pytest.approx(0.15)
    assert next_share([Try(0.0, 0.5), Try(1.0, 0.9999), Try(0.1, 0.55)], 0.6) == pytest.approx(0.55), "every other time"
    assert next_share([Try(0.0, 0.1), Try(1.0, 0.9), Try(0.4, 0.3), Try(0.6, 0.7)], 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("rises", [True, False])
def test_it_finds_the_target_wherever_it_is_and_whichever_way_the_setting_works(rises: bool):
    target = replace(TARGET, rises=rises, tries=12)
    for sparsity in (0.05, 0.5, 0.9, 0.98):
        search = search_at(sparsity, target, space=(), epochs=12 * 6)
        decision = settle(search, lambda s: (1 + s["s_initial"] / 8 if rises else -s["s_initial"] / 8, 0.5))
        assert decision.winner_sparsity == pytest.approx(sparsity, abs=0.005)
        assert len(decision.candidates) < 12


# --- a search with a target


def test_each_point_has_a_bisection_of_its_own_and_what_is_left_pays_for_more_points():
    """16 trainings and six tries: two points begin, and hit with their fifth; a third needs one, at most six."""
    decision = settle(search_at(), rising)
    first = decision.rounds[0]
    assert [dict(c.point)["s_initial"] for c in first.candidates] == [-4.0, -4.0]
    assert tried(decision)[::2][:3] == [-4.0, -2.0, -1.0]
    rates = {dict(candidate.point)["train.lr"] for candidate in decision.candidates}
    assert len(rates) > 2, "the first two hit after fewer than six tries"
    assert 16 - TARGET.tries < len(decision.candidates) <= 16
    assert decision.spent == 6 * len(decision.candidates), "misses cost as much"


def test_a_new_bisection_begins_where_those_before_have_hit():
    decision = settle(search_at(), rising)
    third = list(dict.fromkeys(dict(c.point)["train.lr"] for c in decision.candidates))[2]
    start = next(dict(c.point)["s_initial"] for c in decision.candidates if dict(c.point)["train.lr"] == third)
    assert rising({"s_initial": start})[0] == pytest.approx(0.9, abs=0.005)


def test_only_candidates_on_target_win_however_good_the_others_are():
    decision = settle(search_at(), lambda s: (rising(s)[0], 0.5 if abs(rising(s)[0] - 0.9) <= 0.005 else 0.99))
    assert decision.winner is not None
    assert decision.winner_sparsity == pytest.approx(0.9, abs=0.005)
    assert all(score == 0.5 for _, score in decision.final_scores())
    assert [trial.sparsity for trial in decision.trials] == [0.9]


def test_of_those_on_target_the_best_wins():
    decision = settle(search_at(), rising)
    hits = [dict(candidate.point)["train.lr"] for candidate, _ in decision.final_scores()]
    assert dict(decision.winner.point)["train.lr"] == min(hits, key=lambda lr: abs(log(lr / 0.1)))


def test_a_target_out_of_reach_ends_the_search_with_a_sentence():
    decision = settle(search_at(), lambda s: (0.6 * rising(s)[0], 0.9))
    assert (decision.winner, decision.failed, decision.trials) == (None, True, ())
    assert decision.failure == (
        "none of 12 candidates came within 0.005 of sparsity 0.9: the nearest came to 0.5715 with s_initial 0 of -8 "
        "to 0; give it a wider range in the space"
    )
    jump = settle(search_at(), lambda s: (0.99 if s["s_initial"] > -1.5 else 0.1, 0.9))
    assert jump.failed
    assert "the nearest came to 0.9900" in jump.failure
    assert "more tries" in jump.failure
    assert "all of 11 candidates have diverged" in settle(search_at(), lambda s: None).failure


def test_what_diverges_is_given_up_after_that_try():
    decision = settle(search_at(), lambda s: None if s["train.lr"] < 0.1 else rising(s))
    low = [c for c in decision.candidates if dict(c.point)["train.lr"] < 0.1]
    assert len(low) == len({dict(c.point)["train.lr"] for c in low})
    assert decision.winner is not None


def test_a_grid_takes_every_point_to_the_target_and_is_paid_for_at_its_worst():
    space = (Range("train.lr", "log", 0.01, 0.1, steps=3),)
    search = search_at(space=space, algorithm="grid", epochs=18 * 6)
    assert planned(search) == (3, 18 * 6)
    assert len(settle(search, rising).final_scores()) == 3


def test_tpe_learns_from_what_points_came_to_at_the_target():
    pytest.importorskip("optuna")
    decision = settle(search_at(algorithm="tpe", epochs=100 * 6), rising)
    rates = list(dict.fromkeys(dict(c.point)["train.lr"] for c in decision.candidates))
    assert len(rates) > 12
    assert sum(abs(log(lr / 0.1)) for lr in rates[8:]) / len(rates[8:]) < 0.6


def test_what_is_decided_does_not_depend_on_what_came_first():
    """Results in any order, one at a time: at each point the decision is a function of what there is."""
    search = search_at(seeds=(0, 1), epochs=32 * 6)
    whole = settle(search, rising)
    for seed in range(3):
        known: dict[str, Any] = {}
        chance, decision = random.Random(seed), decide(search, {})
        while decision.is_open:
            waiting = {k: v for k, v in results(decision, rising).items() if k not in known}
            key = chance.choice(sorted(waiting))
            known[key] = waiting[key]
            decision = decide(search, known)
        assert decision == whole


# --- its key and its record


def test_a_target_is_in_the_key_and_searches_without_one_keep_theirs():
    search = search_at()
    assert search_of("gmp").key == GMP
    for other in (replace(TARGET, within=0.01), replace(TARGET, tries=7), None):
        assert replace(search, target=other).key != search.key
    steered = replace(search.base, method=replace(search.base.method, options=(("s_initial", -5.0),)))
    assert replace(search, base=steered).key == search.key, "what the bisection decides says nothing"
    assert decode_search(json.loads(json.dumps(encode(search)))) == search


@pytest.mark.parametrize(
    "changes",
    [
        {"tries": 10**6},
        {"tries": 0},
        {"within": "x"},
        {"within": 2},
        {"rises": 1},
        {"steer": {"name": "a", "values": [1]}},
    ],
    ids=str,
)
def test_a_record_of_a_target_that_no_file_can_ask_for_is_refused(changes: dict[str, Any]):
    said = encode(search_at())
    with pytest.raises((TypeError, ValueError)):
        decode_search({**said, "target": {**said["target"], **changes}})


GMP = "a56c934816f942d8f146"
"""Of a search as it was before there were targets."""
