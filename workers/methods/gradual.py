"""The gradual schedule of sparsity that GMP and DPF share (Zhu & Gupta 2017, section 3)."""

from __future__ import annotations

from prunesweep.workers.errors import SpecError
from prunesweep.workers.schedules import cubic_sparsity
from prunesweep.workers.spec import TrialSpec


def check_interval(interval: int, trial: TrialSpec) -> None:
    """Raise `SpecError` unless at least one prune fits before the last interval."""
    epochs = trial.train.epochs
    if 2 * interval > epochs:
        remedy = f"at most {epochs // 2} does" if epochs > 1 else "train for at least 2, with a pruning_interval of 1"
        raise SpecError(
            "pruning_interval",
            f"an interval of {interval} epochs does not fit twice into the {epochs} "
            f"{'epochs' if epochs > 1 else 'epoch'} of training; {remedy}",
        )


def prunes(epochs: int, interval: int) -> int:
    """How often sparsity grows: S = floor(T / I) - 1 times, at the ends of epochs I, 2I, ... S I."""
    return epochs // interval - 1


def sparsity_after(epoch: int, final: float, epochs: int, interval: int) -> float:
    """The sparsity asked for once `epoch` epochs are over."""
    steps = prunes(epochs, interval)
    return cubic_sparsity(final, min(epoch // interval, steps), steps)
