"""Gradual magnitude pruning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prunesweep.workers.allocation import Allocation, Pattern
from prunesweep.workers.errors import SpecError
from prunesweep.workers.methods import gradual
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.methods.grouped import PATTERN, check_allocation, pattern_level
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.patterns import require_divided
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrialSpec


class GMP(Method):
    """Gradual magnitude pruning (Zhu & Gupta 2017, section 3).

    With interval I epochs there are S = floor(T / I) - 1 prunes, at the ends of epochs I, 2I, ... S I, to
    s_t = s (1 - (1 - t/S)^3). Momentum of pruned weights is zeroed and stays zero. Masks only grow; with `recover`
    pruned weights are set aside as they are, and each prune chooses among all. With the allocation N:M each group of M
    keeps M - round(s_t M), which ends at N.

    Values: the original prunes every 100 to 1,000 steps; Zimmer et al. tune the interval in epochs.
    The authors' code prunes layer by layer, counts steps, and keeps masked weights stored, as `recover` does. That of
    Zimmer et al. rounds the weights to prune at every prune anew; here exactly n - round(s_t n) stay.

    Cost per step: one multiplication of the gradients with the mask, and one selection per prune.
    """

    pruning_interval: int = hyperparameter("epochs between prunes", 2, ge=1)
    recover: bool = hyperparameter("let each prune choose among all weights, those pruned before included", False)
    allocation: Allocation | Pattern = hyperparameter(ALLOCATION + PATTERN, "global")

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """A pattern has a sparsity of its own."""
        yield pattern_level(self.allocation, sparsity), self

    def check(self, trial: TrialSpec) -> None:
        """At least one prune fits before the last interval, two where the second is to bring weights back."""
        check_allocation(self.allocation, get_args(Allocation), trial.sparsity)
        gradual.check_interval(self.pruning_interval, trial)
        epochs = trial.train.epochs
        if self.recover and gradual.prunes(epochs, self.pruning_interval) < 2:
            shorter = f"take a pruning_interval of at most {epochs // 3}, or " if epochs > 2 else ""
            raise SpecError(
                "recover",
                f"an interval of {self.pruning_interval} epochs allows one prune in {epochs}, and none before it whose "
                f"weights could come back; {shorter}leave it out",
            )


class GMPPruner(Pruner, method=GMP):
    """What GMP does; the weights set aside are `saved`."""

    method: GMP

    def __init__(self, method: GMP, setup: Setup) -> None:
        super().__init__(method, setup)
        require_divided(self.names, self.weights, method.allocation)

    def after_epoch(self, epoch: int) -> bool:
        """Prune at the ends of epochs I, 2I, ... S I."""
        step, rest = divmod(epoch, self.method.pruning_interval)
        if rest or step > gradual.prunes(self.epochs, self.method.pruning_interval):
            return False
        self._prune(gradual.sparsity_after(epoch, self.sparsity, self.epochs, self.method.pruning_interval))
        return True

    def _prune(self, sparsity: float) -> None:
        weights = [weight.detach() for weight in self.weights]
        if "aside" in self.saved:
            for weight, aside in zip(weights, self.saved["aside"], strict=True):
                weight.add_(aside)
        masks = magnitude_masks(weights, sparsity, self.method.allocation)
        if self.method.recover:
            self.saved["aside"] = [weight * (1 - mask) for weight, mask in zip(weights, masks.views, strict=True)]
        self.hold(masks)
