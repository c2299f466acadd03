"""The tasks. Adding one is a file beside this one and a line here; this file stays free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from prunesweep.workers import registry
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.registry import Entry
from prunesweep.workers.spec import Choice
from prunesweep.workers.tasks.base import Metric, Task

TASKS: dict[str, Entry] = {
    "classification": Entry("prunesweep.workers.tasks.classification:Classification"),
    "segmentation": Entry("prunesweep.workers.tasks.segmentation:Segmentation"),
    "language_modelling": Entry("prunesweep.workers.tasks.language_modelling:LanguageModelling"),
    "regression": Entry("prunesweep.workers.tasks.regression:Regression"),
}


def choose(name: str, options: Mapping[str, Any]) -> Choice:
    """A task by name with its options complete; raises `UserError` on what it does not have, or what is no task."""
    choice = registry.choose("task", TASKS, name, options)
    task_class(name)
    return choice


@cache
def task_class(name: str) -> type[Task]:
    """The class that a task's name stands for; raises `UserError` where it lacks what a task needs."""
    cls = registry.load(registry.find("task", TASKS, name).target)
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise UserError(f"{name} is no task: a class derived from prunesweep.Task is wanted")
    if not cls.metrics:
        raise UserError(
            f'task {name} has no metrics: give `metrics = (Metric("iou", "what it is", "higher"),)`, whose first is '
            "the primary one"
        )
    for metric in cls.metrics:
        _check(name, metric)
    for method in ("losses", "sums", "measured"):
        own = getattr(cls, method) is not getattr(Task, method)
        if not own and not (method == "losses" and cls.reduced is not Task.reduced):
            raise UserError(f"task {name} has no method `{method}` (docs/tasks.md says what it returns)")
    return cls


def create(choice: Choice) -> Task:
    """The task with the options of a spec."""
    return task_class(choice.name)(**choice.settings)


def metrics_of(choice: Choice) -> tuple[Metric, ...]:
    """The metrics of a task, the primary one first."""
    return task_class(choice.name).metrics


def known_primary(choice: Choice) -> Metric | None:
    """The primary metric of a task of the registry; None of another, of which nothing is imported to look at it."""
    return metrics_of(choice)[0] if choice.name in TASKS else None


def require_fitting(name: str, dataset: str, targets: str) -> None:
    """Raise `SpecError` where a dataset has other targets than the task takes."""
    wanted = task_class(name).targets
    if wanted and wanted != targets:
        fitting = [other for other in TASKS if task_class(other).targets == targets]
        advice = f"say task: {fitting[0]}" if fitting else "take a task of your own"
        raise SpecError("task", f"task {name} needs {wanted} as targets, and dataset {dataset} has {targets}: {advice}")


def _check(name: str, metric: object) -> None:
    if not isinstance(metric, Metric) or not metric.name.isidentifier() or metric.name == "loss":
        raise UserError(
            f'task {name}: {metric!r:.80} is no metric: write Metric("iou", "what it is", "higher"), with a name that '
            'is an identifier and not "loss"'
        )
    if metric.better not in ("higher", "lower"):
        raise UserError(f'task {name}: of its metric {metric.name} "{metric.better}" is better: say higher or lower')
