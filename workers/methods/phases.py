"""Prune-and-retrain phases: the arithmetic that IMP, BIMP and random pruning share."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.errors import SpecError
from prunesweep.workers.init.asked import UNSAID
from prunesweep.workers.schedules import DESCRIBES, RETRAINING, TUNABLE
from prunesweep.workers.spec import PruneStage, RetrainSpec, Stage, TrainStage, TrialSpec

DIGITS = 10
"""Sparsities are rounded to this many decimals, so that equal levels reached by different formulas are one stage."""


def level(fraction: float, phase: int) -> float:
    """Cumulative sparsity after `phase` phases that each prune `fraction` of the weights still alive."""
    return round(1.0 - (1.0 - fraction) ** phase, DIGITS)


def levels(sparsity: float, phases: int) -> list[float]:
    """Cumulative sparsity after each of `phases` equal phases that end at `sparsity` (docs/methods.md, IMP)."""
    steps = [round(1.0 - (1.0 - sparsity) ** (i / phases), DIGITS) for i in range(1, phases)]
    return [*steps, sparsity]


def split(total: int, phases: int) -> list[int]:
    """A total of epochs over the phases, the remainder to the last."""
    share, rest = divmod(total, phases)
    return [share] * (phases - 1) + [share + rest]


def chain(
    root: TrainStage,
    sparsities: Sequence[float],
    retrains: Sequence[RetrainSpec],
    *,
    criterion: str = "magnitude",
    allocation: str = "global",
    rewind_epoch: int | None = None,
) -> Stage:
    """The last stage of a path of prune-and-retrain phases that starts from `root`."""
    stage: TrainStage | PruneStage = root
    for sparsity, retrain in zip(sparsities, retrains, strict=True):
        stage = PruneStage(stage, sparsity, retrain, criterion, allocation, rewind_epoch)
    return stage


def sparsified(trial: TrialSpec) -> Stage:
    """A training with a method that finds a sparsity of its own, then a prune by magnitude of what the target lacks.

    The target is no part of the training, so that all targets share it. A network that is sparser stays as it is.
    """
    return PruneStage(trial.root(sparsity=0.0), trial.sparsity)


def check_schedule(schedule: str, lr: float | None, warmup: float | None) -> None:
    """Raise `SpecError` unless the schedule is known and has exactly the settings that it takes."""
    if schedule in TUNABLE and lr is None:
        raise SpecError("retrain_lr", f"retrain_schedule {schedule} needs retrain_lr, its initial learning rate")
    for field, value in (("retrain_lr", lr), ("retrain_warmup", warmup)):
        if schedule in RETRAINING and value is not None:
            raise SpecError(
                field,
                f"retrain_schedule {schedule} takes its learning rates from the dense schedule; "
                f"{field} belongs to {', '.join(TUNABLE)}",
            )


def check_described(schedule: str, trial: TrialSpec) -> None:
    """Raise `SpecError` when weights are given, and not what the schedule needs to know of their training."""
    lacking = [name for name in DESCRIBES.get(schedule, ()) if getattr(trial.train, name) == UNSAID[name]]
    if trial.init is not None and lacking:
        raise SpecError(
            "retrain_schedule",
            f"{schedule} takes its learning rates from the training that the network comes from: add "
            f"train: {{{', '.join(f'{name}: ...' for name in lacking)}}} as {'they were' if lacking[1:] else 'it was'} "
            f"there, or take one of {', '.join(TUNABLE)} with retrain_lr",
        )


def check_rewind(schedule: str, longest: int, dense_epochs: int) -> None:
    """Raise `SpecError` when LRW would rewind past the start of the dense schedule."""
    if schedule == "LRW" and longest > dense_epochs:
        raise SpecError(
            "retrain_schedule",
            f"LRW rewinds {longest} epochs, but the dense schedule has only {dense_epochs}; "
            f"retrain at most {dense_epochs} epochs a phase, or use another schedule",
        )
