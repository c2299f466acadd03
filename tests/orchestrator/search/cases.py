"""Small searches and results for them, made up by a rule that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from prunesweep.orchestrator.search.decision import Decision, decide
from prunesweep.orchestrator.search.numbers import Known
from prunesweep.orchestrator.search.space import Range, Space
from prunesweep.orchestrator.search.spec import Search
from prunesweep.workers.spec import TrainSpec
from tests.cases import TRAIN, trial

LR: Space = (Range("train.lr", "log", 0.01, 0.5),)

Judge = Callable[[Mapping[str, Any], int], float | None]
"""A validation accuracy for settings at an epoch of the path; None for what diverges."""


def search_of(method: str, space: Space = LR, *, epochs: int = 64, train: TrainSpec = TRAIN, **fields: Any) -> Search:
    base = replace(trial(method, train=train), seed=0)
    return Search(base, space, epochs=epochs, **fields)


def settle(search: Search, judge: Judge, known: dict[str, Mapping[str, Any] | None] | None = None) -> Decision:
    """Run a search to its end, with what the judge says for results."""
    known = {} if known is None else known
    decision = decide(search, known)
    while decision.is_open:
        known |= results(decision, judge)
        decision = decide(search, known)
    return decision


def results(decision: Decision, judge: Judge) -> dict[str, Mapping[str, Any] | None]:
    """Of every stage that the decision asks for; those with the root's accuracy where they are no candidate's last."""
    made: dict[str, Mapping[str, Any] | None] = {}
    for step in decision.rounds:
        for candidate, paths in zip(step.candidates, step.paths, strict=True):
            for path in paths:
                accuracy = judge(dict(candidate.point), step.epoch)
                made[path[-1].key] = None if accuracy is None else {"validation_accuracy": accuracy}
    return made


def asked_for(known: Known) -> int:
    return len(known)
