"""What training a stage costs, by the accounting of the papers, from its result and its curve.

A forward pass costs its multiply-adds, without those of pruned weights; a backward pass computes the gradients of the
activations and those of the weights, each for the price of a forward pass. Which of these are sparse, and in which
epochs, each method says (`workers.methods.base.Method`). Batch normalisation, activation functions, the optimizer,
augmentation, evaluation and the recalibration of batch-norm statistics are not counted, as in the papers
(Evci et al. 2020, appendix H). No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prunesweep.workers.spec import PruneStage, Stage

if TYPE_CHECKING:
    from prunesweep.workers.methods.base import Method

FLOPS = 2
"""Floating-point operations in a multiply-add."""

TRAINING = 3
"""Forward passes that an iteration costs: one forward, and two for the gradients of activations and weights."""

CRITERION_BATCHES = 64
"""So many training batches tell what a trained weight matters."""


@dataclass(frozen=True)
class Forward:
    """Multiply-adds of a forward pass of one image: `dense`, and without pruned weights `after` each epoch, [epochs].

    `layers` are those of the network at the end, which has the sparsity `reached`.
    """

    dense: float
    after: Sequence[float]
    reached: float
    layers: Sequence[Mapping[str, Any]] = ()

    def at(self, sparsity: float) -> float:
        """At another sparsity: each layer's density is that at the end to one power for all, that gives the sparsity.

        So it is exact for the dense network, the last one, and where all layers have the same sparsity.
        """
        if sparsity <= 0 or not self.layers:
            return self.dense
        densities = [_density(layer) for layer in self.layers]
        power = _power([layer["weights"] for layer in self.layers], densities, 1 - sparsity)
        costs = (layer["multiply_adds"] for layer in self.layers)
        saved: float = sum(cost * (1 - kept**power) for cost, kept in zip(costs, densities, strict=True))
        return self.dense - saved

    def before(self, start: float) -> list[float]:
        """In each epoch as it was before it, where masks change at the ends of epochs; `start` before the first."""
        return [start, *self.after[:-1]]

    def between(self, start: float) -> list[float]:
        """In each epoch the mean of before and after it, where masks change throughout."""
        return [(one + other) / 2 for one, other in zip(self.before(start), self.after, strict=True)]

    def held(self) -> list[float]:
        """In each epoch as at the end, where masks have as many weights of each layer from the first iteration on."""
        return [self.after[-1]] * len(self.after)


def straight_through(dense: float, sparse: float) -> float:
    """Multiply-adds of an iteration where all weights get a gradient: forward and activations f_S, weights f_D."""
    return 2 * sparse + dense


def updating(dense: float, sparse: float, interval: int) -> float:
    """Of an iteration where masks move by dense gradients every so many (Evci et al. 2020, appendix H).

    >>> updating(100.0, 10.0, 1)
    75.0
    """
    return (TRAINING * sparse * interval + straight_through(dense, sparse)) / (interval + 1)


def multiply_adds(
    stage: Stage, method: Method, result: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]
) -> float | None:
    """Of the training in a stage, over all of its images; None where the result does not say what a pass costs.

    `method` is that of the root, `curve` has the rows of the stage's curve. Those of results of version 0.1 lack
    `nonzero_multiply_adds`, which then follow from the sparsity after each epoch as `Forward.at` says.
    """
    if not stage.epochs:  # of an evaluation the result says nothing else
        return 0.0
    metrics: Mapping[str, Any] = result["metrics"]
    dense: float | None = metrics.get("multiply_adds")
    sparse: float | None = metrics.get("nonzero_multiply_adds")
    if dense is None or sparse is None:
        return None
    layers = [layer for layer in result["layers"] if layer["weights"]]
    end = Forward(dense, [sparse], metrics.get("reached_sparsity") or 0.0, layers)
    passes = _passes(curve, end)
    images: float = result["images"] / stage.epochs
    if isinstance(stage, PruneStage):  # the first row is the network just pruned, and masks are held from there on
        return TRAINING * (images * sum(passes[:-1]) + dense * _scored(stage, images))
    forward = replace(end, after=[*passes[:-1], sparse])
    steps = sum(method.multiply_adds(dense, passed) for passed in method.forward_passes(forward))
    classes: int | None = result.get("classes")
    return images * steps + dense * method.preparation(classes or 0)


def _scored(stage: PruneStage, images: float) -> float:
    """On how many images a criterion looks at gradients; they are taken for those of a dense network."""
    if stage.criterion in ("magnitude", "random"):
        return 0.0
    return min(CRITERION_BATCHES * stage.root.train.batch_size, images)


def _power(weights: Sequence[float], densities: Sequence[float], density: float) -> float:
    """Where the layers' densities at the end, to this power, give a density over all weights; at most 8."""
    low, high, wanted = 0.0, 8.0, density * sum(weights)
    for _ in range(60):
        power = (low + high) / 2
        kept = sum(count * of_layer**power for count, of_layer in zip(weights, densities, strict=True))
        low, high = (power, high) if kept > wanted else (low, power)
    return low


def _density(layer: Mapping[str, Any]) -> float:
    """At the end; a layer that kept nothing counts as half a weight, since it had some before."""
    return float(max(layer["nonzero"] or 0, 0.5) / layer["weights"])


def _passes(curve: Sequence[Mapping[str, Any]], end: Forward) -> list[float]:
    """Of each row; those of one sparsity cost the same, and finding that out takes longest."""
    known = [row.get("nonzero_multiply_adds") for row in curve]
    sparsities = [row["sparsity"] or 0.0 for row in curve]
    lacking = {sparsity for cost, sparsity in zip(known, sparsities, strict=True) if cost is None}
    at = {sparsity: end.at(sparsity) for sparsity in lacking}
    return [at[sparsity] if cost is None else cost for cost, sparsity in zip(known, sparsities, strict=True)]
