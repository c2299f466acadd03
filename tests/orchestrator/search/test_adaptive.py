"""Searches that learn: the same from the same results, whoever asks and when."""

from __future__ import annotations

import subprocess
import sys
from math import log
from statistics import median

import pytest

from prunesweep.orchestrator.search.adaptive import BATCH, START
from prunesweep.orchestrator.search.decision import decide
from prunesweep.orchestrator.search.space import Range, Space, Values
from tests.orchestrator.search.cases import results, search_of, settle

pytest.importorskip("optuna")

MIXED: Space = (
    Range("pruning_interval", "uniform", 1, 3, whole=True),
    Range("train.lr", "log", 0.001, 1.0),
    Range("train.momentum", "uniform", 0.5, 0.9, steps=5),
)


def near_a_tenth(settings, epoch):
    return 0.9 - abs(log(settings["train.lr"] / 0.1)) / 10


def test_batches_follow_each_other_and_learn():
    search = search_of("gmp", epochs=24 * 6, algorithm="tpe")
    decision = settle(search, near_a_tenth)
    assert [len(step.candidates) for step in decision.rounds] == [BATCH] * 6
    assert len({candidate.point for candidate in decision.candidates}) == 24
    rates = [dict(candidate.point)["train.lr"] for candidate in decision.candidates]
    first, later = rates[:START], rates[START:]

    assert median(abs(log(lr / 0.1)) for lr in later) < 0.7 * median(abs(log(lr / 0.1)) for lr in first)


def test_spaces_of_all_kinds_are_searched_without_repeating():
    search = search_of("gmp", MIXED, epochs=16 * 6, algorithm="tpe")
    points = [candidate.point for candidate in settle(search, near_a_tenth).candidates]
    assert len(set(points)) == 16
    small = search_of("gmp", (Values("pruning_interval", (1, 2, 3)),), epochs=16 * 6, algorithm="tpe")
    assert len(settle(small, lambda settings, epoch: 0.5).candidates) == 3, "there are no more"


def test_what_diverged_is_told_as_the_worst():
    search = search_of("gmp", epochs=16 * 6, algorithm="tpe")
    decision = settle(search, lambda s, epoch: None if s["train.lr"] > 0.2 else near_a_tenth(s, epoch))
    later = [dict(candidate.point)["train.lr"] for candidate in decision.candidates[START:]]
    assert sum(lr > 0.2 for lr in later) <= 2


def test_another_process_asks_for_the_same():
    code = (
        "from tests.orchestrator.search.test_adaptive import *\n"
        "print([c.point for c in settle(search_of('gmp', epochs=72, algorithm='tpe'), near_a_tenth).candidates])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert "train.lr" in runs[0]


def test_a_batch_depends_on_results_alone_not_on_when_it_is_asked():
    search = search_of("gmp", epochs=72, algorithm="tpe")
    whole = settle(search, near_a_tenth)
    known = {}
    for _ in range(2):
        known |= results(decide(search, known), near_a_tenth)
    assert decide(search, known).rounds[:2] == whole.rounds[:2]
    assert decide(search, known).rounds[2].candidates == whole.rounds[2].candidates
