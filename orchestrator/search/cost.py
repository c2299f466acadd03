"""What searches cost, before anything has run: how many candidates the budget pays for, and their epochs."""

from __future__ import annotations

from typing import NamedTuple

from prunesweep.orchestrator.search import halving
from prunesweep.orchestrator.search.space import size
from prunesweep.orchestrator.search.spec import Search


class Planned(NamedTuple):
    """Candidates to begin with, and the epochs of all, each on its whole path, as if it were trained alone."""

    candidates: int
    epochs: int


def planned(search: Search) -> Planned:
    """What the search will try and train at most; the epochs are within its budget, but for a grid that is larger."""
    if search.algorithm == "halving":
        count, most = halving.affordable(search), size(search.space)
        count = count if most is None else min(count, most)
        return Planned(count, halving.epochs_of(search, count) if count else 0)
    most = size(search.space)
    if search.target is not None:
        tries = search.target.tries
        trainings = search.trainings if most is None else min(search.trainings, most * tries)
        if search.algorithm == "grid":
            trainings = (most or 0) * tries
        return Planned(trainings // tries, trainings * search.length * len(search.seeds))
    count = most if search.algorithm == "grid" and most is not None else search.trainings
    count = count if most is None else min(count, most)
    return Planned(count, count * search.length * len(search.seeds))
