"""Random pruning, the control."""

from __future__ import annotations

from prunesweep.workers.errors import SpecError
from prunesweep.workers.methods.retraining import Retraining
from prunesweep.workers.spec import TrialSpec


class RandomPruning(Retraining):
    """Random pruning with IMP's machinery: the control that a fair comparison needs (Blalock et al. 2020).

    The weights to prune are drawn uniformly from those still alive, by the trial's seed; everything else is IMP's. With
    the allocation N:M they are drawn in each group of M.

    Cost per step: one multiplication of the gradients with the mask.
    """

    criterion = "random"

    def check(self, trial: TrialSpec) -> None:
        """LAMP's scores are magnitudes, which play no part here."""
        super().check(trial)
        if self.allocation == "lamp":
            raise SpecError("allocation", "lamp ranks by magnitude; random pruning takes global, uniform or erk")
