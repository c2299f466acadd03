"""The numbers that a search compares, out of the results of its candidates' stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any

from prunesweep.orchestrator.search.spec import VALIDATION
from prunesweep.workers.spec import COPY, PartStage, Stage

SPARSITY = "reached_sparsity"
"""The metric of a candidate's training that a target is about."""

Known = Mapping[str, Mapping[str, Any] | None]
"""By stage the metrics of its result, None where it diverged; what is not known yet is missing."""


def first(path: Sequence[Stage]) -> Stage:
    """Of the stages of a path the one that trains where the sparsity is a consequence."""
    return path[0]


def last(path: Sequence[Stage]) -> Stage:
    """The one that the path ends with."""
    return path[-1]


def as_it_is(path: Sequence[Stage]) -> Stage:
    """The stage before a prune of no epochs, which makes the copy behind a whole stage; a part has its copy itself."""
    return path[-1] if path[-1].epochs else path[-2]


def mean_of(
    paths: Sequence[Sequence[Stage]],
    known: Known,
    metric: str,
    of: Callable[[Sequence[Stage]], Stage],
    *,
    copied: bool = False,
) -> float | None:
    """The mean over seeds of a number of one of the stages; NaN where any stage has diverged, or this one lacks it.

    Of a part it is that of its pruned copy where that is asked for.
    """
    if any(stage.key in known and known[stage.key] is None for path in paths for stage in path):
        return nan
    values = []
    for stage in map(of, paths):
        metrics = known.get(stage.key)
        if metrics is None:
            return None
        in_part = copied and isinstance(stage, PartStage)
        value = metrics.get(f"{COPY}{metric.removeprefix(VALIDATION)}" if in_part else metric)
        if value is None:
            return nan
        values.append(float(value))
    return sum(values) / len(values)
