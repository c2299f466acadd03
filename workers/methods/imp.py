"""Iterative magnitude pruning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from prunesweep.workers.allocation import Allocation
from prunesweep.workers.errors import SpecError, nearest
from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.methods.retraining import Retraining
from prunesweep.workers.patterns import is_pattern, parsed
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

    allocation: Allocation | str = hyperparameter(  # type: ignore[assignment]  # wider than what random pruning takes
        f"{ALLOCATION}; or a pattern N:M, such as 2:4", "global"
    )

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """A pattern has a sparsity of its own."""
        if not is_pattern(self.allocation):
            yield from super().levels(sparsity)
            return
        self._check_pattern()
        yield self._pattern_sparsity(), self

    def _pattern_sparsity(self) -> float:
        n, m = parsed(self.allocation)
        return round(1 - n / m, phases.DIGITS)

    def _check_pattern(self) -> None:
        try:
            parsed(self.allocation)
        except ValueError as error:
            raise SpecError("allocation", str(error)) from error
        if self.phases > 1 or self.phase_fraction is not None or self.criterion != "magnitude":
            raise SpecError(
                "allocation", f"{self.allocation} is reached in one phase, by magnitude; leave the rest out"
            )

    def check(self, trial: TrialSpec) -> None:
        """LAMP's scores are magnitudes, and gradients are those of the cross-entropy."""
        super().check(trial)
        names = get_args(Allocation)
        if is_pattern(self.allocation):
            self._check_pattern()
            if trial.sparsity != self._pattern_sparsity():
                raise SpecError(
                    "sparsity", f"{self.allocation} is {self._pattern_sparsity():g}, not {trial.sparsity:g}"
                )
        elif self.allocation not in names:
            closest = nearest(self.allocation, names)
            raise SpecError(
                "allocation",
                f'"{self.allocation}" is not allowed: one of {", ".join(names)}, or a pattern such as 2:4{closest}',
            )
        if self.criterion != "magnitude" and trial.task != CLASSIFICATION:
            raise SpecError("criterion", f"{self.criterion} takes the gradients of classification; take magnitude")
        if self.allocation == "lamp" and self.criterion != "magnitude":
            raise SpecError(
                "allocation", f"lamp ranks by magnitude; criterion {self.criterion} takes global, uniform or erk"
            )
