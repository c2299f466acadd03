"""Averages of weights that begin anew in a training too short for their decay. Imports neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor, log10

from prunesweep.orchestrator.plan import Plan
from prunesweep.workers.data.facts import facts_of
from prunesweep.workers.spec import PruneStage, Stage

LEFT = 0.1
"""More of the weights that an average begins with should not be left in the network that is published."""


def short_averages(plan: Plan, data_folder: str) -> Iterator[str]:
    """A sentence on the stage whose average keeps most of the weights that it begins with, where that is too much."""
    asked = {
        (root.dataset, root.train.batch_size, stage.epochs, isinstance(stage, PruneStage), root.train.ema): None
        for stage in plan.stages.values()
        if (root := stage.root).train.ema is not None and root.train.publish_ema and _trains(stage)
    }
    kept = []
    for dataset, batch_size, epochs, prunes, decay in asked:
        facts = facts_of(dataset, data_folder)
        if facts is not None and decay is not None:
            iterations = epochs * ceil(facts.images / batch_size)
            kept.append((decay**iterations, iterations, decay, prunes))
    if kept and max(kept)[0] > LEFT:
        share, iterations, decay, prunes = max(kept)
        what, begun = ("retraining", "network just pruned") if prunes else ("training", "weights that it begins with")
        yield (
            f"ema {decay:g} in a {what} of {iterations} iterations leaves {share:.0%} of the {begun} in what is "
            f"published: take {fitting(iterations):g} or less"
        )


def fitting(iterations: int) -> float:
    """The largest decay, to a digit of what it is less than 1, with which no more than `LEFT` stays."""
    away = 1 - LEFT ** (1 / iterations)
    unit = 10 ** floor(log10(away))
    return float(f"{1 - ceil(away / unit - 1e-9) * unit:.12g}")


def _trains(stage: Stage) -> bool:
    return (stage.epochs > 0 and stage.parent is None) or (isinstance(stage, PruneStage) and stage.epochs > 0)
