"""Iterative magnitude pruning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from prunesweep.workers.allocation import Allocation
from prunesweep.workers.errors import SpecError
from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.methods.dense import Dense
from prunesweep.workers.spec import RetrainSpec, Stage, TrainStage, TrialSpec

RetrainSchedule = Literal["FT", "LRW", "SLR", "CLR", "LLR", "ALLR", "constant", "stepped", "cosine", "linear"]


class IMP(Method):
    """Iterative magnitude pruning (Han et al. 2015; retraining: Zimmer et al. 2023, section 3).

    Each phase prunes the fraction q = 1 - (1 - s)^(1/P) of the weights still alive, globally by magnitude, then
    retrains with the mask held: pruned weights, their gradients and their momentum stay zero. One optimizer serves all
    phases and starts with no momentum. With `phase_fraction` q is given, and every phase's level is a trial.
    The authors' code prunes by comparing with a threshold, which keeps one weight too many; here exactly
    n - round(s n) are kept.

    Cost per step: one multiplication of the gradients with the mask.
    """

    criterion: ClassVar[str] = "magnitude"

    retrain_epochs: int | None = hyperparameter("epochs of retraining, over all phases together", None, ge=1)
    phase_epochs: int | None = hyperparameter(
        "epochs of retraining in each phase, instead of retrain_epochs", None, ge=1
    )
    retrain_schedule: RetrainSchedule = hyperparameter("learning-rate schedule of each retraining phase", "ALLR")
    retrain_lr: float | None = hyperparameter("initial learning rate of a tunable schedule", None, gt=0)
    retrain_warmup: float | None = hyperparameter(
        "warm-up of a tunable schedule, a fraction of the phase (default 0.1)", None, ge=0, lt=1
    )
    phases: int = hyperparameter("prune-and-retrain phases; 1 is one-shot", 1, ge=1, le=100)
    phase_fraction: float | None = hyperparameter(
        "fraction of the living weights that each phase prunes, instead of a sparsity", None, gt=0, lt=1
    )
    allocation: Allocation = hyperparameter(ALLOCATION, "global")

    def check(self, trial: TrialSpec) -> None:
        """Budgets, schedule and phases fit together and to the dense schedule."""
        if (self.retrain_epochs is None) == (self.phase_epochs is None):
            raise SpecError(
                "retrain_epochs", "give either retrain_epochs (over all phases) or phase_epochs (in each phase)"
            )
        if self.phase_fraction is not None and self.phase_epochs is None:
            raise SpecError("phase_fraction", "every phase is a result of its own; give phase_epochs with it")
        if self.retrain_epochs is not None and self.retrain_epochs < self.phases:
            raise SpecError("retrain_epochs", f"{self.retrain_epochs} epochs cannot serve {self.phases} phases")
        phases.check_schedule(self.retrain_schedule, self.retrain_lr, self.retrain_warmup)
        phases.check_rewind(self.retrain_schedule, max(self._epochs()), trial.train.epochs)

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """With `phase_fraction` a trial for every phase, each the continuation of the one before."""
        if self.phase_fraction is None:
            yield sparsity, self
            return
        for phase in range(1, self.phases + 1):
            yield phases.level(self.phase_fraction, phase), replace(self, phases=phase)

    def stage(self, trial: TrialSpec) -> Stage:
        """Dense training, then the phases."""
        if self.phase_fraction is None:
            sparsities = phases.levels(trial.sparsity, self.phases)
        else:
            sparsities = [phases.level(self.phase_fraction, i) for i in range(1, self.phases + 1)]
        root = TrainStage(trial.dataset, trial.model, Dense().choice("dense"), trial.seed, 0.0, trial.train)
        retrains = [
            RetrainSpec(epochs, self.retrain_schedule, self.retrain_lr, self.retrain_warmup)
            for epochs in self._epochs()
        ]
        return phases.chain(root, sparsities, retrains, criterion=self.criterion, allocation=self.allocation)

    def _epochs(self) -> list[int]:
        if self.phase_epochs is not None:
            return [self.phase_epochs] * self.phases
        assert self.retrain_epochs is not None
        return phases.split(self.retrain_epochs, self.phases)
