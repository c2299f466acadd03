"""The kinds of figures: the one list that the verb, the shell's completion, the documents and the report read.

It loads neither pandas nor matplotlib. A new kind is a function from `Frames` and `Query` to `Chart`, in a file of
this folder, and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING

from prunesweep.orchestrator.results.query import Query
from prunesweep.workers.errors import UserError, unknown

if TYPE_CHECKING:
    from pandas import DataFrame

    from prunesweep.orchestrator.figures.charts import Chart
    from prunesweep.orchestrator.figures.comparisons import Frames

ACCURACY = "test_accuracy"

ALL = "all"
"""In place of a kind: every kind that the results allow."""


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    `maker` is the function that makes it, as `file:function` of this folder; `title` is the report's heading, and
    `shows` the documents' sentence. `metric` is what it shows of classification unless another is asked for.
    `without` names the options that have no meaning for it, with the reason.
    """

    maker: str
    title: str
    shows: str
    metric: str = ACCURACY
    without: Mapping[str, str] = field(default_factory=dict)
    of_searches: bool = False
    """Whether it shows candidates, which only sweeps with searches have."""

    def own_metric(self, trials: DataFrame) -> str:
        """The column that it shows of these trials, whose task may have another primary metric than accuracy."""
        from prunesweep.orchestrator.results.primary import USUAL, primary

        return self.metric.replace(USUAL, primary(trials)) if self.metric.endswith(f"_{USUAL}") else self.metric

    @property
    def is_of_any_metric(self) -> bool:
        """Whether another metric makes the same figure of something else; some kinds are about their own metric."""
        return self.metric == ACCURACY

    @property
    def make(self) -> Callable[[Frames, Query], Chart]:
        """The function that makes it; loads pandas."""
        file, _, name = self.maker.partition(":")
        maker: Callable[[Frames, Query], Chart] = getattr(import_module(f"{__package__}.{file}"), name)
        return maker


KINDS: Mapping[str, Kind] = {
    "sparsity": Kind(
        "tradeoffs:sparsity",
        "over sparsity",
        "the metric over target sparsity, on an axis of the logarithm of density; for a single sparsity, rows of dots. "
        "This is the usual kind",
    ),
    "compression": Kind(
        "tradeoffs:compression",
        "over the compression reached",
        "the metric over the mean compression ratio that was reached",
    ),
    "budget": Kind(
        "budgets:budget",
        "over the retraining budget",
        "the metric over the epochs of retraining, a panel for each sparsity; methods that do not retrain are points "
        "at 0",
    ),
    "speedup": Kind(
        "tradeoffs:speedup",
        "over theoretical speedup",
        "the metric at the mean theoretical speedup; a dashed line joins the means that no other beats in both",
    ),
    "training": Kind(
        "tradeoffs:training",
        "over the cost of training",
        "the metric at the mean training FLOPs, as a multiple of dense training; a dashed line joins the means that no "
        "other beats in both",
    ),
    "throughput": Kind(
        "throughput:throughput",
        "training throughput",
        "training images per second, a bar for each method, or for what `--by` names, on each device",
        "train_images_per_second",
        {"best_by": "its bars are over all trials"},
    ),
    "layers": Kind(
        "layers:layers",
        "density of the layers",
        "the density of each layer in the order of the network, a panel for each sparsity",
        "density",
    ),
    "curves": Kind(
        "curves:curves",
        "learning curves",
        "the primary metric on validation images over the epochs of a trial's path, prunes marked, above the learning "
        "rate",
        "validation_accuracy",
    ),
    "tuning": Kind(
        "searches:tuning",
        "over the settings searched",
        "what the candidates of searches were chosen by over each setting, a colour for each method",
        "validation_accuracy",
        {"best_by": "it shows candidates", "by": "it shows candidates"},
        of_searches=True,
    ),
    "rungs": Kind(
        "searches:rungs",
        "at the rungs of halving",
        "the candidates of a search by halving at each rung, those that were trained on joined by a line",
        "validation_accuracy",
        {"best_by": "it shows candidates", "by": "it shows candidates"},
        of_searches=True,
    ),
    "tries": Kind(
        "searches:tries",
        "best to expect for the tuning",
        "the best that is to be expected after so many candidates, a curve for each method: which is better with the "
        "tuning that one can afford (Dodge et al. 2019)",
        "validation_accuracy",
        {"best_by": "it shows candidates", "by": "it shows candidates"},
        of_searches=True,
    ),
    "schedules": Kind(
        "schedules:schedules",
        "best schedule",
        "the retraining schedule with the best mean for each sparsity and budget, and those not shown to be worse",
        without={"best_by": "schedules compete by --metric", "by": "its cells are fixed"},
    ),
}


def make_chart(kind: str, frames: Frames, query: Query, metric: str | None = None) -> Chart:
    """The figure of a kind, of the kind's own metric unless one is given; the query's metric is not used.

    Raises `UserError` for an unknown kind, an option that has no meaning for it, and where there is nothing to draw.
    """
    if kind not in KINDS:
        raise UserError(unknown("kind of plot", kind, KINDS))
    for option, reason in KINDS[kind].without.items():
        if getattr(query, option):
            raise UserError(f"--{option.replace('_', '-')} does not go with --kind {kind}: {reason}")
    return KINDS[kind].make(frames, replace(query, metric=metric or KINDS[kind].own_metric(frames.trials)))
