"""What the trials that a run has finished came to, by method: the best and the latest, while the others train."""

from __future__ import annotations

from dataclasses import dataclass

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.run.events import Event, Finished, Progressed


@dataclass(frozen=True)
class Reached:
    """The validation accuracy of a finished trial, and the sparsity that it asked for."""

    accuracy: float
    sparsity: float

    def __str__(self) -> str:
        at = f" at {100 * self.sparsity:.4g}%" if self.sparsity else ""
        return f"{100 * self.accuracy:.1f}%{at}"


class Accuracies:
    """Hears how accurate stages are on validation images; no test images are looked at while a sweep runs.

    `best` and `latest` are of the trials that this run has finished, by method, in the order of their first one.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.now: dict[str, float] = {}
        """Of each stage that was heard of, after its last epoch so far."""
        self.best: dict[str, Reached] = {}
        self.latest: dict[str, Reached] = {}

    def hear(self, event: Event) -> None:
        """Take note of accuracies, and of trials that end."""
        match event:
            case Progressed(key, accuracy=float(accuracy)):
                self.now[key] = accuracy
            case Finished(key) if key in self.now:
                for trial in self.plan.trials_of.get(key, ()):
                    self._reached(trial.method.name, Reached(self.now[key], trial.sparsity))

    def _reached(self, method: str, reached: Reached) -> None:
        best = self.best.get(method)
        if best is None or reached.accuracy > best.accuracy:
            self.best[method] = reached
        self.latest[method] = reached
