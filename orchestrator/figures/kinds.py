"""The registry of figures: what `prunesweep plot --kind` knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from prunesweep.orchestrator.figures.budgets import budget, schedules
from prunesweep.orchestrator.figures.charts import Chart
from prunesweep.orchestrator.figures.cost import throughput
from prunesweep.orchestrator.figures.layers import layers
from prunesweep.orchestrator.figures.parts import Frames
from prunesweep.orchestrator.figures.tradeoffs import compression, sparsity, speedup
from prunesweep.orchestrator.figures.training import curves
from prunesweep.orchestrator.results.query import Query
from prunesweep.workers.errors import UserError, unknown


@dataclass(frozen=True)
class Kind:
    """A kind of figure: what makes it, the metric that it shows unless another is asked for, and what it cannot do.

    `without` are the options that have no meaning for it, and why.
    """

    make: Callable[[Frames, Query], Chart]
    metric: str = "test_accuracy"
    without: Mapping[str, str] | None = None


KINDS: Mapping[str, Kind] = {
    "sparsity": Kind(sparsity),
    "compression": Kind(compression),
    "budget": Kind(budget),
    "speedup": Kind(speedup),
    "throughput": Kind(throughput, "train_images_per_second", {"best_by": "its bars are over all trials"}),
    "layers": Kind(layers, "density"),
    "curves": Kind(curves, "validation_accuracy"),
    "schedules": Kind(schedules, without={"best_by": "schedules compete by --metric", "by": "its cells are fixed"}),
}


def is_of_any_metric(kind: str) -> bool:
    """Whether another metric makes the same figure of something else; some kinds are about theirs."""
    return KINDS[kind].metric == Kind.metric


def chart(kind: str, frames: Frames, query: Query, metric: str | None = None) -> Chart:
    """The figure of a kind, of the kind's own metric unless one is given; the query's is not looked at.

    Raises `UserError` for an unknown kind, an option that has no meaning for it, and nothing to draw.
    """
    if kind not in KINDS:
        raise UserError(unknown("kind of plot", kind, KINDS))
    for option, reason in (KINDS[kind].without or {}).items():
        if getattr(query, option):
            raise UserError(f"--{option.replace('_', '-')} does not go with --kind {kind}: {reason}")
    return KINDS[kind].make(frames, replace(query, metric=metric or KINDS[kind].metric))
