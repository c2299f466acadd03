"""What the trials that a run has finished came to, by method: the best and the latest, while the others train."""

from __future__ import annotations

from dataclasses import dataclass

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.run.events import Event, Finished, Progressed
from prunesweep.workers.tasks import metrics_of
from prunesweep.workers.tasks.base import Metric


def shown(metric: Metric, value: float) -> str:
    """`97.5%` of a fraction, else `0.1234`."""
    return f"{100 * value:.1f}%" if metric.unit == "fraction" else f"{value:.4g}"


@dataclass(frozen=True)
class Reached:
    """The primary metric of a finished trial on validation images, and the sparsity that it asked for."""

    metric: Metric
    value: float
    sparsity: float

    def __str__(self) -> str:
        at = f" at {100 * self.sparsity:.4g}%" if self.sparsity else ""
        return f"{shown(self.metric, self.value)}{at}"

    def is_better(self, other: Reached) -> bool:
        """Whether it is, in the direction of the metric."""
        return self.value > other.value if self.metric.better == "higher" else self.value < other.value


class AllReached:
    """Hears how good stages are on validation images; no test images are looked at while a sweep runs.

    `best` and `latest` are of the trials that this run has finished, by method, in the order of their first one.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.metric = metrics_of(plan.sweep.exemplars[0].task)[0]
        self.now: dict[str, float] = {}
        """Of each stage that was heard of, after its last epoch so far."""
        self.best: dict[str, Reached] = {}
        self.latest: dict[str, Reached] = {}

    def hear(self, event: Event) -> None:
        """Take note of metrics, and of trials that end."""
        match event:
            case Progressed(key, metric=float(value)):
                self.now[key] = value
            case Finished(key) if key in self.now:
                for trial in self.plan.trials_of.get(key, ()):
                    self._reached(trial.method.name, Reached(self.metric, self.now[key], trial.sparsity))

    def _reached(self, method: str, reached: Reached) -> None:
        best = self.best.get(method)
        if best is None or reached.is_better(best):
            self.best[method] = reached
        self.latest[method] = reached
