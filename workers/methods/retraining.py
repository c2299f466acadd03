"""Prune-and-retrain phases after a dense training: what IMP and random pruning share."""

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

RetrainSchedule = Literal["FT", "LRW", "SLR", "CLR", "LLR", "ALLR", "constant", "stepped", "cosine", "linear"]


class Retraining(Method):
    """A dense training, and phases of a prune and a retraining; `criterion` is what each prune goes by."""

    criterion = "magnitude"
    prunes_trained = True

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
    allocation: Allocation | Pattern = hyperparameter(ALLOCATION + PATTERN, "global")
    rewind_epoch: int | None = hyperparameter(
        "epoch of the dense training that each phase goes back to and repeats from, instead of retraining",
        None,
        later=True,
        ge=0,
    )

    def check(self, trial: TrialSpec) -> None:
        """Budgets, schedule and phases fit together and to the dense schedule."""
        check_one_phase(self.allocation, self.phases, self.phase_fraction)
        check_allocation(self.allocation, get_args(Allocation), trial.sparsity)
        if self.rewind_epoch is not None:
            self._check_rewind(self.rewind_epoch, trial)
            return
        if (self.retrain_epochs is None) == (self.phase_epochs is None):
            raise SpecError(
                "retrain_epochs", "give either retrain_epochs (over all phases) or phase_epochs (in each phase)"
            )
        if self.phase_fraction is not None and self.phase_epochs is None:
            raise SpecError("phase_fraction", "every phase is a result of its own; give phase_epochs with it")
        if self.retrain_epochs is not None and self.retrain_epochs < self.phases:
            raise SpecError("retrain_epochs", f"{self.retrain_epochs} epochs cannot serve {self.phases} phases")
        phases.check_schedule(self.retrain_schedule, self.retrain_lr, self.retrain_warmup)
        phases.check_described(self.retrain_schedule, trial)
        phases.check_rewind(self.retrain_schedule, max(self._epochs(trial)), trial.train.epochs)

    def _check_rewind(self, epoch: int, trial: TrialSpec) -> None:
        if trial.init is not None:
            raise SpecError(
                "rewind_epoch",
                "there is no earlier state of the network that init gives; leave it out, and rewind the learning rate "
                "alone with retrain_schedule: LRW",
            )
        total = trial.train.epochs
        if epoch >= total:
            raise SpecError("rewind_epoch", f"{epoch} is not before the end of {total} epochs (train.epochs)")
        for name in ("retrain_epochs", "phase_epochs"):
            if getattr(self, name) is not None:
                raise SpecError(
                    name,
                    f"with rewind_epoch {epoch} each phase trains the {total - epoch} epochs left of {total}; "
                    f"leave {name} out",
                )
        if self.retrain_schedule != "LRW":
            raise SpecError(
                "retrain_schedule",
                f"with rewind_epoch the dense schedule goes on from that epoch, which is LRW, not "
                f"{self.retrain_schedule}; give retrain_schedule: LRW",
            )
        phases.check_schedule(self.retrain_schedule, self.retrain_lr, self.retrain_warmup)

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """With `phase_fraction` a trial for every phase, each the continuation of the one before."""
        check_one_phase(self.allocation, self.phases, self.phase_fraction)
        if self.phase_fraction is None:
            yield pattern_level(self.allocation, sparsity), self
            return
        for phase in range(1, self.phases + 1):
            yield phases.level(self.phase_fraction, phase), replace(self, phases=phase)

    def stage(self, trial: TrialSpec) -> Stage:
        """Dense training, then the phases."""
        if self.phase_fraction is None:
            sparsities = phases.levels(trial.sparsity, self.phases)
        else:
            sparsities = [phases.level(self.phase_fraction, i) for i in range(1, self.phases + 1)]
        root = trial.root(method=Dense().choice("dense"), sparsity=0.0)
        retrains = [
            RetrainSpec(epochs, self.retrain_schedule, self.retrain_lr, self.retrain_warmup)
            for epochs in self._epochs(trial)
        ]
        return phases.chain(
            root,
            sparsities,
            retrains,
            criterion=self.criterion,
            allocation=self.allocation,
            rewind_epoch=self.rewind_epoch,
        )

    def _epochs(self, trial: TrialSpec) -> list[int]:
        if self.rewind_epoch is not None:
            return [trial.train.epochs - self.rewind_epoch] * self.phases
        if self.phase_epochs is not None:
            return [self.phase_epochs] * self.phases
        assert self.retrain_epochs is not None
        return phases.split(self.retrain_epochs, self.phases)
