"""Gradual magnitude pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.workers.allocation import Allocation
from prunesweep.workers.methods import gradual
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.spec import TrialSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class GMP(Method):
    """Gradual magnitude pruning (Zhu & Gupta 2017, section 3).

    With interval I epochs there are S = floor(T / I) - 1 prunes, at the ends of epochs I, 2I, ... S I, to
    s_t = s (1 - (1 - t/S)^3). Momentum of pruned weights is zeroed and stays zero. Masks only grow; with `recover`
    pruned weights are set aside as they are, and each prune chooses among all.

    Values: the original prunes every 100 to 1,000 steps; Zimmer et al. tune the interval in epochs.
    The authors' code prunes layer by layer, counts steps, and keeps masked weights stored, as `recover` does. That of
    Zimmer et al. rounds the weights to prune at every prune anew; here exactly n - round(s_t n) stay.

    Cost per step: one multiplication of the gradients with the mask, and one selection per prune.
    """

    pruning_interval: int = hyperparameter("epochs between prunes", 2, ge=1)
    recover: bool = hyperparameter("let each prune choose among all weights, those pruned before included", False)
    allocation: Allocation = hyperparameter(ALLOCATION, "global")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.aside: Sequence[Tensor] | None = None

    def check(self, trial: TrialSpec) -> None:
        """At least one prune fits before the last interval."""
        gradual.check_interval(self.pruning_interval, trial)

    def after_epoch(self, epoch: int) -> bool:
        """Prune at the ends of epochs I, 2I, ... S I."""
        step, rest = divmod(epoch, self.pruning_interval)
        if rest or step > gradual.prunes(self.epochs, self.pruning_interval):
            return False
        self._prune(gradual.sparsity_after(epoch, self.sparsity, self.epochs, self.pruning_interval))
        return True

    def _prune(self, sparsity: float) -> None:
        from prunesweep.workers.selection import magnitude_masks

        weights = [weight.detach() for weight in self.weights.values()]
        for weight, stored in zip(weights, self.aside or [], strict=self.aside is not None):
            weight.add_(stored)
        masks = magnitude_masks(weights, sparsity, self.allocation).views
        if self.recover:
            self.aside = [weight * (1 - mask) for weight, mask in zip(weights, masks, strict=True)]
        self.hold(masks)

    def state(self) -> dict[str, Tensor]:
        """The mask, and what is set aside."""
        stored = {f"aside.{n}": t for n, t in zip(self.weights, self.aside or [], strict=self.aside is not None)}
        return {**super().state(), **stored}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Both again."""
        super().load_state(state)
        if self.recover and self.masks is not None:
            self.aside = [state[f"aside.{name}"].to(w.device) for name, w in self.weights.items()]
