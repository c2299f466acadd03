"""Iterative magnitude pruning."""

from __future__ import annotations

from typing import Literal

from prunesweep.workers.errors import SpecError
from prunesweep.workers.methods.base import hyperparameter
from prunesweep.workers.methods.retraining import Retraining
from prunesweep.workers.patterns import is_pattern
from prunesweep.workers.spec import CLASSIFICATION, TrialSpec


class IMP(Retraining):
    """Iterative magnitude pruning (Han et al. 2015; retraining: Zimmer et al. 2023, section 3).

    Each phase prunes the fraction q = 1 - (1 - s)^(1/P) of the weights still alive, globally by magnitude, then
    retrains with the mask held: pruned weights, their gradients and their momentum stay zero. One optimizer serves all
    phases and starts with no momentum. With `phase_fraction` q is given, and every phase's level is a trial.
    With `rewind_epoch` k a phase is a lottery ticket (Frankle et al. 2020, section 3; Renda et al. 2020): what is kept,
    biases, normalisation parameters and running statistics go back to the values of epoch k of the dense training (0:
    the random start, Frankle & Carbin 2019), and its epochs k to T follow, with their learning rates and data.
    Momentum begins at zero.
    By `criterion` not the smallest |w| go, but the lowest scores over 64 training batches (at most an epoch), in
    training mode, with gradients g of each batch: `fisher` w^2 mean(g^2), the diagonal of the empirical Fisher matrix,
    or `movement` -w mean(g), the one-shot form of Sanh et al. 2020, section 3.
    The allocation N:M, such as 2:4, keeps the N largest |w| of every M along the input dimension, in a single phase;
    layers whose input dimension M does not divide stay dense. The sparsity is then 1 - N/M.
    The authors' code prunes by comparing with a threshold, which keeps one weight too many; here exactly
    n - round(s n) are kept.

    Cost per step: one multiplication of the gradients with the mask.
    """

    criterion: Literal["magnitude", "fisher", "movement"] = hyperparameter(
        "what weights are ranked by: their magnitude, their Fisher information, or whether they move away from zero",
        "magnitude",
        later=True,
    )

    def check(self, trial: TrialSpec) -> None:
        """LAMP's scores are magnitudes, as is what patterns go by, and gradients are those of the cross-entropy."""
        super().check(trial)
        if is_pattern(self.allocation) and self.criterion != "magnitude":
            raise SpecError(
                "allocation",
                f"{self.allocation} keeps the largest of each group; leave out criterion: {self.criterion}",
            )
        if self.criterion != "magnitude" and trial.task != CLASSIFICATION:
            raise SpecError("criterion", f"{self.criterion} takes the gradients of classification; take magnitude")
        if self.allocation == "lamp" and self.criterion != "magnitude":
            raise SpecError(
                "allocation", f"lamp ranks by magnitude; criterion {self.criterion} takes global, uniform or erk"
            )
