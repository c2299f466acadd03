"""Budgeted iterative magnitude pruning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, get_args

from prunesweep.workers.allocation import Allocation, Pattern
from prunesweep.workers.errors import SpecError
from prunesweep.workers.methods import phases
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.methods.dense import Dense
from prunesweep.workers.methods.grouped import PATTERN, check_allocation, check_one_phase, pattern_level
from prunesweep.workers.spec import RetrainSpec, Stage, TrialSpec


class BIMP(Method):
    """Budgeted IMP (Zimmer et al. 2023, section 4).

    A total budget of `train.epochs` epochs T: dense training for T_0 = `pretrain_epochs` < T on a linear schedule,
    then IMP with ALLR (or LLR) over the remaining T - T_0, split over the phases, the remainder to the last.
    In ALLR the length of the dense schedule is T_0. The allocation N:M is `imp`'s, in one phase.

    Cost per step: one multiplication of the gradients with the mask, after the pretraining.
    """

    lengths = ("pretrain_epochs",)
    not_from_trained = "it trains the network itself, for pretrain_epochs; take imp, whose schedule ALLR is the same"

    pretrain_epochs: int = hyperparameter("epochs of dense training out of the budget train.epochs", ge=1)
    retrain_schedule: Literal["ALLR", "LLR"] = hyperparameter("learning-rate schedule of each retraining phase", "ALLR")
    phases: int = hyperparameter("prune-and-retrain phases; 1 is one-shot", 1, ge=1, le=100)
    allocation: Allocation | Pattern = hyperparameter(ALLOCATION + PATTERN, "global")

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """A pattern has a sparsity of its own."""
        yield pattern_level(self.allocation, sparsity), self

    def check(self, trial: TrialSpec) -> None:
        """The budget leaves at least one epoch of retraining a phase."""
        check_one_phase(self.allocation, self.phases)
        check_allocation(self.allocation, get_args(Allocation), trial.sparsity)
        rest = trial.train.epochs - self.pretrain_epochs
        shown = f"{self.phases} retraining phase{'s' * (self.phases > 1)}"
        if rest < self.phases:
            raise SpecError(
                "pretrain_epochs",
                f"{self.pretrain_epochs} of a budget of {trial.train.epochs} epochs (train.epochs) leaves "
                f"{max(rest, 0)} for {shown}; at most {trial.train.epochs - self.phases} fit",
            )
        if trial.train.warmup_epochs >= self.pretrain_epochs:
            raise SpecError(
                "pretrain_epochs",
                f"{self.pretrain_epochs} epochs are no longer than the warm-up of {trial.train.warmup_epochs} "
                "(train.warmup_epochs); pretrain longer, or warm up less",
            )

    def stage(self, trial: TrialSpec) -> Stage:
        """Dense training on a linear schedule, then the phases."""
        train = replace(
            trial.train,
            epochs=self.pretrain_epochs,
            schedule="linear",
            end_lr=0.0,
            step_epochs=None,
            milestones=None,
            gamma=None,
            power=None,
            rise=None,
        )
        root = trial.root(method=Dense().choice("dense"), sparsity=0.0, train=train)
        epochs = phases.split(trial.train.epochs - self.pretrain_epochs, self.phases)
        retrains = [RetrainSpec(length, self.retrain_schedule) for length in epochs]
        return phases.chain(root, phases.levels(trial.sparsity, self.phases), retrains, allocation=self.allocation)
