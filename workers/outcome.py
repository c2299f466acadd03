"""What a stage's result says of how good its network is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunesweep.workers.scoring import Score
from prunesweep.workers.tasks.base import Metric, Task


def measured(scores: Mapping[str, Score]) -> dict[str, float | None]:
    """The scores of the splits as metrics: `test_loss`, `test_accuracy`, `validation_accuracy` and so on."""
    return {
        f"{split}_{name}": value
        for split, score in scores.items()
        for name, value in {**score.metrics, "loss": score.loss}.items()
    }


def by_class(task: Task, score: Score) -> dict[str, Any]:
    """What the test set says of each class, as a result holds it: nothing for tasks without classes."""
    if not score.classes:
        return {}
    counts, values = [c.images for c in score.classes], [c.value for c in score.classes]
    return {"by_class": {"metric": task.class_metric, "counts": counts, "values": values}}


def pruned(metric: Metric, before: float | None, after: float | None) -> dict[str, float | None]:
    """What a prune did to the primary metric on the test set: its value, and by which share of it it got worse."""
    instability = None
    if before and after is not None:
        instability = (before - after) / before if metric.better == "higher" else (after - before) / abs(before)
    return {f"pruned_test_{metric.name}": after, "pruning_instability": instability}


def shown(value: float | None) -> str:
    """For a line of the log."""
    return "unknown" if value is None else f"{value:.4f}"
