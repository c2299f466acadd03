"""Gradual magnitude pruning."""

from __future__ import annotations

from dataclasses import dataclass

from workers.errors import SpecError
from workers.methods.base import Method, hyperparameter
from workers.schedules import cubic_sparsity
from workers.spec import TrialSpec


@dataclass(kw_only=True)
class GMP(Method):
    """Gradual magnitude pruning (Zhu & Gupta 2017, section 3).

    With interval I epochs there are S = floor(T / I) - 1 prunes, at the ends of epochs I, 2I, ... S*I, to
    s_t = s (1 - (1 - t/S)^3), globally by magnitude. Masks only grow; momentum of pruned weights is zeroed and stays
    zero. The original prunes layer by layer and counts steps instead of epochs.

    Cost per step: one multiplication of the gradients with the mask, and one global selection per prune.
    """

    pruning_interval: int = hyperparameter("epochs between prunes", 2, ge=1)

    def check(self, trial: TrialSpec) -> None:
        """At least one prune fits before the last interval."""
        if 2 * self.pruning_interval > trial.train.epochs:
            raise SpecError(
                "pruning_interval",
                f"an interval of {self.pruning_interval} epochs does not fit twice into the {trial.train.epochs} "
                f"epochs of training; at most {trial.train.epochs // 2} does",
            )

    def after_epoch(self, epoch: int) -> bool:
        """Prune at the ends of epochs I, 2I, ... S*I."""
        from workers.selection import magnitude_masks

        prunes = self.epochs // self.pruning_interval - 1
        step, rest = divmod(epoch, self.pruning_interval)
        if rest or step > prunes:
            return False
        self.hold(magnitude_masks(list(self.weights.values()), cubic_sparsity(self.sparsity, step, prunes)))
        return True
