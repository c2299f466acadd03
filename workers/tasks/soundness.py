"""Whether a task and a network's outputs fit together, asked with one batch before anything is trained."""

from __future__ import annotations

import logging

from torch import Tensor

from prunesweep.workers.errors import UserError
from prunesweep.workers.tasks.base import Task

log = logging.getLogger("prunesweep")


def require_sound(task: Task, model: str, outputs: Tensor, targets: Tensor, classes: int) -> None:
    """Raise `UserError` where the loss is not one per image, sums are no tensors, or a metric is missing.

    What tasks of the registry have against outputs is said of the model, by its name.
    """
    if problem := task.problem(outputs, targets, classes):
        raise UserError(f"model {model} {problem}")
    if task.targets == "classes" and outputs.shape[1] > classes:
        log.info(
            "model %s gives %d logits for %d classes; the others are never right", model, outputs.shape[1], classes
        )
    if type(task).reduced is Task.reduced:
        _require_one_each(task, outputs, targets)
    _require_sums(task, outputs.detach(), targets)


def _require_one_each(task: Task, outputs: Tensor, targets: Tensor) -> None:
    losses = task.losses(outputs, targets)
    shown = list(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
    if shown != [len(targets)]:
        raise UserError(
            f"task {_name(task)}: `losses` gives {shown} for {len(targets)} images: it should give one loss for each, "
            "whose mean is the batch's, such as losses.flatten(1).mean(1)"
        )


def _require_sums(task: Task, outputs: Tensor, targets: Tensor) -> None:
    for name in ("running", "sums"):
        sums = getattr(task, name)(outputs, targets)
        if not isinstance(sums, dict) or not all(isinstance(value, Tensor) for value in sums.values()):
            raise UserError(f"task {_name(task)}: `{name}` should give a dict of tensors that can be added up")
        _require_same_shapes(task, name, sums, getattr(task, name)(outputs[:1], targets[:1]))
        wanted = [task.primary.name] if name == "running" else [metric.name for metric in task.metrics]
        made = task.measured({key: value.double().cpu() for key, value in sums.items()}, len(targets))
        if missing := [metric for metric in wanted if metric not in made]:
            raise UserError(f"task {_name(task)}: `measured` gives no {missing[0]}, which is one of its metrics")


def _require_same_shapes(task: Task, name: str, whole: dict[str, Tensor], one: dict[str, Tensor]) -> None:
    for key, value in whole.items():
        if key not in one or one[key].shape != value.shape:
            raise UserError(
                f"task {_name(task)}: its sum {key} has shape {list(value.shape)} for {name} of one batch and another "
                "for another batch; sums are added up over batches, and need one shape"
            )


def _name(task: Task) -> str:
    return type(task).__name__
